"""Which images a contact sheet shows: every kind, and the odd ones first.

A sheet of the first sixty images would show one hospital's easy ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsna_jax.audit import checks, counts

# Of each odd kind, and of each extreme.
_EACH = 6
_ORDINARY_VIEWS = ('CC', 'MLO', None)
_Image = checks.Image


def _fact(image: _Image, name: str, default: Any = None) -> Any:
  return (image.facts or {}).get(name, default)


def _file(name: str) -> Callable[[_Image], Any]:
  return counts.FILE[name][1]


def _view(image: _Image) -> Any:
  return counts.TABLE['view'][1](image)


# What is said of an image -> whether it holds.
_ODD: dict[str, Callable[[_Image], bool]] = {
  'no standard image': lambda x: bool(x.error),
  'warning': lambda x: bool(_fact(x, 'warnings')),
  'implant': lambda x: counts.TABLE['implant'][1](x) == 1,
  'unusual view': lambda x: _view(x) not in _ORDINARY_VIEWS,
  'bar or frame': lambda x: (_file('beside')(x) or '').startswith('a bar'),
  'large thing beside': lambda x: _file('beside')(x) == 'something large',
  'dark breast on bright': lambda x: (
    bool(_fact(x, 'inverted')) and not _fact(x, 'photometric')
  ),
}
# Of these the greatest are shown.
_EXTREME: dict[str, Callable[[_Image], float]] = {
  'smallest box': lambda x: -_fact(x, 'box_share', 1.0),
  'largest box': lambda x: _fact(x, 'box_share', 0.0),
  'brightest beside': lambda x: _fact(x, 'outside', 0.0),
}


def choose(
  images: Sequence[_Image], *, cap: int = 60, seed: int = 0
) -> list[tuple[_Image, list[str]]]:
  """Chooses by kinds in turn: odd ones, extremes, then each ordinary stratum.

  Args:
    images: those without a file, or with one that cannot be read, are passed
      over; facts may be absent.
    cap: most images to choose.
    seed: of the choice within a kind.

  Returns:
    Images, and what is special about each; an ordinary one has [].
  """
  chance = np.random.default_rng(seed)
  usable = [
    image
    for image in images
    if image.item.file and (image.facts is not None or not image.error)
  ]
  order = [usable[i] for i in chance.permutation(len(usable))]
  tags: dict[int, list[str]] = {}
  queues = []
  for tag, holds in _ODD.items():
    members = [image for image in order if holds(image)]
    for image in members:
      tags.setdefault(id(image), []).append(tag)
    queues.append(_spread(members)[:_EACH])
  for tag, measure in _EXTREME.items():
    ranked = sorted(order, key=measure, reverse=True)
    # Of a dozen images, an extreme is nothing special.
    few = min(_EACH, len(order) // 10)
    members = [x for x in ranked if x.facts and 'box' in x.facts][:few]
    if tag == 'brightest beside':
      members = [x for x in members if measure(x) > 0.001]
    for image in members:
      tags.setdefault(id(image), []).append(tag)
    queues.append(members)
  queues.append(_spread(order))
  chosen: dict[int, _Image] = {}
  for turn in range(max(map(len, queues), default=0)):
    for queue in queues:
      if turn < len(queue) and len(chosen) < cap:
        chosen.setdefault(id(queue[turn]), queue[turn])
  found = [(image, tags.get(key, [])) for key, image in chosen.items()]
  return sorted(found, key=lambda pair: (not pair[1], *pair[1][:1]))


def _spread(images: Sequence[_Image]) -> list[_Image]:
  """The images, so that each stratum's first comes before a second."""
  seen: dict[Any, int] = {}
  ranked = []
  for i, image in enumerate(images):
    stratum = (
      image.known('machine_id'),
      _file('polarity')(image),
      _view(image),
      _file('chest_side')(image),
    )
    place = seen[stratum] = seen.get(stratum, -1) + 1
    ranked.append((place, i))
  return [images[i] for _, i in sorted(ranked)]
