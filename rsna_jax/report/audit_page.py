"""The page of an audit: one HTML file that needs nothing else.

It is made of the same dict as audit.json, so the two cannot disagree.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from rsna_jax import files, schema
from rsna_jax.report import contact_sheet

_LINES = 20  # of a list; audit.json has the others
_GROUPS = {
  'train_only': 'Columns that a test row lacks',
  'metadata': 'Columns that a test row has',
  'file': 'What the file and the picture are like',
}


def write(
  path: str | os.PathLike,
  audit: Mapping[str, Any],
  entries: Sequence[contact_sheet.Entry] = (),
) -> None:
  """Writes the page.

  Args:
    path: of the HTML file.
    audit: the content of audit.json.
    entries: of the contact sheets.

  Raises:
    OSError: the file cannot be written.
  """
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('rsna_jax', 'report'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters['share'] = _share
  environment.filters['auc'] = _auc
  page = environment.get_template('audit.html').render(
    audit=audit,
    disclaimer=schema.NOTICE,
    lines=_LINES,
    cards=_cards(audit),
    predictors=[
      {
        'title': title,
        'together': audit['predictors']['together'].get(group),
        'columns': _columns(audit, group),
      }
      for group, title in _GROUPS.items()
    ],
    pictures=[
      {
        'uri': 'data:image/jpeg;base64,'
        + base64.b64encode(contact_sheet.jpeg(entry)).decode('ascii'),
        'caption': entry.caption,
      }
      for entry in entries
    ],
  )
  files.write_text(path, page)


def _cards(audit: Mapping[str, Any]) -> list[dict[str, str]]:
  images = audit['images']
  cards = [
    {
      'title': 'Files',
      'value': f'{images["files"]:,}',
      'more': f'{images["read"]:,} read',
    },
    {
      'title': 'Patients',
      'value': f'{images["patients"]:,}',
      'more': f'{images["breasts"]:,} breasts',
    },
  ]
  if images['labelled']:
    share = images['positives'] / images['labelled']
    cards.append(
      {
        'title': 'Images with cancer',
        'value': f'{images["positives"]:,}',
        'more': f'{share:.1%} of {images["labelled"]:,} labelled',
      }
    )
  leaks = sum(x['level'] == 'leak' for x in audit['findings'])
  faults = sum(x['level'] == 'fault' for x in audit['findings'])
  cards.append(
    {
      'title': 'Leaks and faults',
      'value': str(leaks + faults),
      'more': f'kinds of leak {leaks}, of fault {faults}',
    }
  )
  return cards


def _columns(audit: Mapping[str, Any], group: str) -> list[dict[str, Any]]:
  """Columns of a group, and their intervals in per cent of 0.4 to 1."""
  rows = []
  for column in audit['predictors']['columns']:
    if column['group'] != group:
      continue
    auc, bar = column['auc'], None
    if auc and auc['low'] is not None:
      bar = {
        key: round(100 * min(max((auc[key] - 0.4) / 0.6, 0), 1), 2)
        for key in ('low', 'value', 'high')
      }
    rows.append(column | {'bar': bar})
  return sorted(rows, key=lambda c: -((c['auc'] or {}).get('value') or 0))


def _share(value: float | None) -> str:
  return '–' if value is None else f'{100 * value:.1f} %'


def _auc(figure: Mapping[str, float | None] | None) -> str:
  if not figure or figure['value'] is None:
    return 'too few'
  low, high = figure['low'], figure['high']
  return f'{figure["value"]:.2f} ({low:.2f} to {high:.2f})'
