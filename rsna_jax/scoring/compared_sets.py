"""The sets of predictions of a comparison, as breasts, in one order."""

import dataclasses
import os
import pathlib

import numpy as np

from rsna_jax import config as config_lib
from rsna_jax import errors, results, schema
from rsna_jax.scoring import own_labels, prediction_files, scored_sets
from rsna_jax.stats import decision as decision_lib

_OTHER_DATA = ('test', 'all')
SPLITS = ('train', 'validation', 'out_of_fold', *_OTHER_DATA)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Set:
  """Predictions of breasts with a label.

  Attributes:
    name: what it is called.
    source: the file that they come from.
    prediction_id: (B,) text, sorted.
    patient_id: (B,) int64.
    label: (B,) int64, 0 or 1.
    cancer: (B,) float64, raw.
    site_id: (B,) int64, or None.
    aggregate: how images were joined.
    calibration: method of the set's own.
    rule: of its operating point.
    per_site: whether sites have their own of both.
    decision: chosen on other data; None: out of fold on these.
  """

  name: str
  source: str
  prediction_id: np.ndarray
  patient_id: np.ndarray
  label: np.ndarray
  cancer: np.ndarray
  site_id: np.ndarray | None
  aggregate: str
  calibration: str
  rule: str
  per_site: bool
  decision: decision_lib.Decision | None

  def take(self, rows: np.ndarray) -> 'Set':
    """The breasts of (M,) indices."""
    arrays = ('prediction_id', 'patient_id', 'label', 'cancer', 'site_id')
    return dataclasses.replace(
      self,
      **{
        name: getattr(self, name)[rows]
        for name in arrays
        if getattr(self, name) is not None
      },
    )

  def about(self) -> dict:
    """Plain values that say what it is."""
    given = self.decision
    return {
      'name': self.name,
      'source': self.source,
      'aggregate': self.aggregate,
      'calibration': given.calibration.method if given else self.calibration,
      'rule': given.point.rule if given else self.rule,
      'chosen_on': 'other data' if given else 'out of fold',
    }

  def decide(self, seed: int) -> tuple[np.ndarray | None, str]:
    """(B,) bool calls, or None and why there are none."""
    sites = self.site_id if self.per_site else None
    if self.decision is not None:
      return self.decision.apply(self.cancer, sites)[1], ''
    try:
      _, called, _ = decision_lib.cross_fit(
        self.label,
        self.cancer,
        self.patient_id,
        method=self.calibration,
        rule=self.rule,
        sites=sites,
        seed=seed,
      )
    except errors.DataError as error:
      return None, str(error)
    return called, ''


def load(
  source: str | os.PathLike,
  name: str,
  split: str,
  labels: tuple | None,
  *,
  subset: bool = False,
  seed: int = 0,
) -> Set:
  """Reads a set.

  Args:
    source: a run directory, a folder of crossvalidate, or a CSV file.
    name: for the set.
    split: of a run.
    labels: table, whether it is of images, and path, or None: those of the
      file.
    subset: whether predictions that the labels lack are left out.
    seed: of an aggregation that is learned out of fold.

  Raises:
    errors.InputError: it is none of these, was not evaluated on the split, or
      has no labels.
  """
  source = pathlib.Path(source)
  settings, workdir, chosen = config_lib.default().eval, None, None
  path = source
  if source.is_dir():
    workdir = source
    path, settings = _of_folder(source, split)
    if split in _OTHER_DATA:
      chosen = results.decision_of(workdir)
  elif not source.exists():
    raise errors.DataError(
      f'{source}: no such run and no such file: check the path'
    )
  said = prediction_files.read(path)
  if said.cancer is None:
    raise errors.DataError(
      f'{path}: no probability of cancer: only such predictions are compared'
    )
  columns, probability, aggregate = _columns(said, labels, path, subset)
  if workdir is None or path.name != 'breasts.csv':
    how = aggregate if workdir is None else settings.aggregate
    given = None
    if how == 'learned' and split in _OTHER_DATA:
      given = results.learned_of(workdir)
    # The raw rows keep their site for the breast.
    breasts, _ = scored_sets.breasts(
      columns,
      probability,
      {x: columns[x] for x in ('site_id',) if x in columns},
      how=how,
      learned=given,
      seed=seed,
    )
  else:
    breasts = {**columns, 'cancer': probability}
  known = np.flatnonzero(breasts['label'] != schema.MISSING)
  if not len(known):
    raise errors.DataError(
      f'{path}: no label of a breast is known: give --labels train.csv'
    )
  known = known[np.argsort(breasts['prediction_id'][known])]
  return Set(
    name=name,
    source=str(path),
    prediction_id=breasts['prediction_id'][known],
    patient_id=breasts['patient_id'][known],
    label=breasts['label'][known],
    cancer=breasts['cancer'][known],
    site_id=breasts['site_id'][known] if 'site_id' in breasts else None,
    aggregate=settings.aggregate if workdir is not None else aggregate,
    calibration=settings.calibration,
    rule=str(settings.rule),
    per_site=bool(settings.per_site),
    decision=chosen,
  )


