"""Predicting files, folders and RSNA layouts into CSV files.

Files from outside are decoded in the processes of `data/sandbox.py`, so one
that kills its decoder costs that file alone.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from rsna_jax import (
  aggregate,
  errors,
  files,
  inference,
  results,
  schema,
  submission,
)
from rsna_jax.data import sandbox, shown, table

_LOG = logging.getLogger('rsna_jax')
_CSV_NAMES = ('test.csv', 'train.csv')
_ROW_COLUMNS = ('image_id', 'patient_id', *schema.METADATA_COLUMNS)
_WRITTEN = ('predictions.csv', 'breasts.csv', 'submission.csv', 'skipped.csv')
_SUFFIXES = ('.dcm', '.png', '.jpg', '.jpeg', '.pgm')


@dataclasses.dataclass(frozen=True)
class _Source:
  path: pathlib.Path
  attributes: dict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What `predict_files` has done.

  Attributes:
    folder: where the CSV files are.
    predicted: how many images were predicted.
    skipped: (file, reason) of those that were left out.
    submission: the submission's path, or None with why not in `note`.
    note: one line, or the empty string.
    expected: the pF1 that each form of the submission may expect, in words.
  """

  folder: pathlib.Path
  predicted: int
  skipped: list[tuple[str, str]]
  submission: pathlib.Path | None
  note: str
  expected: str = ''


def predict_files(
  workdir: str | os.PathLike,
  inputs: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  csv: str | os.PathLike | None = None,
  bad_files: str = 'stop',
  workers: int | None = None,
  which: str | None = None,
  form: str = 'raw',
) -> Outcome:
  """Predicts images and writes predictions.csv, breasts.csv, submission.csv.

  Args:
    workdir: the run directory.
    inputs: files, folders, or folders in the RSNA layout, whose test.csv (or
      train.csv) is then used.
    out: folder to write into; files of the same names are replaced.
    csv: rows of the images to predict, found below `inputs` by their ids.
    bad_files: stop | skip: whether a file that is no usable mammogram ends
      the command before anything is written.
    workers: processes that decode; None: one a core.
    which: the checkpoint: best | latest; None: config.eval.checkpoint.
    form: of the submission: raw | calibrated | thresholded (0 or 1); the latter
      two by the calibration and threshold that `evaluate` has stored.

  Raises:
    errors.InputError: the run, a file or the CSV is not usable.
  """
  if bad_files not in ('stop', 'skip'):
    raise errors.ConfigError(f'bad files {bad_files!r}: choose stop or skip')
  submission.check_form(form, results.decision_of(pathlib.Path(workdir)))
  sources, rows = _sources(inputs, csv)
  _check_out(out, inputs, csv)
  with files.folder(out) as folder:
    model = inference.load_model(workdir, which=which)
    found, skipped = _decode(sources, model.specs, workers, bad_files)
    alone = int((inference.exams(found) == -1).sum())
    if model.joins and alone:
      print(
        f'{alone} image(s) of unknown patients are judged one by one: use '
        '--csv, or paths <patient_id>/<image_id>.dcm, to join those of a breast'
      )
    predictions = model.predict_prepared(found)
    columns = _columns(predictions, found)
    for name in _WRITTEN:
      (folder / name).unlink(missing_ok=True)  # of an earlier call
    files.write_text(folder / 'predictions.csv', results.csv_text(columns))
    if skipped:
      files.write_text(
        folder / 'skipped.csv',
        results.csv_text(
          dict(zip(('file', 'reason'), zip(*skipped, strict=True), strict=True))
        ),
      )
    path, note = None, ''
    if 'cancer' in columns:
      how = model.config.eval.aggregate
      path, note = _breasts(
        folder, columns, rows, how, pathlib.Path(workdir), form
      )
  return Outcome(
    folder=folder,
    predicted=len(found),
    skipped=skipped,
    submission=path,
    note=note,
    expected=submission.expectation(workdir) if path else '',
  )


def _check_out(out, inputs, csv) -> None:
  """Refuses a folder in which the answers would replace what is asked about."""
  written = {(pathlib.Path(out) / name).resolve() for name in _WRITTEN}
  for path in (*inputs, *(() if csv is None else (csv,))):
    if pathlib.Path(path).resolve() in written:
      raise errors.ConfigError(
        f'--out {out}: {path} is in it and would be replaced: choose another '
        'folder'
      )


