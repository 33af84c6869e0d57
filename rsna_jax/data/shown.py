"""One file from outside as a network's image and as a picture for eyes.

It runs in the child processes of `data/sandbox.py`, and so needs no JAX: what
places a standard image in the original is handed back beside it.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsna_jax.data import grey, image, mammogram, preprocess, pyramid, resize


def standard_files(
  item: tuple[str | os.PathLike | bytes, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
  """Decodes a file once and standardises it in several ways.

  Args:
    item: path or bytes of the file, and a `preprocess.Spec.to_json()` for each
      way, at least one.

  Returns:
    `pixels`, a list of (H, W) uint8 or uint16; `box`, the breast in original
    pixels; and the `attributes` that the file has.

  Raises:
    errors.InputError: the file is no usable mammogram.
  """
  source, specs = item
  found = image.open_mammogram(source)
  made = [
    preprocess.standardise(found, preprocess.Spec.from_json(spec))
    for spec in specs
  ]
  return {
    'pixels': [standard.pixels for standard in made],
    'box': tuple(map(float, made[0].box)),
    'attributes': dict(found.attributes),
  }


def shown_file(
  item: tuple[str | os.PathLike | bytes, Mapping[str, Any], int],
) -> dict[str, Any]:
  """Decodes a file, standardises it, and shows the whole of it.

  Args:
    item: path or bytes of the file, `preprocess.Spec.to_json()`, and the most
      pixels on the longer side of the picture; 0 for none.

  Returns:
    `pixels` (H, W), `box`, `attributes`, `to_original` (2, 3) and
    `original_shape` of the standard image, and `picture`: (h, w) uint8 of the
    whole original, bright breast on black, or None.

  Raises:
    errors.InputError: the file is no usable mammogram.
  """
  source, spec, longest = item
  how = preprocess.Spec.from_json(spec)
  found = image.open_mammogram(source)
  standard = preprocess.standardise(found, how)
  picture = None
  if longest:
    picture = whole(found, how, standard.inverted, longest)
  return {
    'pixels': standard.pixels,
    'box': tuple(map(float, standard.box)),
    'attributes': dict(found.attributes),
    'to_original': np.asarray(standard.to_original),
    'original_shape': tuple(map(int, standard.original_shape)),
    'picture': picture,
  }


def whole(
  found: mammogram.Mammogram,
  spec: preprocess.Spec,
  inverted: bool,
  longest: int,
) -> np.ndarray:
  """The whole of an original as a picture for eyes.

  Args:
    found: as a reader returned it.
    spec: whose window counts.
    inverted: whether dark and bright are exchanged, as its standard image says.
    longest: pixels of the longer side, at the most.

  Returns:
    (h, w) uint8, bright breast on black.
  """
  levels = pyramid.of(found.pixels)
  rows, cols = levels.shape
  scale = min(1.0, longest / max(rows, cols))
  size = max(1, round(rows * scale)), max(1, round(cols * scale))
  level = 0
  while max(levels.level_shape(level + 1)) >= max(size):
    level += 1
  stored = levels.level(level)
  values = grey.curve(found, spec.window, stored)(stored)
  if inverted and not grey.is_inverted(found):
    values = 1 - values
  mask = grey.padding_mask(found, stored)
  if mask is not None:
    values[mask] = 0
  # Sample i of a level stands at the centre of pixel 2 ** level * i.
  edges = tuple((u - 0.5) / 2**level + 0.5 for u in (0, 0, rows, cols))
  return np.rint(resize.area(values, size, edges) * 255).astype(np.uint8)
