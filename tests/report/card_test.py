import pytest
import report_example as example

from rsna_jax.report import card, tables

HEADS = (
  'Intended use',
  'Out of scope',
  'Data',
  'Preprocessing',
  'Training',
  'Figures (validation)',
  'Calibration and threshold',
  'Subgroups',
  'Leak checks',
  'Limits',
  'Ethical notes',
  'Weights and environment',
)


@pytest.fixture(scope='module')
def made():
  return example.evaluation()


def test_the_card_has_every_part_and_the_numbers_of_metrics_json(made):
  text = card.text('a run', made['run'], made['metrics'])
  assert [x[3:] for x in text.splitlines() if x.startswith('## ')] == list(
    HEADS
  )
  assert 'not a medical device' in text
  assert 'Not computed' not in text
  assert 'ab' * 32 in text
  for level in ('breast', 'image', 'patient'):
    for name, (_, digits, _) in tables.FIGURES.items():
      shown = tables.interval(made['metrics'][level][name], digits)
      assert shown in text
  for group in made['metrics']['subgroups']:
    if group['roc_auc']:
      assert tables.interval(group['roc_auc'], 3) in text
  for form in made['metrics']['expected_pf1'].values():
    assert tables.interval(form, 3) in text


def test_what_is_missing_is_named(made):
  metrics = {'split': 'test', 'breast': made['metrics']['breast']}
  text = card.text('a run', {}, metrics)
  assert (
    '**Not computed in this evaluation:** subgroups, calibration, leak checks, '
    'an operating point.'
  ) in text


def test_a_leak_is_said(made):
  found = made['metrics']['leaks'] | {'found': ['5 patients are on both.']}
  text = card.text('x', made['run'], made['metrics'] | {'leaks': found})
  assert '5 patients are on both.' in text
  assert 'signs of leaks' in text


def test_names_cannot_change_the_markdown(made):
  text = card.text('a](http://x)\n# b<script>|', made['run'], made['metrics'])
  assert text.splitlines()[0] == (
    '# Model card: a\\](http://x) \\# b\\<script\\>|'
  )


def test_tables_have_as_many_cells_in_every_row(made):
  for target in ('cancer', 'density', 'density_cancer'):
    other = example.evaluation(target)
    text = card.text('x', other['run'], other['metrics'])
    blocks = [x for x in text.strip().split('\n\n') if x.startswith('|')]
    assert blocks
    for block in blocks:
      assert (
        len({x.replace('\\|', '').count('|') for x in block.split('\n')}) == 1
      )
