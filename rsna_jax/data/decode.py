"""One file from outside as the network's image; runs in a child process.

It stands apart from `inference`, so that a child need not import JAX.
"""

import os
from typing import Any

from rsna_jax.data import image, preprocess


def standard_file(
  item: tuple[str | os.PathLike | bytes, dict],
) -> dict[str, Any]:
  """Decodes and standardises a file.

  Args:
    item: path or bytes of the file, and `preprocess.Spec.to_json()`.

  Returns:
    `pixels` (H, W) uint8 or uint16, `box` (top, left, bottom, right of the
    breast in original pixels), and the `attributes` that the file has.

  Raises:
    errors.InputError: the file is no usable mammogram.
  """
  source, spec = item
  mammogram = image.open_mammogram(source)
  standard = preprocess.standardise(mammogram, preprocess.Spec.from_json(spec))
  return {
    'pixels': standard.pixels,
    'box': tuple(float(edge) for edge in standard.box),
    'attributes': dict(mammogram.attributes),
  }
