"""Auxiliary targets on the page and on the card."""

import report_example as example
from report_page import Page

from rsna_jax import auxiliary
from rsna_jax.report import auxiliary_table, card
from rsna_jax.report import html as report

AUXILIARY = {
  'density': {'n': 1082, 'accuracy': 0.4146, 'commonest': 0.5487},
  'biopsy': {'n': 178, 'positives': 32, 'roc_auc': 0.6413},
  'benign': {'n': 0, 'positives': 0, 'roc_auc': None},
  'age': {
    'n': 174,
    'mean_absolute_error': 10.62,
    'mean_absolute_deviation': 8.29,
  },
}


def test_page_and_card_name_each_target_with_its_figure(tmp_path):
  made = example.evaluation()
  made['metrics'] = made['metrics'] | {'auxiliary': AUXILIARY}
  path = tmp_path / 'report.html'
  report.write_report(path, **made)
  words = Page(path.read_text(encoding='utf-8')).words
  text = card.text('a run', made['run'], made['metrics'])
  for row in (
    ('Density', '1,082', 'Accuracy', '0.415', '0.549 by the commonest class'),
    ('Biopsy', '178', 'ROC AUC', '0.641', '0.5 by chance; 32 positive'),
    ('Benign biopsy', '0', 'ROC AUC', '–', '0.5 by chance; 0 positive'),
    ('Age', '174', 'Mean error, years', '10.6', '8.3 by the median'),
  ):
    assert ' '.join(row) in words
    assert '| ' + ' | '.join(row) + ' |' in text


def test_without_such_targets_neither_has_a_table(tmp_path):
  made = example.evaluation()
  path = tmp_path / 'report.html'
  report.write_report(path, **made)
  assert 'Auxiliary' not in Page(path.read_text(encoding='utf-8')).words
  assert 'Auxiliary' not in card.text('a run', made['run'], made['metrics'])


def test_every_target_has_a_title():
  found = {
    name: {'n': 1, 'accuracy': 1.0, 'commonest': 1.0}
    for name in auxiliary.TARGETS
  }
  rows = auxiliary_table.rows({'auxiliary': found})
  assert not {row['title'] for row in rows} & set(auxiliary.TARGETS)
