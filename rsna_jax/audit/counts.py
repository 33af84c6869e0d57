"""The values that a set's images have, how often, and the cancers among them.

One table of columns serves the counts, the machines and the shortcuts, so that
all of them speak of the same thing.
"""

import collections
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydicom import uid

from rsna_jax import schema
from rsna_jax.audit import checks
from rsna_jax.stats import distributions, shortcuts

MOST_VALUES = 12  # of a column; the rest is summed up
_Value = Callable[[checks.Image], Any]


def _row(name: str) -> _Value:
  return lambda image: image.known(name)


def _fact(name: str) -> _Value:
  return lambda image: None if image.facts is None else image.facts.get(name)


def _encoding(name: str) -> _Value:
  return lambda image: (
    None if image.facts is None else _shown(image.facts['encoding'].get(name))
  )


def _shown(value: Any) -> Any:
  return ' x '.join(map(str, value)) if isinstance(value, list) else value


def _age_band(image: checks.Image) -> str | None:
  age = image.known('age')
  if age is None:
    age = _attribute(image, 'age')
  if age is None:
    return None
  low = 40 if age < 40 else min(int(age) // 10 * 10, 80)
  return {40: 'under 50', 80: '80 and over'}.get(low, f'{low} to {low + 9}')


def _attribute(image: checks.Image, name: str) -> Any:
  return (image.facts or {}).get('attributes', {}).get(name)


def _either(name: str) -> _Value:
  """The table's value, or the header's where there is no row."""

  def value(image: checks.Image) -> Any:
    if image.item.row is not None:
      return image.known(name)
    return _attribute(image, name)

  return value


def _density(image: checks.Image) -> str | None:
  value = image.known('density')
  return None if value is None else schema.DENSITIES[value - 1]


def _syntax(image: checks.Image) -> str | None:
  if image.facts is None:
    return None
  name = image.facts['encoding'].get('transfer_syntax')
  if not name:
    suffix = os.path.splitext(image.item.name)[1].lower()
    return f'picture, {suffix}' if not image.facts['photometric'] else None
  known = uid.UID(str(name)).name
  return name if known == name else f'{known} ({name})'


def _size(image: checks.Image) -> str | None:
  if image.facts is None:
    return None
  return f'{image.facts["rows"]} x {image.facts["columns"]}'


def _polarity(image: checks.Image) -> str | None:
  if image.facts is None:
    return None
  if image.facts['photometric']:
    shape = image.facts['presentation_lut_shape']
    return image.facts['photometric'] + (f', {shape}' if shape else '')
  dark = image.facts.get('inverted')
  return f'not said, looks {"inverted" if dark else "normal"}'


def _voi(image: checks.Image) -> str | None:
  if image.facts is None:
    return None
  if image.facts['voi_luts']:
    return 'VOI LUT'
  return image.facts['voi_function'] if image.facts['windows'] else 'no window'


def _side(image: checks.Image) -> str | None:
  flipped = (image.facts or {}).get('flipped')
  return None if flipped is None else 'right' if flipped else 'left'


def _padding(image: checks.Image) -> str | None:
  if image.facts is None:
    return None
  return 'given' if image.facts['padding'] else 'none'


def _beside(image: checks.Image) -> str | None:
  facts = image.facts or {}
  if 'outside' not in facts:
    return None
  if facts['outside_height'] > 0.9 or facts['outside_width'] > 0.9:
    return 'a bar or frame from edge to edge'
  if facts['outside_area'] > 0.02:
    return 'something large'
  return 'small things' if facts['outside'] > 0.001 else 'nothing'


# Name -> title and value of an image. Those of the table come first.
TABLE: dict[str, tuple[str, _Value]] = {
  'site_id': ('Site', _row('site_id')),
  'machine_id': ('Machine', _row('machine_id')),
  'view': ('View', _either('view')),
  'laterality': ('Laterality', _either('laterality')),
  'age': ('Age', _age_band),
  'implant': ('Implant', _either('implant')),
  'density': ('Density', _density),
}
FILE: dict[str, tuple[str, _Value]] = {
  'transfer_syntax': ('Transfer syntax', _syntax),
  'codec': ('Codec', _encoding('codec')),
  'levels': ('JPEG 2000: levels (COD)', _encoding('levels')),
  'transform': ('JPEG 2000: transform (COD)', _encoding('transform')),
  'tiles': ('JPEG 2000: tiles (SIZ)', _encoding('tiles')),
  'precision': ('Precision (SIZ or SOF3)', _encoding('precision')),
  'lossy': (
    'Lossy compression',
    lambda image: {True: 'yes', False: 'no'}.get(_encoding('lossy')(image)),
  ),
  'predictor': ('JPEG lossless: predictor', _encoding('predictor')),
  'size': ('Rows x columns', _size),
  'bits_stored': ('Bits stored', _fact('bits_stored')),
  'polarity': ('Polarity', _polarity),
  'voi_function': ('VOI function', _voi),
  'windows': ('Number of windows', _fact('windows')),
  'padding': ('Pixel padding value', _padding),
  'presentation_intent': (
    'Presentation intent',
    lambda image: _fact('presentation_intent')(image) or None,
  ),
  'chest_side': ('Chest wall, by content', _side),
  'beside': ('Beside the breast', _beside),
}
# Numbers of the picture that only the shortcuts look at.
NUMBERS: dict[str, tuple[str, _Value]] = {
  'rows': ('Rows', _fact('rows')),
  'columns': ('Columns', _fact('columns')),
  'box_share': ('Share of the breast box', _fact('box_share')),
  'outside': ('Bright area beside the breast', _fact('outside')),
}


def counts(images: Sequence[checks.Image]) -> list[dict[str, Any]]:
  """Each column that any image has a value of, and its values.

  Returns:
    {'name', 'title', 'values', 'more'} of each; a value is {'value' (text, or
    None where it is missing), 'images', 'patients', 'labelled', 'positives',
    'rate', 'low', 'high'} (the rate of cancer among the labelled, with a 95 %
    interval); 'more' is what the rarer values add up to, or None.
  """
  found = []
  for name, (title, value_of) in (TABLE | FILE).items():
    groups: dict[Any, list] = collections.defaultdict(list)
    for image in images:
      groups[value_of(image)].append(image)
    if set(groups) == {None}:
      continue
    ranked = sorted(groups, key=lambda v: (-len(groups[v]), str(v)))
    rest = [x for value in ranked[MOST_VALUES:] for x in groups[value]]
    found.append(
      {
        'name': name,
        'title': title,
        'values': [
          {'value': None if v is None else str(v)} | _figures(groups[v])
          for v in ranked[:MOST_VALUES]
        ],
        'more': (
          {'values': len(ranked) - MOST_VALUES} | _figures(rest)
          if rest
          else None
        ),
      }
    )
  return found


def machines(images: Sequence[checks.Image]) -> list[dict[str, Any]]:
  """Each machine, and the values that its files have, the commonest first."""
  groups: dict[Any, list] = collections.defaultdict(list)
  for image in images:
    groups[image.known('machine_id')].append(image)
  names = ('transfer_syntax', 'polarity', 'size', 'bits_stored', 'voi_function')
  found = []
  for machine in sorted(groups, key=lambda v: (-len(groups[v]), str(v))):
    members = groups[machine]
    described = {}
    for name in ('site_id', *names, 'chest_side'):
      value_of = (TABLE | FILE)[name][1]
      values = collections.Counter(value_of(x) for x in members)
      values.pop(None, None)
      described[name] = [
        {'value': str(value), 'images': n} for value, n in values.most_common()
      ]
    found.append(
      {'machine_id': machine} | _figures(members) | {'values': described}
    )
  return found


def predictors(
  images: Sequence[checks.Image], train_only: Sequence[str]
) -> dict[str, Any]:
  """How well each column alone, and groups of them, predict cancer.

  Args:
    images: of the set.
    train_only: columns that a test row lacks.

  Returns:
    `images`, `patients`, `positives`, `enough`; `columns`: {'name', 'title',
    'group' (train_only, metadata or file), 'auc'} of each; `together`: group ->
    auc. An auc is {'value', 'low', 'high'} or None.
  """
  chosen = checks.labelled(images)
  labels, patients = checks.label_arrays(chosen)
  found = shortcuts.Labelled(labels, patients)
  groups: dict[str, dict[str, tuple[str, _Value]]] = {
    'train_only': {
      name: (name, _row(name)) for name in train_only if name in schema.COLUMNS
    },
    'metadata': {
      name: (TABLE[name][0], _row(name)) for name in schema.METADATA_COLUMNS
    },
    'file': FILE | NUMBERS,
  }
  columns, together = [], {}
  for group, members in groups.items():
    values = {}
    for name, (title, value_of) in members.items():
      column = [value_of(image) for image in chosen]
      if len(set(map(str, column))) < 2:
        continue  # the same throughout, or not there at all
      values[name] = column
      auc = shortcuts.single(found, column)
      columns.append({'name': name, 'title': title, 'group': group, 'auc': auc})
    together[group] = shortcuts.together(found, values) if values else None
  return {
    'images': len(chosen),
    'patients': len(set(patients.tolist())),
    'positives': int(labels.sum()),
    'enough': found.enough,
    'columns': columns,
    'together': together,
  }


def _figures(members: Sequence[checks.Image]) -> dict[str, Any]:
  labels = [x.known('cancer') for x in members]
  known = [label for label in labels if label is not None]
  figures: dict[str, Any] = {
    'images': len(members),
    'patients': len({x.patient for x in members if x.patient}),
    'labelled': len(known),
    'positives': sum(known),
    'rate': None,
    'low': None,
    'high': None,
  }
  if known:
    low, high = distributions.wilson(
      np.array([sum(known)]), np.array([len(known)])
    )
    figures |= {
      'rate': sum(known) / len(known),
      'low': float(low[0]),
      'high': float(high[0]),
    }
  return figures
