"""A run as the server holds it: the model, and what its validation set said."""

import csv
import dataclasses
import json
import pathlib

import numpy as np

from rsna_jax import errors, inference, results, schema
from rsna_jax.stats import decision, pooling


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
  """A model that answers, with what its answers are held against.

  Attributes:
    number: of the model in the store.
    model: the run, or the ensemble.
    decision: calibration and operating point; None where none is stored.
    learned: the learned aggregation, or None.
    reference: (B,) sorted probabilities of the validation breasts, calibrated
      where there is a decision; empty where the run has none.
    labels: (B,) 0, 1 or -1 of the same breasts.
    metrics: the content of the validation's metrics.json, or empty.
    card: the text of MODEL_CARD.md, or empty.
  """

  number: int
  model: inference.Model
  decision: decision.Decision | None
  learned: pooling.Pooling | None
  reference: np.ndarray
  labels: np.ndarray
  metrics: dict
  card: str

  @property
  def specs(self) -> tuple:
    """How pixels become the model's inputs."""
    return self.model.specs

  @property
  def target(self) -> str:
    """A key of `schema.TARGETS`."""
    return self.model.config.data.target

  def calibrate(self, probabilities: np.ndarray) -> np.ndarray:
    """(N,) calibrated probabilities; the same where there is no decision."""
    if self.decision is None:
      return np.asarray(probabilities, np.float64)
    return self.decision.apply(probabilities)[0]

  def compile(self, most: int) -> None:
    """Compiles the programs of batches of up to `most` images."""
    members = getattr(self.model, 'members', ())
    # An ensemble that rejects a black image would not ask its later members.
    for model in [one.model for one in members] or [self.model]:
      for size in inference.BATCH_SIZES:
        model.logits([_black(model)] * size)
        if size >= most:
          break


def load(number: int, folder: pathlib.Path) -> LoadedModel:
  """Loads a run, and compiles nothing yet.

  Raises:
    errors.InputError: it is no usable run, or sees no pixels.
  """
  folder = pathlib.Path(folder)
  model = inference.load_model(folder)
  if not model.specs:
    raise errors.RunError(
      f'{folder}: model.name={model.config.model.name} sees no pixels; serve '
      'the run of a model of images'
    )
  chosen = results.decision_of(folder)
  found, labels = _reference(folder)
  if chosen is not None:
    found = chosen.apply(found)[0]
  order = np.argsort(found, kind='stable')
  return LoadedModel(
    number=number,
    model=model,
    decision=chosen,
    learned=results.learned_of(folder),
    reference=found[order],
    labels=labels[order],
    metrics=_json(results.chosen_file(folder, 'metrics.json')),
    card=_text(folder / 'MODEL_CARD.md'),
  )


def _reference(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """(B,) raw probabilities and labels of the validation breasts."""
  rows = list(
    csv.DictReader(
      _text(results.chosen_file(folder, 'breasts.csv')).split('\n')
    )
  )
  try:
    return (
      np.array([float(row['cancer']) for row in rows], np.float64),
      np.array([int(row['label'] or schema.MISSING) for row in rows], np.int64),
    )
  except (KeyError, TypeError, ValueError) as error:
    raise errors.RunError(
      f'{folder}: breasts.csv of its validation is damaged ({error}); evaluate '
      'the run again'
    ) from error


def _black(model: inference.Model) -> inference.Prepared:
  kind = np.uint8 if model.spec.bits == 8 else np.uint16
  pixels = np.zeros(model.spec.size, kind)
  return inference.Prepared('black', pixels, None, {})


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text(encoding='utf-8')
  except OSError:
    return ''


def _json(path: pathlib.Path) -> dict:
  try:
    found = json.loads(_text(path) or '{}')
  except ValueError as error:
    raise errors.RunError(
      f'{path}: damaged ({error}); evaluate the run again'
    ) from error
  return found if isinstance(found, dict) else {}
