"""The audit of a folder of mammograms: one page, one JSON, contact sheets.

It says what a set is made of, what is wrong with it, and what would let a
network cheat, before anyone trains on it. No file stops it.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import rsna_jax
from rsna_jax import files
from rsna_jax.audit import checks, counts, findings
from rsna_jax.data import (
  inventory,
  manifest,
  preprocess,
  progress,
  sandbox,
  sources,
  survey,
)
from rsna_jax.report import audit_page, sheet_choice
from rsna_jax.report import contact_sheet as sheet_lib

VERSION = 1  # of audit.json
_SHEET = 24  # pairs of one picture


def audit(
  src: str | os.PathLike,
  out: str | os.PathLike,
  *,
  workers: int | None = None,
  train_csv: str | os.PathLike | None = None,
  limit: int | None = None,
  spec: preprocess.Spec | None = None,
  sheet: int = sheet_lib.CAP,
  seed: int = 0,
) -> dict[str, Any]:
  """Reads every file at reduced resolution and writes the audit.

  Args:
    src: RSNA's layout, folders of classes, or any folder of images; a zip and
      a URL do as well, see `sources.open_tree`.
    out: folder of audit.html, audit.json and contact_sheet_N.png.
    workers: child processes; None: one for each CPU.
    train_csv: the CSV to take in place of `src`/train.csv.
    limit: most files to read, spread over the set; None: all.
    spec: of the standard images.
    sheet: most images on the contact sheets; 0: none.
    seed: of the choice of images.

  Returns:
    What is in audit.json.

  Raises:
    errors.DataError: no such folder, no image in it, or a table that is none.
    OSError: `out` cannot be written.
  """
  found = inventory.find(src, train_csv=train_csv)
  pathlib.Path(out).mkdir(parents=True, exist_ok=True)
  spec = spec or preprocess.Spec()
  workers = workers or os.cpu_count() or 1
  paths = [item.file for item in found.items if item.file]
  if limit is not None and limit < len(paths):
    chosen = np.linspace(0, len(paths) - 1, limit).astype(int)
    paths = [paths[i] for i in chosen]
  facts: dict[str, dict | str] = {}
  with (
    sandbox.Pool(survey.survey_file, workers) as pool,
    progress.Progress(len(paths), 'audit', 'images') as bar,
  ):
    items = (survey.item(path, spec) for path in paths)
    for index, answer in pool.map(items, name=lambda item: item[0]):
      if isinstance(answer, dict):
        facts[paths[index]] = answer['facts'] | {'error': answer['error']}
      else:
        facts[paths[index]] = str(answer)
      bar.advance()
    return _write(src, out, found, facts, spec, pool, sheet, seed)


def from_facts(
  src: str | os.PathLike,
  out: str | os.PathLike,
  facts: Mapping[str, Mapping[str, Any] | str],
  *,
  workers: int | None = None,
  train_csv: str | os.PathLike | None = None,
  spec: preprocess.Spec | None = None,
  sheet: int = sheet_lib.CAP,
  seed: int = 0,
) -> dict[str, Any]:
  """Writes the audit of files that were read before.

  Args:
    src: as for `audit`.
    out: as for `audit`.
    facts: path of a file -> `survey.describe` of it, or in one line why it
      cannot be read. Files without an entry count as not read.
    workers: as for `audit`.
    train_csv: as for `audit`.
    spec: as for `audit`.
    sheet: as for `audit`; only the images shown are opened.
    seed: as for `audit`.

  Returns:
    What is in audit.json.

  Raises:
    errors.DataError: as `audit`.
    OSError: as `audit`.
  """
  found = inventory.find(src, train_csv=train_csv)
  pathlib.Path(out).mkdir(parents=True, exist_ok=True)
  workers = workers or os.cpu_count() or 1
  spec = spec or preprocess.Spec()
  with sandbox.Pool(survey.survey_file, workers) as pool:
    return _write(src, out, found, facts, spec, pool, sheet, seed)


def of_prepared(
  folder: str | os.PathLike,
  src: str | os.PathLike,
  *,
  train_csv: str | os.PathLike | None = None,
  spec: preprocess.Spec | None = None,
  contact_sheet: bool = False,
) -> dict[str, Any]:
  """Writes the audit of a prepared data set into its folder `audit`.

  Args:
    folder: of the data set, with the facts that were kept as it was made.
    src: what it was made of; no file of it is read but for contact sheets.
    train_csv: as for `audit`.
    spec: as for `audit`.
    contact_sheet: whether to make contact sheets, too.

  Returns:
    What is in audit.json.

  Raises:
    errors.DataError: as `audit`.
    OSError: as `audit`.
  """
  source = sources.open_tree(src)
  return from_facts(
    src,
    pathlib.Path(folder) / 'audit',
    manifest.read_facts(folder, source) if source else {},
    train_csv=train_csv,
    spec=spec,
    sheet=sheet_lib.CAP if contact_sheet else 0,
  )


def summary(audit: Mapping[str, Any]) -> str:
  """A few lines for a terminal."""
  images = audit['images']
  lines = [
    f'{images["read"]:,} of {images["files"]:,} files read, '
    f'{images["patients"]:,} patients, {images["positives"]:,} images with '
    'cancer'
  ]
  lines += [f'{x["level"]}: {x["text"]}' for x in audit['findings']]
  return '\n'.join(lines)


def _write(
  src: str | os.PathLike,
  out: str | os.PathLike,
  found: inventory.Inventory,
  facts: Mapping[str, Mapping[str, Any] | str],
  spec: preprocess.Spec,
  pool: sandbox.Pool,
  sheet: int,
  seed: int,
) -> dict[str, Any]:
  out = pathlib.Path(out)
  images = _images(found, facts)
  content = _content(src, found, images)
  chosen = sheet_choice.choose(images, cap=sheet, seed=seed) if sheet else []
  entries = list(sheet_lib.entries(chosen, spec, pool))
  names = []
  for start in range(0, len(entries), _SHEET):
    names.append(f'contact_sheet_{1 + start // _SHEET}.png')
    sheet_lib.write(out / names[-1], entries[start : start + _SHEET])
  for old in out.glob('contact_sheet_*.png'):
    if old.name not in names:
      old.unlink()
  content['contact_sheets'] = names
  files.write_json(out / 'audit.json', content)
  audit_page.write(out / 'audit.html', content, entries)
  return content


def _images(
  found: inventory.Inventory, facts: Mapping[str, Mapping[str, Any] | str]
) -> list[checks.Image]:
  known = {os.path.abspath(path): entry for path, entry in facts.items()}
  images = []
  for item in found.items:
    entry = known.get(os.path.abspath(item.file)) if item.file else None
    if isinstance(entry, str):
      images.append(checks.Image(item, None, entry))
    elif entry is None:
      images.append(checks.Image(item))
    else:
      entry = dict(entry)
      error = entry.pop('error', '')
      images.append(checks.Image(item, entry, error))
  return images


def _content(
  src: str | os.PathLike,
  found: inventory.Inventory,
  images: Sequence[checks.Image],
) -> dict[str, Any]:
  there = [image for image in images if image.item.file]
  train_only = checks.train_only_columns(found)
  labels = [image.known('cancer') for image in there]
  content: dict[str, Any] = {
    'version': VERSION,
    'rsna_jax': rsna_jax.__version__,
    'source': os.path.basename(os.path.abspath(src)),
    'kind': found.kind,
    'images': {
      'rows': sum(image.item.row is not None for image in images),
      'files': len(there),
      'read': sum(image.facts is not None for image in there),
      'not_read': sum(x.facts is None and not x.error for x in there),
      'patients': len({image.patient for image in there if image.patient}),
      'breasts': len({image.breast for image in there if image.breast}),
      'labelled': sum(label is not None for label in labels),
      'positives': sum(label == 1 for label in labels),
      'splits': {
        split: sum(image.item.split == split for image in there)
        for split in sorted({image.item.split for image in there})
        if split
      },
    },
    'counts': counts.counts(there),
    'machines': counts.machines(there),
    'missing': checks.missing_values(found),
    'duplicates': checks.duplicates(there),
    'files_and_rows': checks.files_and_rows(found),
    'header_and_row': checks.header_and_row(there),
    'errors': checks.unreadable(there),
    'leaks': {
      'patients_in_train_and_test': checks.patients_in_both(images),
      'labels_differ_within_breast': checks.labels_in_breast(images),
      'train_only_columns': train_only,
    },
    'predictors': counts.predictors(there, train_only),
  }
  return {'findings': findings.findings(content)} | content
