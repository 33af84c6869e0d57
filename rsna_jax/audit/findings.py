"""The sentences at the top of an audit: what is wrong, the worst first.

They are made of the parts of audit.json, so page and JSON cannot disagree.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# A column that ranks cancer above this by itself, its interval included.
_TELLING = 0.55
_Line = tuple[str, str, int, str]  # level, code, count, text


def findings(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
  """What to look at first.

  Args:
    audit: the other parts of audit.json.

  Returns:
    {'level', 'code', 'count', 'text'} of each: 'leak' (a result would be too
    good), 'fault' (a file or a row is not right) or 'note'.
  """
  lines = [*_leaks(audit), *_faults(audit), *_notes(audit)]
  names = ('level', 'code', 'count', 'text')
  return [dict(zip(names, line, strict=True)) for line in lines if line[2]]


def _leaks(audit: Mapping[str, Any]) -> Iterator[_Line]:
  code = 'patients_in_train_and_test'
  n = audit['leaks'][code]['count']
  yield 'leak', code, n, _number(n, 'patient is', 'in train and in test')
  texts = {
    'train_and_test': 'the same pixels in train and in test',
    'across_patients': 'the same pixels under two patients',
  }
  for kind, text in texts.items():
    n = audit['duplicates'][kind]['count']
    yield (
      'leak',
      f'duplicates_{kind}',
      n,
      _number(n, 'group of images has', text),
    )
  for column in audit['predictors']['columns']:
    if column['group'] == 'train_only' and _tells(column):
      yield (
        'leak',
        f'column_{column["name"]}',
        1,
        f'{column["title"]}, which a test row lacks, alone ranks cancer at an '
        f'AUC of {column["auc"]["value"]:.2f}: never an input',
      )


def _faults(audit: Mapping[str, Any]) -> Iterator[_Line]:
  simple = (
    (audit['leaks'], 'labels_differ_within_breast',
     'breast has', 'images of different labels'),
    (audit['files_and_rows'], 'rows_without_file',
     'row names', 'a file that is not there'),
    (audit['files_and_rows'], 'files_without_row', 'file has', 'no row'),
    (audit['files_and_rows'], 'bad_cells',
     'cell of a table is', 'not to be read'),
    (audit['errors'], 'unreadable', 'file is', 'not to be read'),
    (audit['errors'], 'no_standard_image',
     'file gives', 'no standard image'),
    (audit['duplicates'], 'within_patient',
     'group of images has', 'the same pixels for one patient'),
  )  # fmt: skip
  for part, code, what, text in simple:
    n = part[code]['count']
    name = f'duplicates_{code}' if code == 'within_patient' else code
    yield 'fault', name, n, _number(n, what, text)
  for name, entry in audit['header_and_row'].items():
    n = entry['differ']['count']
    yield (
      'fault',
      f'header_{name}',
      n,
      f'{name} differs between header and row in {n:,} of '
      f'{entry["compared"]:,} files',
    )


def _notes(audit: Mapping[str, Any]) -> Iterator[_Line]:
  n = audit['images']['not_read']
  yield 'note', 'not_read', n, _number(n, 'file was', 'not read')
  for counts in audit['counts']:
    if counts['name'] == 'levels':
      n = sum(v['images'] for v in counts['values'] if v['value'] == '0')
      text = 'one JPEG 2000 level alone, which is decoded in full'
      yield 'note', 'no_levels', n, _number(n, 'file has', text)
  telling = [
    column
    for column in audit['predictors']['columns']
    if column['group'] != 'train_only' and _tells(column)
  ]
  for column in sorted(telling, key=lambda c: -c['auc']['value']):
    text = (
      'a network may take it as a shortcut'
      if column['group'] == 'file'
      else 'a test row has it, so compare with it'
    )
    yield (
      'note',
      f'column_{column["name"]}',
      1,
      f'{column["title"]} alone ranks cancer at an AUC of '
      f'{column["auc"]["value"]:.2f}: {text}',
    )


def _tells(column: Mapping[str, Any]) -> bool:
  low = (column['auc'] or {}).get('low')
  return low is not None and low > _TELLING


def _number(count: int, what: str, text: str) -> str:
  """'2 files are not read' of 2, 'file is' and 'not read'."""
  noun, _, verb = what.rpartition(' ')
  if count != 1:
    head, of, tail = noun.partition(' of ')
    noun = (head if head.endswith('s') else head + 's') + of + tail
    irregular = {'is': 'are', 'has': 'have', 'was': 'were'}
    verb = irregular.get(verb, verb.removesuffix('s'))
  return f'{count:,} {noun} {verb} {text}'
