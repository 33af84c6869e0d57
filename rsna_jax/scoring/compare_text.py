"""What a comparison says: as a Markdown table, and as rows of a CSV file."""

from collections.abc import Mapping

import numpy as np

from rsna_jax import schema

TITLES = {
  'roc_auc': 'ROC AUC',
  'average_precision': 'AP',
  'pf1': 'pF1',
  'f1': 'F1',
  'sensitivity': 'sensitivity',
  'specificity': 'specificity',
}


def text(found: Mapping) -> str:
  """The comparison as Markdown that reads well in a terminal too."""
  names = list(TITLES)
  sets = [['', *(TITLES[name] for name in names)]]
  for one in found['sets']:
    sets.append(
      [one['name'], *(_shown(one['figures'].get(name)) for name in names)]
    )
  pairs = [['difference', *(TITLES[name] for name in names)]]
  p_values = [['p', 'DeLong, AUC', *(TITLES[x] for x in names), 'McNemar']]
  for pair in found['pairs']:
    title = f'{pair["first"]} less {pair["second"]}'
    figures = pair['figures']
    pairs.append(
      [
        title,
        *(
          _shown((figures.get(name) or {}).get('difference'), sign='+')
          for name in names
        ),
      ]
    )
    mcnemar = (pair['mcnemar'] or {}).get('all')
    p_values.append(
      [
        title,
        _p(pair['delong_by_patient']),
        *(_p(figures.get(name)) for name in names),
        _p(mcnemar),
      ]
    )
  corrected = ''
  if found['correction'] == 'holm':
    corrected = f', corrected for {len(found["pairs"])} pairs (Holm)'
  lines = [
    f'{found["breasts"]:,} breasts of {found["patients"]:,} patients, '
    f'{found["positives"]:,} positive; 95 % intervals by patient',
    *([found['left_out']] if found['left_out'] else []),
    '',
    *_grid(sets),
    '',
    *_grid(pairs),
    '',
    f'p values{corrected}: DeLong by patient, bootstrap by patient, McNemar '
    'of the calls',
    '',
    *_grid(p_values),
    '',
    *(f'- {verdict}' for verdict in found['verdicts']),
    *(
      f'- {one["name"]}: no calls: {one["note"]}'
      for one in found['sets']
      if one['note']
    ),
    '',
    schema.NOTICE,
  ]
  return '\n'.join(lines)


def rows(found: Mapping) -> dict[str, np.ndarray]:
  """compare.csv: a row a figure of a set or of a pair."""
  lines = []
  for one in found['sets']:
    for name, x in one['figures'].items():
      lines.append(('set', one['name'], '', name, x, None, None))
  for pair in found['pairs']:
    tests = {'delong_by_patient': pair['delong_by_patient']}
    for name, x in pair['figures'].items():
      tests[name] = {**x['difference'], 'p': x['p'], 'p_holm': x['p_holm']}
    mcnemar = (pair['mcnemar'] or {}).get('all')
    tests['mcnemar'] = mcnemar and {**mcnemar, 'value': None}
    for name, x in tests.items():
      if x:
        lines.append(
          (
            'difference',
            pair['first'],
            pair['second'],
            name,
            x,
            x['p'],
            x['p_holm'],
          )
        )
  columns = {
    'kind': [line[0] for line in lines],
    'first': [line[1] for line in lines],
    'second': [line[2] for line in lines],
    'figure': [line[3] for line in lines],
    **{
      part: [
        '' if line[4].get(part) is None else line[4][part] for line in lines
      ]
      for part in ('value', 'low', 'high')
    },
    'p': ['' if line[5] is None else line[5] for line in lines],
    'p_holm': ['' if line[6] is None else line[6] for line in lines],
  }
  return {x: np.array(values, object) for x, values in columns.items()}


def _shown(figure: Mapping | None, sign: str = '') -> str:
  if not figure or figure['value'] is None:
    return '-'
  shown = f'{figure["value"]:{sign}.3f}'
  if figure['low'] is not None:
    shown += f' ({figure["low"]:{sign}.3f} to {figure["high"]:{sign}.3f})'
  return shown


def _p(test: Mapping | None) -> str:
  p = (test or {}).get('p_holm')
  return '-' if p is None else f'{p:.3g}'


def _grid(rows: list[list[str]]) -> list[str]:
  """A Markdown table whose columns stand below each other."""
  rows = [[cell.replace('|', '\\|') for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '| '
    + ' | '.join(x.ljust(n) for x, n in zip(row, widths, strict=True))
    + ' |'
    for row in rows
  ]
  lines.insert(1, '| ' + ' | '.join('-' * n for n in widths) + ' |')
  return lines
