"""MODEL_CARD.md: the report in two pages, from the same numbers.

What was not computed is named, so that a short card does not look like a clean
one.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rsna_jax import files, schema
from rsna_jax.report import auxiliary_table, decision_tables, tables, texts

_PIXELS = ('size', 'bits', 'window', 'quality', 'for_processing')


def write(
  path: str | os.PathLike,
  name: str,
  run: Mapping[str, Any],
  metrics: Mapping[str, Any],
) -> None:
  """Writes the card.

  Args:
    path: of the Markdown file.
    name: of the run.
    run: as of `html.write_report`.
    metrics: the content of metrics.json.

  Raises:
    OSError: the file cannot be written.
  """
  files.write_text(path, text(name, run, metrics))


def text(name: str, run: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
  """The card as Markdown; takes what `write` takes."""
  data, config = run.get('data') or {}, run.get('config') or {}
  split = metrics['split'].replace('_', ' ')
  model = config.get('model') or {}
  parts = [
    f'# Model card: {_plain(name)}',
    f'**{schema.NOTICE}**',
    'No number here may guide the care of a patient. All figures are of the '
    f'split "{split}"'
    + (f', checkpoint of step {metrics["step"]:,}' if 'step' in metrics else '')
    + '; the same stand in report.html and metrics.json.',
    '## Intended use',
    *_bullets(f'**{title}:** {said}' for title, said in texts.USE[:2]),
    '## Out of scope',
    *_bullets(f'**{title}:** {said}' for title, said in texts.USE[2:]),
    '## Data',
    _data(data),
    '## Preprocessing',
    _pixels(config.get('data') or {}),
    '## Training',
    _training(model, config, run),
    f'## Figures ({split})',
    _figures(metrics),
    '## Calibration and threshold',
    _decision(metrics),
    '## Subgroups',
    _subgroups(metrics),
    '## Leak checks',
    _leaks(metrics),
    '## Limits',
    *_bullets(texts.limits(metrics)),
    '## Ethical notes',
    *_bullets(texts.ETHICS),
    '## Weights and environment',
    _environment(run),
  ]
  lacking = _lacking(metrics)
  if lacking:
    parts.insert(
      3, f'**Not computed in this evaluation:** {", ".join(lacking)}.'
    )
  return '\n\n'.join(part for part in parts if part) + '\n'


def _lacking(metrics: Mapping) -> list[str]:
  wanted = {
    'subgroups': 'subgroups',
    'calibration': 'calibration',
    'leaks': 'leak checks',
  }
  found = [title for key, title in wanted.items() if not metrics.get(key)]
  if not decision_tables.operating(metrics):
    found.append('an operating point')
  return found


def _data(data: Mapping) -> str:
  if not data:
    return 'Not recorded.'
  rows = [
    (
      f'**{part["title"]}**' if part['judged'] else part['title'],
      *(
        f'{part[kind]:,} ({part[f"positive {kind}"]:,})'
        for kind in ('patients', 'breasts', 'images')
      ),
    )
    for part in data['parts']
  ]
  said = [
    _table(
      ('Part (with cancer)', 'Patients', 'Breasts', 'Images'), rows, '-rrr'
    ),
    f'Split by patient; SHA-256 of it `{data["split_hash"]}`.',
  ]
  if data['name']:
    said.insert(0, f'`{data["name"]}`, fingerprint `{data["fingerprint"]}`.')
  if data['skipped']:
    said.append(f'Files or rows left out: {data["skipped"]:,}.')
  return '\n\n'.join(said)


def _pixels(config: Mapping) -> str:
  known = [(x, config[x]) for x in _PIXELS if x in config]
  if not known:
    return 'Not recorded.'
  shown = dict(tables.flat(dict(known)))
  return (
    'The breast is found, cropped, turned so that the chest is on the left, '
    'and resized; '
    + ', '.join(f'`{key}` {value}' for key, value in shown.items())
    + '. One function does it in training and in use.'
  )


def _training(model: Mapping, config: Mapping, run: Mapping) -> str:
  if not model:
    return 'Not recorded: the predictions were made elsewhere.'
  train, data = config.get('train') or {}, config.get('data') or {}
  columns = ', '.join(model.get('metadata') or ()) or 'none'
  said = (
    f'Model `{model.get("name")}` for `{data.get("target")}`, metadata '
    f'{columns}, {train.get("steps"):,} steps of {train.get("batch_size")} '
    f'images, seed {config.get("seed")}.'
  )
  rows = [
    (f'`{name}`', _plain(here), _plain(default))
    for name, (default, here) in (run.get('changes') or {}).items()
    if name != 'data.dir'
  ]
  if rows:
    said += '\n\n' + _table(('Field', 'Here', 'Default'), rows, '---')
  return said


def _figures(metrics: Mapping) -> str:
  levels = tables.levels(metrics)
  blocks = []
  if levels:
    head = ['95 % intervals by patient']
    for name in levels:
      level = metrics[name]
      head.append(
        f'{tables.LEVELS[name]} ({level["n"]:,}, {level["positives"]:,} '
        'positive)'
      )
    rows = [
      (
        title,
        *(
          tables.interval(tables.entry(metrics, level, name), digits)
          for level in levels
        ),
      )
      for name, (title, digits, _) in tables.FIGURES.items()
    ]
    blocks.append(_table(head, rows, '-' + 'r' * len(levels)))
  expected = decision_tables.expected_pf1(metrics)
  if expected:
    blocks.append(
      'Expected pF1: '
      + '; '.join(f'{x["title"].lower()} {_cell(x)}' for x in expected)
      + '.'
    )
  classes = tables.classes(metrics.get('classes'))
  if classes:
    rows = [(x['title'], _cell(x)) for x in classes['figures']]
    blocks.append(_table(('Classes, by image', 'Value'), rows, '-r'))
  besides = auxiliary_table.rows(metrics)
  if besides:
    head = (
      'Auxiliary target',
      'Images',
      'Figure',
      'Value',
      'Without a network',
    )
    rows = [
      (x['title'], f'{x["n"]:,}', x['figure'], x['value'], x['beside'])
      for x in besides
    ]
    blocks.append(_table(head, rows, '-r-r-'))
  return '\n\n'.join(blocks)


def _decision(metrics: Mapping) -> str:
  at = decision_tables.operating(metrics)
  if not at:
    note = (metrics.get('decision') or {}).get('note') or 'not computed'
    return f'None: {note}.'
  rows = [(x['title'], _cell(x['here']), x['screening']) for x in at['rows']]
  said = [
    f'Calibration `{at["calibration"]}`, rule `{at["rule"]}`, called from '
    f'{at["applied"]} on, chosen {at["chosen_on"]}.',
    _table(
      (
        'Breasts',
        f'In these data ({at["prevalence"]} with cancer)',
        f'In screening ({at["screening"]})',
      ),
      rows,
      '-rr',
    ),
    at['sentence'],
  ]
  calibration = decision_tables.calibration(metrics)
  if calibration:
    rows = [
      (x['title'], _cell(x['before']), _cell(x['after']))
      for x in calibration['rows']
    ]
    head = ('Calibration', 'Before', 'After')
    if calibration['method'] == 'none':
      rows, head = [row[:2] for row in rows], ('Calibration', 'As they come')
    said.append(_table(head, rows, '-rr'[: len(head)]))
  return '\n\n'.join(x for x in said if x)


def _subgroups(metrics: Mapping) -> str:
  groups = tables.subgroups(metrics.get('subgroups') or [])
  if not groups:
    return 'None: not computed.'
  rows = [
    (
      f'{x["column"]} {x["value"]}',
      f'{x["n"]:,}',
      f'{x["positives"]:,}',
      x['note'] or _cell(x['auc']),
      *(cell['value'] for _, cell in x['others'][:2]),
      x['warning'],
    )
    for x in groups
  ]
  head = (
    'Group',
    'Cases',
    'Positive',
    'ROC AUC',
    'Sensitivity',
    'Specificity',
    'Warning',
  )
  said = [_table(head, rows, '-rrrrr-')]
  differ = [
    f'{x["column"]} (p {x["p"]}, lowest {x["lowest"]})'
    for x in decision_tables.heterogeneity(metrics)
  ]
  if differ:
    said.append(
      'Test of whether the areas differ within a column: '
      + '; '.join(differ)
      + '.'
    )
  return '\n\n'.join(said)


def _leaks(metrics: Mapping) -> str:
  found = metrics.get('leaks')
  if not found:
    return 'Not looked for.'
  said = ' '.join(found['found']) or 'Nothing crosses the split.'
  if found['duplicates'] is None:
    said += ' Pixels were not compared: the data set has no hashes of them.'
  beside = found['metadata_only']
  if beside:
    said += '\n\nBeside a model of metadata alone: ' + tables.words(
      beside['verdict']
    )
  return said


def _environment(run: Mapping) -> str:
  rows = tables.flat(run.get('weights') or {})
  rows += tables.flat(run.get('environment') or {})
  if not rows:
    return 'Not recorded.'
  return _table(
    ('What', 'Value'), [(f'`{x}`', _plain(y)) for x, y in rows], '--'
  )


def _cell(cell: Mapping) -> str:
  return cell['value'] + (f' ({cell["range"]})' if cell['range'] else '')


def _bullets(said) -> list[str]:
  return ['\n'.join(f'- {x}' for x in said)]


def _table(head: Sequence[str], rows: Sequence[Sequence], align: str) -> str:
  lines = [head, ['---:' if x == 'r' else '---' for x in align], *rows]
  return '\n'.join(
    '| ' + ' | '.join(str(x).replace('|', '\\|') for x in line) + ' |'
    for line in lines
  )


def _plain(value) -> str:
  """Text that Markdown shows as it is."""
  found = ' '.join(str(value).split())
  for mark in '\\`*_[]<>#':
    found = found.replace(mark, '\\' + mark)
  return found