def on_the_same(
  sets: list[Set], *, subset: bool = False
) -> tuple[list[Set], str]:
  """Brings sets to the same breasts, and says in words what was left out.

  Raises:
    errors.DataError: breasts are missing in a set and not `subset`, none is in
      all, labels differ, or a class is missing.
  """
  every = sets[0].prediction_id
  union = every
  for one in sets[1:]:
    every = np.intersect1d(every, one.prediction_id)
    union = np.union1d(union, one.prediction_id)
  left_out = ''
  if len(every) < len(union):
    lacking = [len(union) - len(one.prediction_id) for one in sets]
    worst = sets[int(np.argmax(lacking))]
    first = np.setdiff1d(union, worst.prediction_id)[0]
    if not subset:
      raise errors.DataError(
        f'{worst.name}: {max(lacking)} of {len(union)} breasts are missing, '
        f'the first is {first}: compare predictions of the same split, or use '
        f'--subset for the {len(every)} that all have'
      )
    left_out = (
      f'left out: {len(union) - len(every):,} of {len(union):,} breasts are '
      'not in every set'
    )
  if not len(every):
    raise errors.DataError(
      'no breast is in every set: compare predictions of the same patients'
    )
  found = [one.take(np.searchsorted(one.prediction_id, every)) for one in sets]
  for one in found[1:]:
    for what in ('label', 'patient_id'):
      ours, theirs = getattr(found[0], what), getattr(one, what)
      wrong = np.flatnonzero(ours != theirs)
      if len(wrong):
        raise errors.DataError(
          f'breast {every[wrong[0]]}: its {what} is {ours[wrong[0]]} in '
          f'{found[0].name} and {theirs[wrong[0]]} in {one.name} '
          f'({len(wrong)} differ): give --labels train.csv'
        )
  y = found[0].label
  if y.min() == y.max():
    raise errors.DataError(
      f'all {len(y)} breasts have the label {y[0]}: nothing can be compared on '
      'one class'
    )
  return found, left_out


def _of_folder(folder: pathlib.Path, split: str):
  """The file to read of a run, and the eval group of its config."""
  configs = [folder / 'config.json', *sorted(folder.glob('fold*/config.json'))]
  path = next((path for path in configs if path.is_file()), None)
  if path is None:
    raise errors.RunError(
      f'{folder}: neither a run (no config.json) nor a folder of crossvalidate'
    )
  settings = config_lib.from_json(path.read_text('utf-8'), str(path)).eval
  if split not in SPLITS:
    raise errors.ConfigError(f'split {split!r}: choose {", ".join(SPLITS)}')
  if path.parent != folder and split == 'validation':
    split = 'out_of_fold'
  # What was learned from these breasts would flatter on them.
  name = 'predictions' if settings.aggregate == 'learned' else 'breasts'
  found = folder / 'eval' / split / f'{name}.csv'
  if not found.is_file():
    raise errors.RunError(
      f'{found}: no such file: run rsna-jax evaluate --workdir {folder} '
      f'--split {split}, or choose another --split'
    )
  return found, settings


def _columns(said, labels, path, subset):
  """Columns of the rows with labels, their probabilities, and the aggregate."""
  aggregate = 'mean'
  if labels is not None:
    table, of_images, where = labels
    said, rows, _ = prediction_files.join(
      said, table, of_images, where, subset=subset, all_labels=False
    )
    columns = table.take(rows).columns
    return {**columns, 'label': columns['cancer']}, said.cancer, aggregate
  return own_labels.columns(said), said.cancer, aggregate
