"""The Kaggle submission: checked before it is written, and readable again."""

import csv
import io
import json
import os
import pathlib

import numpy as np

from rsna_jax import errors, files

HEADER = ['prediction_id', 'cancer']
# Form -> the column of breasts.csv that it submits.
FORMS = {'raw': 'cancer', 'calibrated': 'calibrated', 'thresholded': 'called'}
# The splits that choose a calibration and a threshold.
_CHOOSING = ('validation', 'out_of_fold')


class SubmissionError(errors.DataError):
  """A submission that Kaggle would refuse or score wrongly."""


def write(
  path: str | os.PathLike, prediction_ids, probabilities, expected_ids=None
) -> None:
  """Writes `prediction_id,cancer`, one row a breast, or nothing at all.

  Args:
    path: of the CSV file; replaced at once.
    prediction_ids: (N,) text.
    probabilities: (N,) float from 0 to 1.
    expected_ids: the prediction_ids of test.csv, repeats allowed; None: any.

  Raises:
    SubmissionError: duplicate, missing or unexpected ids, a NaN, or a value
      outside [0, 1]; names the first and says how many.
    OSError: the file cannot be written.
  """
  names = [str(name) for name in prediction_ids]
  values = np.asarray(probabilities, np.float64)
  _check(f'submission {path}', names, values, expected_ids)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(HEADER)
  writer.writerows(
    [name, repr(float(value))]
    for name, value in zip(names, values, strict=True)
  )
  files.write_text(path, text.getvalue())


def check_form(form: str, decision) -> None:
  """Checks that a form can be made.

  Args:
    form: a key of `FORMS`.
    decision: what the run stored (`results.decision_of`), or None.

  Raises:
    errors.ConfigError: no such form, or nothing to make it with.
  """
  if form not in FORMS:
    raise errors.ConfigError(f'form {form!r}: choose {", ".join(FORMS)}')
  if form != 'raw' and decision is None:
    raise errors.ConfigError(
      f'form {form}: the run has no calibration and threshold: run rsna-jax '
      'evaluate --workdir on its validation split, or choose raw'
    )


def expectation(workdir: str | os.PathLike) -> str:
  """One line on the pF1 that each form may expect, or the empty string.

  It is of breasts that the run has not seen, calibrated and called by a
  decision of other patients; sets with more or fewer cancers score otherwise.
  """
  found = None
  for split in _CHOOSING:
    path = pathlib.Path(workdir) / 'eval' / split / 'metrics.json'
    try:
      found = json.loads(path.read_text('utf-8')).get('expected_pf1')
      break
    except (OSError, ValueError, AttributeError):
      continue
  known = {
    form: figure
    for form, figure in (found or {}).items()
    if form in FORMS and figure and figure.get('value') is not None
  }
  if not known:
    return ''
  best = max(known, key=lambda form: known[form]['value'])
  shown = []
  for form, figure in known.items():
    text = f'{form} {figure["value"]:.3f}'
    if figure.get('low') is not None:
      text += f' ({figure["low"]:.3f} to {figure["high"]:.3f})'
    shown.append(text)
  line = (
    f'expected pF1 by the {split.replace("_", "-")} breasts: {", ".join(shown)}'
    f'; expected best: {best}'
  )
  # The interval of the best one says whether the others may be as good.
  low = known[best].get('low')
  rivals = [
    form
    for form, figure in known.items()
    if form != best and low is not None and (figure.get('high') or 0) >= low
  ]
  if rivals:
    line += f' (its interval overlaps that of {", ".join(rivals)})'
  return line


def check(path: str | os.PathLike, expected_ids=None) -> int:
  """Checks a submission file.

  Args:
    path: of the CSV file.
    expected_ids: the prediction_ids of test.csv, repeats allowed; None: any.

  Returns:
    The number of its rows.

  Raises:
    SubmissionError: no such file, not a submission, or what `write` refuses.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise SubmissionError(f'{path}: no such file; run `rsna-jax predict`')
  try:
    with open(path, encoding='utf-8-sig', newline='') as file:
      rows = list(csv.reader(file))
  except (UnicodeDecodeError, csv.Error) as error:
    raise SubmissionError(f'{path}: not a CSV file: {error}') from error
  if not rows or rows[0] != HEADER:
    found = ','.join(rows[0])[:80] if rows else 'nothing'
    raise SubmissionError(
      f'{path}: the first line is {found!r}, it has to be {",".join(HEADER)!r}'
    )
  names, values = [], []
  for number, row in enumerate(rows[1:], start=2):
    try:
      name, text = row
      value = float(text)
    except ValueError as error:
      raise SubmissionError(
        f'{path}: line {number} is {",".join(row)[:80]!r}, it has to be a '
        'prediction_id and a number'
      ) from error
    names.append(name)
    values.append(value)
  _check(str(path), names, np.asarray(values, np.float64), expected_ids)
  return len(names)


def _check(
  where: str, names: list[str], values: np.ndarray, expected_ids
) -> None:
  if values.shape != (len(names),):
    raise SubmissionError(
      f'{where}: {len(names)} prediction_ids and probabilities of shape '
      f'{values.shape}; give one probability for each'
    )

  def refuse(wrong: list[str], fault: str, remedy: str) -> None:
    if wrong:
      raise SubmissionError(
        f'{where}: prediction_id {wrong[0]!r} {fault} '
        f'({len(wrong)} in all); {remedy}'
      )

  seen, twice = set(), []
  for name in names:
    if name in seen:
      twice.append(name)
    seen.add(name)
  refuse(twice, 'occurs more than once', 'give each breast one row')
  if expected_ids is not None:
    # dict, not set: keeps the order of test.csv, so "first" means something.
    expected = dict.fromkeys(str(name) for name in expected_ids)
    missing = [name for name in expected if name not in seen]
    refuse(missing, 'is missing', 'predict every image of test.csv')
    beyond = [name for name in names if name not in expected]
    refuse(beyond, 'is not in test.csv', 'remove it')
  elif not names:
    raise SubmissionError(f'{where}: no prediction; predict something first')

  def named(flags: np.ndarray) -> list[str]:
    return [names[i] for i in np.flatnonzero(flags)]

  refuse(named(np.isnan(values)), 'has no probability (NaN)', 'predict again')
  outside = (values < 0) | (values > 1)
  refuse(
    named(outside),
    f'has {values[outside][0] if outside.any() else 0!r} for a probability',
    'give a number from 0 to 1',
  )
