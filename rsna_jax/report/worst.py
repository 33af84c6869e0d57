"""The worst errors of an evaluation as pictures, chosen by rule, not by hand.

The highest-scored breasts without cancer and the lowest-scored with it; of each
the image that speaks most for cancer, and beside it where the model looked.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from rsna_jax import schema
from rsna_jax.data import preprocess
from rsna_jax.report import heatmap

MOST = 12
_HEIGHT = 360  # pixels of a picture on the page
_QUALITY = 82


class Images(Protocol):
  """What gives encoded standard images of rows, as `data.dataset` does."""

  def read(self, indices: Sequence[int]) -> list[bytes]: ...


def choose(
  columns: Mapping[str, np.ndarray],
  probability: np.ndarray,
  breasts: Mapping[str, np.ndarray],
  count: int,
) -> list[dict[str, Any]]:
  """Which images stand for the worst errors.

  Args:
    columns: of the table, (N,) each.
    probability: (N,) of the images.
    breasts: `prediction_id`, `label` (-1 unknown) and `cancer` (probability),
      (B,) each.
    count: how many, half of them of either kind, `MOST` at most.

  Returns:
    {'kind': 'false positive' | 'false negative', 'rank' (from 1), 'index' (of
    the image, 0 to N - 1), 'prediction_id', 'breast', 'image' (probabilities)}
    each, false positives first.
  """
  half = min(count, MOST) // 2
  label = np.asarray(breasts['label'])
  cancer = np.asarray(breasts['cancer'], np.float64)
  names = np.asarray(breasts['prediction_id']).tolist()
  rows: dict[str, list[int]] = {}
  for i, name in enumerate(np.asarray(columns['prediction_id']).tolist()):
    rows.setdefault(name, []).append(i)
  found = []
  for kind, value, score in (
    ('false positive', 0, -cancer),
    ('false negative', 1, cancer),
  ):
    of_kind = np.flatnonzero(label == value)
    # Equal scores go by name, so that the same errors are shown every time.
    ranked = sorted(of_kind.tolist(), key=lambda i: (score[i], names[i]))
    for rank, b in enumerate(ranked[:half], start=1):
      index = max(rows[names[b]], key=lambda i: (probability[i], -i))
      found.append(
        {
          'kind': kind,
          'rank': rank,
          'index': index,
          'prediction_id': names[b],
          'breast': float(cancer[b]),
          'image': float(probability[index]),
        }
      )
  return found


def pictures(
  columns: Mapping[str, np.ndarray],
  probability: np.ndarray,
  breasts: Mapping[str, np.ndarray],
  data: Images,
  rows: np.ndarray,
  *,
  explain: Callable[[int], np.ndarray | None] | None = None,
  count: int = MOST,
) -> list[dict[str, Any]]:
  """The worst errors, ready for the page.

  Args:
    columns: of the table of the judged rows, (N,) each.
    probability: (N,) of the images.
    breasts: as in `choose`.
    data: the prepared data set.
    rows: (N,) the row in `data` of each row of the table.
    explain: row in `data` -> (H, W) map in [0, 1] over the standard image, or
      None where there is none.
    count: how many; 0: none.

  Returns:
    What `choose` returns, with `image_id`, `view`, `laterality`, `age` (text),
    and `picture` and `map` (JPEG files, the latter or None).
  """
  found = choose(columns, probability, breasts, count)
  if not found:
    return []
  places = [int(rows[x['index']]) for x in found]
  for one, place, encoded in zip(found, places, data.read(places), strict=True):
    i = one['index']
    pixels = decode(encoded)
    values = explain(place) if explain is not None else None
    one |= {
      'image_id': int(columns['image_id'][i]),
      'view': str(columns['view'][i]),
      'laterality': str(columns['laterality'][i]),
      'age': _age(columns['age'][i]),
      'picture': jpeg(pixels),
      'map': None
      if values is None
      else jpeg(heatmap.coloured(pixels, np.clip(values, 0, 1))),
    }
  return found


def decode(encoded: bytes) -> np.ndarray:
  """(H, W) uint8 of a PNG of 8 or 16 bits."""
  pixels = preprocess.decode_png(encoded)
  return (pixels >> 8 * (pixels.itemsize - 1)).astype(np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
  """A JPEG, no higher than the page shows it, of (H, W) or (H, W, 3) uint8."""
  picture = Image.fromarray(pixels)
  scale = _HEIGHT / picture.height
  if scale < 1:
    size = max(1, round(picture.width * scale)), _HEIGHT
    picture = picture.resize(size, Image.Resampling.BOX)
  out = io.BytesIO()
  picture.save(out, format='JPEG', quality=_QUALITY)
  return out.getvalue()


def _age(value: float) -> str:
  value = float(value)
  missing = value != value or value == schema.MISSING
  return 'age unknown' if missing else f'age {value:.0f}'
