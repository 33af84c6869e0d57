"""An answer as the page tells it: the JSON's figures in words and charts."""

from collections.abc import Mapping, Sequence
from typing import Any

from rsna_jax.serve.answering import loaded as loaded_lib
from rsna_jax.serve.answering import uploads
from rsna_jax.serve.pages import place_chart
from rsna_jax.serve.pages import words as words_lib

_percent = place_chart.percent


def shown(
  t: words_lib.Words,
  answer: Mapping[str, Any],
  loaded: loaded_lib.LoadedModel,
  kept: Sequence[uploads.Kept],
) -> dict[str, Any]:
  """The answer with what the templates need beside it.

  Args:
    t: the texts.
    answer: of `answers.answer`.
    loaded: the model that gave it.
    kept: the uploads, in the order of its images.
  """
  images = [
    {
      **image,
      'shape': one.upload.original_shape,
      'shown': one.upload.picture.shape,
    }
    for image, one in zip(answer['images'], kept, strict=True)
  ]
  breasts = sorted(answer['breasts'], key=_side)
  return {
    **answer,
    'images': sorted(images, key=lambda image: (_view(image), _side(image))),
    'breasts': [_breast(t, one, loaded) for one in breasts],
  }


def _side(one: Mapping[str, Any]) -> int:
  """Right before left, as mammograms are hung."""
  return 'RL'.find(one['laterality'] or '?') % 3


def _view(image: Mapping[str, Any]) -> int:
  return 'CC,MLO'.find(image['view'] or '?') % 7


def _breast(
  t: words_lib.Words, breast: Mapping[str, Any], loaded: loaded_lib.LoadedModel
) -> dict[str, Any]:
  found = {
    **breast,
    'place': None,
    'percentile': None,
    'point': '',
    'sentences': [],
  }
  cancer, said = breast['cancer'], breast['frequencies']
  if not cancer:
    return found
  n = len(loaded.reference)
  if n:
    value = cancer['calibrated']
    found['place'] = place_chart.draw(
      t,
      cancer['raw'] if value is None else value,
      cancer['threshold'],
      loaded.reference,
      loaded.labels,
    )
    found['percentile'] = t(
      'breast.percentile',
      percent=_percent(round(cancer['percentile']) / 100),
      n=f'{n:,}',
      positives=f'{int((loaded.labels == 1).sum()):,}',
    )
  if said:
    found['sentences'] = frequencies(t, said)
    if said.get('sensitivity') is not None:
      found['point'] = t(
        'breast.point',
        sensitivity=_percent(said['sensitivity']),
        false=_percent(1 - said['specificity']),
      )
  return found


def frequencies(t: words_lib.Words, said: Mapping[str, Any]) -> list[str]:
  """Sentences of natural frequencies: in the validation set, in screening."""
  found = []
  for part in (said, said.get('screening')):
    if not part or part['with_cancer'] is None:
      continue
    n = round(part['with_cancer'])
    key = 'frequency.called' if part['called'] else 'frequency.not_called'
    where = t(
      f'frequency.where.{part["set"]}', prevalence=_percent(part['prevalence'])
    )
    found.append(t(key if n else f'{key}.none', n=n, where=where))
  return found or [t('frequency.unknown')]
