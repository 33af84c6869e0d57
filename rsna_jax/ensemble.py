"""Several trained runs as one model: averaged, or cheap ones first.

Logits are averaged, not probabilities, unless asked otherwise: the mean of
logits is the geometric mean of odds, which keeps the sharpness of calibrated
members, where a mean of probabilities is duller than each of them (Ranjan and
Gneiting 2010, "Combining probability forecasts"), and it is what a calibration
of logits expects. The mean of probabilities is safer where one member may be
sure and wrong.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsna_jax import ensemble_file, errors, inference, schema
from rsna_jax import run as run_lib
from rsna_jax.data import shown
from rsna_jax.options import evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
  """A model of an ensemble.

  Attributes:
    model: the run.
    weight: of its logits or probabilities, more than 0.
    reject_below: images whose probability of cancer so far, by this model and
      those before it, is lower are answered with that; 0: none. The images of
      a breast go on together, if any of them does.
  """

  model: inference.Model
  weight: float = 1.0
  reject_below: float = 0.0


class Ensemble(inference.Model):
  """Runs that answer together; whatever takes one run takes them.

  Attributes:
    members: in the order in which they are asked.
    average: logit | probability.
    config: of the first member; `data.target` is of all.
    spec: of the first member that sees pixels.
    step: of the first member's checkpoint.
  """

  def __init__(self, members: Sequence[Member], average: str = 'logit'):
    """Joins loaded runs.

    Raises:
      errors.ConfigError: no member, a weight or threshold out of range,
        different targets, or a rejection by a target that does not speak of
        cancer.
    """
    _check(members, average)
    self.members = tuple(members)
    self.average = average
    models = [member.model for member in self.members]
    self.config = models[0].config
    self._specs = []
    for model in models:
      if model.spec is not None and model.spec not in self._specs:
        self._specs.append(model.spec)
    self.spec = self._specs[0] if self._specs else None
    self.encoder = models[0].encoder
    self.step = models[0].step

  @property
  def specs(self) -> tuple:
    """The different specs of the pixels that the members want."""
    return tuple(self._specs)

  @property
  def joins(self) -> bool:
    """Whether a member answers for a breast by all of its images."""
    groups = [member.model.config.data.group for member in self.members]
    return any(group != 'image' for group in groups)

  def network(self):
    """See `inference.Model.network`: an ensemble has no single one."""
    raise errors.RunError(
      f'an ensemble of {len(self.members)} runs: name the folder of one of them'
    )

  def prepare(
    self, source: str | os.PathLike | bytes, name: str
  ) -> inference.Prepared:
    """Decodes a file once, and standardises it as each member wants it."""
    if len(self._specs) < 2:
      return inference.prepare(source, self.spec, name)
    if not isinstance(source, bytes) and not os.path.isfile(source):
      raise errors.DataError(f'{name}: no such file')
    found = shown.standard_files((source, [s.to_json() for s in self._specs]))
    first, *others = found['pixels']
    return inference.Prepared(
      name, first, found['box'], found['attributes'], tuple(others)
    )

  def logits(self, found: Sequence[inference.Prepared]) -> np.ndarray:
    """(N, K) float32 logits of prepared images."""
    return self.cascade(found)[0]

  def outputs(
    self, found: Sequence[inference.Prepared]
  ) -> dict[str, np.ndarray]:
    """The main target's logits alone; members may differ in the others."""
    return {self.config.data.target: self.logits(found)}

  def cascade(
    self, found: Sequence[inference.Prepared]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Asks the members one after the other.

    Args:
      found: what `prepare` has made.

    Returns:
      (N, K) float32 logits, and (N,) int64, how many members were asked.
    """
    target = self.config.data.target
    total = np.zeros((len(found), schema.TARGETS[target]), np.float64)
    weight = np.zeros((len(found), 1), np.float64)
    asked = np.zeros(len(found), np.int64)
    breast = _breasts(found)
    going = np.ones(len(found), bool)
    for member in self.members:
      rows = np.flatnonzero(going)
      if not len(rows):
        break
      part = [self._as_wanted(member.model, found[i]) for i in rows]
      said = member.model.logits(part).astype(np.float64)
      if self.average == 'probability':
        said = schema.target_probabilities(said, target)
      elif said.shape[1] > 1:
        # A softmax's logits have a free constant, which is not to weigh.
        said = said - said.mean(axis=1, keepdims=True)
      total[rows] += member.weight * said
      weight[rows] += member.weight
      asked[rows] += 1
      if member.reject_below > 0:
        logits = self._logits(total[rows] / weight[rows])
        doubtful = (
          schema.cancer_probability(logits, target) >= member.reject_below
        )
        going &= np.isin(breast, breast[rows[doubtful]])
    logits = self._logits(total / np.maximum(weight, 1e-300))
    return logits.astype(np.float32), asked

  def _logits(self, mean: np.ndarray) -> np.ndarray:
    if self.average == 'logit':
      return mean
    tiny = np.finfo(np.float32).tiny
    if mean.shape[1] == 1:
      return np.log(np.maximum(mean, tiny)) - np.log(np.maximum(1 - mean, tiny))
    return np.log(np.maximum(mean, tiny))

  def _as_wanted(self, model, one: inference.Prepared) -> inference.Prepared:
    """The image as one member's spec has it."""
    if model.spec is None or len(self._specs) < 2:
      return one
    pixels = (one.pixels, *one.others)[self._specs.index(model.spec)]
    return dataclasses.replace(one, pixels=pixels)


def is_ensemble(workdir: str | os.PathLike) -> bool:
  """Whether a folder is no run itself, but holds several or names them."""
  folder = pathlib.Path(workdir)
  if (folder / ensemble_file.NAME).is_file():
    return True
  return not (folder / 'config.json').is_file() and bool(
    ensemble_file.folds(folder)
  )


def load(workdir: str | os.PathLike, *, which: str | None = None) -> Ensemble:
  """Loads an ensemble.

  Args:
    workdir: what `rsna-jax crossvalidate` wrote: its folds answer with equal
      weights, as `eval.average` and `eval.reject_below` of the first one say,
      on images that none of them has seen; or a folder with an ensemble.json:
      {"runs": [{"path": "../a", "weight": 1, "reject_below": 0.02,
      "checkpoint": "best"}, "../b"], "average": "logit"}, where paths are
      relative to the folder and all but the paths may be left out.
    which: the checkpoint of each run, before what the file says.

  Raises:
    errors.InputError: the file is damaged, or a run is not usable.
  """
  folder = pathlib.Path(workdir)
  path = folder / ensemble_file.NAME
  if not path.is_file():
    runs = [
      inference.Model(run_lib.load(one), which)
      for one in ensemble_file.folds(folder)
    ]
    how = runs[0].config.eval
    return Ensemble(
      [
        Member(model=run, reject_below=how.reject_below if i == 0 else 0.0)
        for i, run in enumerate(runs)
      ],
      how.average,
    )
  found = ensemble_file.read(path)
  members = []
  for i, entry in enumerate(found['runs']):
    place = f'{path}: runs[{i}]'
    checkpoint = entry.get('checkpoint')
    if checkpoint not in (None, *evaluation.CHECKPOINTS):
      raise errors.ConfigError(
        f'{place}.checkpoint={checkpoint!r}: choose best or latest'
      )
    members.append(
      Member(
        model=inference.Model(
          run_lib.load(folder / entry['path']), which or checkpoint
        ),
        weight=ensemble_file.number(place, entry, 'weight', 1.0),
        reject_below=ensemble_file.number(place, entry, 'reject_below', 0.0),
      )
    )
  try:
    return Ensemble(members, found.get('average', 'logit'))
  except errors.ConfigError as error:
    raise errors.ConfigError(f'{path}: {error}') from error


def rejection_threshold(
  labels: np.ndarray, probabilities: np.ndarray, keep: float = 0.99
) -> float:
  """The highest `reject_below` that keeps a share of the positives.

  To be chosen on predictions of patients that the model has not seen.

  Args:
    labels: (N,) 0 or 1, of images or breasts.
    probabilities: (N,) of the model that rejects.
    keep: share of the positives that has to go on, from 0 to 1.

  Raises:
    errors.DataError: no positive.
  """
  positives = np.sort(np.asarray(probabilities)[np.asarray(labels) == 1])
  if not len(positives):
    raise errors.DataError(
      'no positive among the labels: a threshold of rejection needs some'
    )
  lost = int(np.floor((1 - keep) * len(positives) + 1e-9))
  return float(positives[min(lost, len(positives) - 1)])


def _check(members: Sequence[Member], average: str) -> None:
  if average not in evaluation.AVERAGES:
    raise errors.ConfigError(
      f'average={average!r}: choose {", ".join(evaluation.AVERAGES)}'
    )
  if not members:
    raise errors.ConfigError('runs=[]: an ensemble needs at least one')
  targets = sorted({member.model.config.data.target for member in members})
  if len(targets) > 1:
    raise errors.ConfigError(
      f'runs of different targets, {", ".join(targets)}: take those of one'
    )
  for i, member in enumerate(members):
    if not 0 < member.weight < np.inf:
      raise errors.ConfigError(
        f'runs[{i}].weight={member.weight}: more than 0, and finite'
      )
    if not 0 <= member.reject_below < 1:
      raise errors.ConfigError(
        f'runs[{i}].reject_below={member.reject_below}: from 0 to below 1'
      )
    if member.reject_below and targets == ['density']:
      raise errors.ConfigError(
        f'runs[{i}].reject_below={member.reject_below}: data.target=density '
        'says nothing of cancer; leave it out'
      )


def _breasts(found: Sequence[inference.Prepared]) -> np.ndarray:
  """(N,) number of each image's breast; its own where it is not known."""
  known: dict[Any, int] = {}
  numbers = []
  for i, exam in enumerate(inference.exams(found).tolist()):
    side = found[i].attributes.get('laterality')
    key = (exam, side) if exam != -1 and side else i
    numbers.append(known.setdefault(key, len(known)))
  return np.array(numbers, np.int64)