def _sources(inputs, csv) -> tuple[list[_Source], table.Table | None]:
  paths = [pathlib.Path(path) for path in inputs]
  if csv is None and len(paths) == 1 and paths[0].is_dir():
    for name in _CSV_NAMES:
      if (paths[0] / name).is_file():
        csv = paths[0] / name
        images = paths[0] / f'{csv.stem}_images'
        print(f'using the rows of {csv}')
        if images.is_dir():
          paths = [images]
        break
  listed = [file for path in paths for file in inference.find_files(path)]
  # The same file may be named twice, as itself and by its folder.
  listed = list(dict.fromkeys(listed))
  if csv is None:
    return [_Source(file, inference.ids_of(file)) for file in listed], None
  rows = table.read_csv(csv)
  by_ids = {
    (file.parent.name, file.stem): file
    for file in listed
    if file.suffix.lower() in _SUFFIXES
  }
  by_image = {stem: file for (_, stem), file in by_ids.items()}
  sources, absent = [], []
  for row in rows.rows():
    patient, name = str(row['patient_id']), str(row['image_id'])
    file = by_ids.get((patient, name)) or by_image.get(name)
    if file is None:
      absent.append(f'{patient}/{name}')
      continue
    known = {column: row[column] for column in _ROW_COLUMNS}
    sources.append(_Source(file, known))
  if absent:
    raise errors.DataError(
      f'{csv}: {len(absent)} image(s) are not below '
      f'{", ".join(map(str, paths))}, the first is {absent[0]}; remove the '
      'rows, or name the folder that holds them'
    )
  return sources, rows


def _decode(sources, specs, workers, bad_files):
  if not specs:  # a model of metadata alone
    return [
      inference.Prepared(str(source.path), None, None, source.attributes)
      for source in sources
    ], []
  how = [spec.to_json() for spec in specs]
  items = [(os.fspath(source.path), how) for source in sources]
  found, skipped = {}, []
  workers = min(workers or os.cpu_count() or 1, len(sources))
  with sandbox.Pool(shown.standard_files, workers) as pool:
    for i, result in pool.map(items, name=lambda item: item[0]):
      source = sources[i]
      if isinstance(result, errors.InputError):
        if bad_files == 'stop':
          raise errors.DataError(
            f'{result}; mend or remove the file, or use --bad-files skip'
          )
        _LOG.warning('left out: %s', result)
        skipped.append((str(source.path), str(result)))
      else:
        # What a table says of an image goes before what its file says.
        known = {k: v for k, v in source.attributes.items() if _given(v)}
        found[i] = inference.Prepared(
          str(source.path),
          result['pixels'][0],
          result['box'],
          {**result['attributes'], **known},
          tuple(result['pixels'][1:]),
        )
  if not found:
    raise errors.DataError(
      f'none of {len(sources)} file(s) is a usable mammogram; the first: '
      f'{skipped[0][1]}'
    )
  return [found[i] for i in sorted(found)], skipped


def _given(value) -> bool:
  return value == value and value not in (-1, '')


def _columns(predictions, found) -> dict[str, np.ndarray]:
  columns = {'file': np.array([one.name for one in found])}
  for name in ('image_id', 'patient_id', 'laterality', 'view'):
    columns[name] = np.array(
      [str(one.attributes.get(name, '')) for one in found]
    )
  columns['prediction_id'] = np.array(
    [
      f'{patient}_{side}' if patient and side else ''
      for patient, side in zip(
        columns['patient_id'], columns['laterality'], strict=True
      )
    ]
  )
  for name in predictions[0].probabilities:
    columns[name] = np.array([one.probabilities[name] for one in predictions])
  if predictions[0].cancer is not None:
    columns['cancer'] = np.array([one.cancer for one in predictions])
  for name in predictions[0].auxiliary:
    columns[f'aux_{name}'] = np.array(
      [one.auxiliary[name] for one in predictions]
    )
  return columns


def _breasts(out, columns, rows, how, workdir, form):
  """Writes breasts.csv, and the submission where the rows are of test.csv."""
  known = columns['prediction_id'] != ''
  if known.any():
    known_columns = {name: values[known] for name, values in columns.items()}
    grouped = aggregate.breasts(
      known_columns['prediction_id'],
      known_columns['patient_id'],
      known_columns['cancer'],
      None,
      how=how,
      views=known_columns['view'],
      learned=results.learned_of(workdir),
    )
    # The site decides only where there is a column of sites.
    table = known_columns if rows is None else rows.columns
    grouped = results.judged(table, grouped, results.decision_of(workdir))
    files.write_text(
      out / 'breasts.csv',
      results.csv_text(
        {
          name: grouped[name]
          for name in (
            'prediction_id',
            'cancer',
            'n_images',
            'calibrated',
            'called',
          )
          if name in grouped
        }
      ),
    )
  if rows is None:
    return None, ''
  expected = np.unique(rows['prediction_id'])
  path = out / 'submission.csv'
  lost = sorted(set(expected) - set(columns['prediction_id']))
  if lost:
    return None, (
      f'{path} was not written: {len(lost)} breast(s) have no usable image, '
      f'the first is {lost[0]}'
    )
  submission.write(
    path,
    grouped['prediction_id'],
    grouped[submission.FORMS[form]],
    expected_ids=expected,
  )
  return path, ''
