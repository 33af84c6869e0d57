"""What the serving and the new model say of the two frozen validation sets."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from rsna_jax import aggregate, division, errors, evaluate, results, schema
from rsna_jax import run as run_lib
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.serve.learning import contradiction, promotion
from rsna_jax.stats import decision

_DENSE = 3  # from C on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
  """What one model says of rows, for one reading.

  Attributes:
    labels, patients: (N,), as in `promotion.Cases`.
    raw, calibrated: (N,) probabilities.
  """

  labels: np.ndarray
  patients: np.ndarray
  raw: np.ndarray
  calibrated: np.ndarray


class Reader:
  """A run that predicts rows of data sets."""

  def __init__(self, folder: pathlib.Path):
    """Loads it.

    Raises:
      errors.RunError: it is no run, or has no usable checkpoint.
    """
    self._run = run_lib.load(folder)
    self.config = self._run.config
    self._folder = folder
    self._state, _ = evaluate.restore(self._run)
    self._predict = evaluate.Predictor(self.config, self._run.encoder)

  def logits(self, data: dataset_lib.Dataset, rows: np.ndarray) -> np.ndarray:
    """(N, K) of rows of a data set."""
    return self._predict(self._state, data, rows)

  def read(
    self,
    data: dataset_lib.Dataset,
    rows: np.ndarray,
    *,
    fitted_here: bool = False,
  ) -> dict[str, Said]:
    """All its readings of rows of a data set.

    Args:
      data: the data set.
      rows: (N,) row numbers.
      fitted_here: whether the calibration was fitted on these; then each
        patient gets that of the others.
    """
    logits = self.logits(data, rows)
    target = self.config.data.target
    table = data.table.take(rows)
    found = {}
    probability = schema.cancer_probability(logits, target)
    if probability is not None:
      breasts = aggregate.breasts(
        table['prediction_id'],
        table['patient_id'],
        probability,
        table['cancer'],
        how=self.config.eval.aggregate,
        views=table['view'],
        learned=results.learned_of(self._folder),
      )
      found['cancer'] = Said(
        labels=breasts['label'],
        patients=breasts['patient_id'],
        raw=breasts['cancer'],
        calibrated=self._calibrated(table, breasts, fitted_here),
      )
    dense = dense_probability(logits, target)
    if dense is not None:
      found['dense'] = Said(
        labels=dense_labels(table),
        patients=table['patient_id'],
        raw=dense,
        calibrated=dense,
      )
    return found

  def _calibrated(self, table, breasts, fitted_here: bool) -> np.ndarray:
    c = self.config
    if fitted_here and c.eval.calibration != 'none':
      known = breasts['label'] != schema.MISSING
      found = breasts['cancer'].copy()
      try:
        found[known], _, _ = decision.cross_fit(
          breasts['label'][known],
          breasts['cancer'][known],
          breasts['patient_id'][known],
          method=c.eval.calibration,
          rule=c.eval.rule,
          seed=c.seed,
        )
        return found
      except errors.DataError:
        pass  # too few of a class to leave any out
    chosen = results.decision_of(self._folder)
    if chosen is None:
      return breasts['cancer']
    return results.judged(table.columns, breasts, chosen)['calibrated']


def cases(
  old: Mapping[str, Said], new: Mapping[str, Said]
) -> dict[str, promotion.Cases]:
  """Both models' readings of the same rows."""
  return {
    name: promotion.Cases(
      labels=one.labels,
      patients=one.patients,
      old=one.raw,
      new=new[name].raw,
      old_calibrated=one.calibrated,
      new_calibrated=new[name].calibrated,
    )
    for name, one in old.items()
  }


def validation_rows(c, data: dataset_lib.Dataset) -> np.ndarray:
  """Rows of the original data that models are judged on."""
  return division.select_rows(c, data, 'validation', data.fingerprint)


def suspicion(
  old: Reader,
  new: Reader,
  sides: Mapping[str, dataset_lib.Dataset | None],
  contributors: Mapping[int, str],
  permutations: int = contradiction.PERMUTATIONS,
) -> contradiction.Suspicion | None:
  """The contributors whose labels contradict the models most.

  Of the training side the old model speaks, which has not learned its labels;
  of the validation side the new one, which knows more.

  Args:
    old, new: the models.
    sides: side -> its data set.
    contributors: image_id -> name.
    permutations: as in `contradiction.scan`.
  """
  parts: dict[str, list] = {}
  for side, data in sides.items():
    if data is None:
      continue
    reader = old if side == 'train' else new
    target = reader.config.data.target
    rows = np.arange(len(data))
    logits = reader.logits(data, rows)
    for name, labels, said in (
      (
        'cancer',
        data.table['cancer'],
        schema.cancer_probability(logits, target),
      ),
      ('dense', dense_labels(data.table), dense_probability(logits, target)),
    ):
      if said is None:
        continue
      known = labels != schema.MISSING
      names = [contributors[x] for x in data.table['image_id'].tolist()]
      parts.setdefault(name, []).append(
        (
          np.array(names, object)[known].astype(str),
          labels[known],
          said[known],
          np.full(int(known.sum()), side),
          data.table['patient_id'][known],
        )
      )
  found = []
  for of in parts.values():
    who, labels, said, side, patients = map(
      np.concatenate, zip(*of, strict=True)
    )
    one = contradiction.scan(
      who,
      labels,
      said,
      strata=side,
      patients=patients,
      permutations=permutations,
    )
    if one is not None:
      found.append(one)
  if not found:
    return None
  worst = min(found, key=lambda one: one.p)
  # As many were looked at as there are readings.
  return dataclasses.replace(worst, p=min(1.0, worst.p * len(found)))


def dense_probability(logits: np.ndarray, target: str) -> np.ndarray | None:
  """(N,) probability of density C or D; None: the target does not say."""
  probabilities = schema.target_probabilities(logits, target)
  if target == 'density':
    return probabilities[:, _DENSE - 1 :].sum(axis=1)
  if target == 'density_cancer':
    return probabilities[:, 2 * (_DENSE - 1) :].sum(axis=1)
  return None


def dense_labels(table) -> np.ndarray:
  """(N,) int64: 1 for density C or D, 0 for A or B, -1 for unknown."""
  density = np.asarray(table['density'])
  return np.where(
    density == schema.MISSING, schema.MISSING, density >= _DENSE
  ).astype(np.int64)
