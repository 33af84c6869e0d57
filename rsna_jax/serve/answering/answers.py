"""What the server says of images and breasts: the same for page and JSON."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsna_jax import aggregate, inference, schema
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import loaded as loaded_lib

SCREENING_PREVALENCE = 0.005
_WOMEN = 1000
_NO_CANCER = 'This model rates density alone, and says nothing of cancer.'
_NO_DENSITY = 'This model does not rate density.'
_NO_DECISION = (
  'This run has no stored calibration: probabilities are as the network gives '
  'them, and nothing is called positive. Evaluate it on its validation split.'
)
_NO_FREQUENCIES = (
  'The validation set was too small to say how often such a call is right.'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """An image that was asked about.

  Attributes:
    id: opaque, of the kept upload.
    name: for display.
    attributes: laterality, view, age and so on, as far as they are known.
    warnings: sentences about the file.
    prediction: what the model says.
  """

  id: str
  name: str
  attributes: Mapping[str, Any]
  warnings: Sequence[str]
  prediction: inference.Prediction


def answer(
  loaded: loaded_lib.LoadedModel, asked: Sequence[Asked], request_id: str
) -> dict[str, Any]:
  """The whole answer to a request, as plain values.

  The images are taken for those of one woman.
  """
  notes = []
  if loaded.target == 'density':
    notes.append(_NO_CANCER)
  elif loaded.decision is None:
    notes.append(_NO_DECISION)
  if loaded.target == 'cancer':
    notes.append(_NO_DENSITY)
  return {
    'notice': settings_lib.NOTICE,
    'request_id': request_id,
    'model': model_answer(loaded),
    'notes': notes,
    'images': [image_answer(loaded, one) for one in asked],
    'breasts': [breast_answer(loaded, part) for part in _breasts(asked)],
  }


def model_answer(loaded: loaded_lib.LoadedModel) -> dict[str, Any]:
  """Which model it is, and what it was trained on."""
  c = loaded.model.config
  seen = loaded.metrics.get('breast') or loaded.metrics.get('classes') or {}
  return {
    'number': loaded.number,
    'name': c.name,
    'target': loaded.target,
    'step': int(loaded.model.step),
    'trained_on': c.data.name,
    'input': [list(spec.size) for spec in loaded.specs],
    'calibrated': loaded.decision is not None,
    'validation': {
      'n': seen.get('n'),
      'positives': seen.get('positives'),
      'roc_auc': seen.get('roc_auc'),
    },
  }


def image_answer(
  loaded: loaded_lib.LoadedModel, asked: Asked
) -> dict[str, Any]:
  """What is said of one image."""
  said = asked.prediction
  cancer = None
  if said.cancer is not None:
    # The calibration is that of breasts; a breast may be one image.
    calibrated = loaded.calibrate(np.array([said.cancer]))[0]
    cancer = {'raw': said.cancer, 'calibrated': _or_none(loaded, calibrated)}
  known = asked.attributes
  return {
    'id': asked.id,
    'name': asked.name,
    'laterality': known.get('laterality') or None,
    'view': known.get('view') or None,
    'age': _number(known.get('age')),
    'implant': _number(known.get('implant')),
    'box': None if said.box is None else [float(x) for x in said.box],
    'cancer': cancer,
    'density': density_answer(loaded.target, [said]),
    'warnings': list(asked.warnings),
  }


def breast_answer(
  loaded: loaded_lib.LoadedModel, asked: Sequence[Asked]
) -> dict[str, Any]:
  """What is said of the images of one breast together."""
  said = [one.prediction for one in asked]
  raw = _joined(loaded, asked)
  cancer = frequencies = None
  if raw is not None:
    calibrated = float(loaded.calibrate(np.array([raw]))[0])
    called = threshold = None
    if loaded.decision is not None:
      called = bool(loaded.decision.apply(np.array([raw]))[1][0])
      threshold = float(loaded.decision.point.threshold['value'])
      frequencies = frequencies_answer(loaded.metrics, called)
    cancer = {
      'raw': raw,
      'calibrated': _or_none(loaded, calibrated),
      'percentile': percentile(loaded.reference, calibrated),
      'called': called,
      'threshold': threshold,
      'rule': loaded.decision.point.rule if loaded.decision else None,
    }
  return {
    'laterality': asked[0].attributes.get('laterality') or None,
    'n_images': len(asked),
    'images': [one.id for one in asked],
    'cancer': cancer,
    'frequencies': frequencies,
    'density': density_answer(loaded.target, said),
  }


def density_answer(
  target: str, said: Sequence[inference.Prediction]
) -> dict[str, Any] | None:
  """Mean probabilities of A to D, and the rating 1 to 4; None without them."""
  if target == 'cancer':
    return None
  rows = np.array([list(one.probabilities.values()) for one in said])
  mean = rows.mean(axis=0)
  if target == 'density_cancer':
    mean = mean.reshape(len(schema.DENSITIES), 2).sum(axis=1)
  found = dict(zip(schema.DENSITIES, map(float, mean), strict=True))
  return {**found, 'rating': int(mean.argmax()) + 1}


def percentile(reference: np.ndarray, value: float) -> float | None:
  """Share of sorted `reference` below a value, of 100; ties count half."""
  if not len(reference):
    return None
  below = np.searchsorted(reference, value, 'left')
  not_above = np.searchsorted(reference, value, 'right')
  return float(100 * (below + not_above) / 2 / len(reference))


def frequencies_answer(
  metrics: Mapping[str, Any], called: bool
) -> dict[str, Any]:
  """How many with this call have cancer, here and in a screened population.

  By Bayes' theorem from sensitivity and specificity at the operating point,
  which were measured on patients that had no part in choosing it.
  """
  figures = (metrics.get('decision') or {}).get('figures') or {}
  sensitivity = (figures.get('sensitivity') or {}).get('value')
  specificity = (figures.get('specificity') or {}).get('value')
  seen = metrics.get('breast') or {}
  prevalence = seen.get('prevalence')
  if None in (sensitivity, specificity, prevalence):
    return {
      'of': _WOMEN,
      'called': called,
      'with_cancer': None,
      'sentence': _NO_FREQUENCIES,
      'screening': None,
    }
  rates = sensitivity, specificity
  here = {
    'set': 'validation',
    'breasts': seen['n'],
    'breasts_with_cancer': seen['positives'],
    'sensitivity': sensitivity,
    'specificity': specificity,
    **_frequency(
      rates,
      called,
      prevalence,
      f'in the validation set ({seen["n"]} breasts)',
    ),
  }
  screened = _frequency(
    rates, called, SCREENING_PREVALENCE, 'in a screened population'
  )
  return {**here, 'screening': {'set': 'screening', **screened}}


def _frequency(rates, called: bool, prevalence: float, where: str) -> dict:
  chance = post_test(*rates, prevalence, called)
  result = 'is' if called else 'is not'
  found = {
    'of': _WOMEN,
    'called': called,
    'prevalence': prevalence,
    'with_cancer': None if chance is None else _WOMEN * chance,
  }
  if chance is None:
    found['sentence'] = _NO_FREQUENCIES
    return found
  n = round(_WOMEN * chance)
  number = f'about {n}' if n else 'fewer than 1'
  has = 'has' if n == 1 or not n else 'have'
  found['sentence'] = (
    f'Of {_WOMEN:,} women with this result (the breast {result} called '
    f'positive), {number} {has} cancer in that breast, where '
    f'{100 * prevalence:.3g} % of breasts do, as {where}.'
  )
  return found


def post_test(
  sensitivity: float, specificity: float, prevalence: float, called: bool
) -> float | None:
  """Probability of cancer after a call; None where no such call can occur."""
  ill = sensitivity if called else 1 - sensitivity
  well = 1 - specificity if called else specificity
  total = ill * prevalence + well * (1 - prevalence)
  return ill * prevalence / total if total > 0 else None


def _joined(
  loaded: loaded_lib.LoadedModel, asked: Sequence[Asked]
) -> float | None:
  """The breast's raw probability, joined as the run joins its images."""
  values = [one.prediction.cancer for one in asked]
  if None in values:
    return None
  how = loaded.model.config.eval.aggregate
  views = np.array([str(one.attributes.get('view') or '') for one in asked])
  if how == 'learned' and loaded.learned is None:
    how = 'mean'  # the run was never judged
  (found,) = aggregate.combine(
    np.zeros(len(asked), np.int64),
    np.array(values, np.float64),
    1,
    how=how,
    views=views,
    learned=loaded.learned,
  )
  return float(found)


def _breasts(asked: Sequence[Asked]) -> list[list[Asked]]:
  """The images of each side; one whose side is not known stands alone."""
  found: dict[Any, list[Asked]] = {}
  for i, one in enumerate(asked):
    side = one.attributes.get('laterality')
    found.setdefault(side or i, []).append(one)
  return list(found.values())


def _or_none(loaded: loaded_lib.LoadedModel, value: float) -> float | None:
  return None if loaded.decision is None else float(value)


def _number(value: Any) -> float | None:
  """A known, finite number, or None."""
  if value is None or value == schema.MISSING or isinstance(value, str):
    return None
  return float(value) if math.isfinite(value) else None
