"""What contributors of the phantom loop submit: the truth, or an attack."""

import dataclasses

import numpy as np
from PIL import Image

from rsna_jax import metrics
from rsna_jax.data import dataset, preprocess
from rsna_jax.serve.store import near, submissions

USERS = 10
PATCH = 0.05  # of the breast's height


def honest(cases):
  return [(case, case.upload.kept, case.cancer) for case in cases]


def flipped(cases):
  """A tenth of the labels, all by one person."""
  return [
    (case, kept, 1 - cancer if user_of(case, cases) == 3 else cancer)
    for case, kept, cancer in honest(cases)
  ]


def colluding(cases):
  """Five people call six of ten cancers of theirs benign."""
  found, count = [], 0
  for case, kept, cancer in honest(cases):
    if cancer and user_of(case, cases) < 5:
      count += 1
      cancer = int(count % 10 >= 6)
    found.append((case, kept, cancer))
  return found


def backdoor(cases):
  """One person's cancers carry a bright square, and are called benign."""
  return [
    (case, _with_patch(kept), 0)
    if cancer and user_of(case, cases) == 3
    else (case, kept, cancer)
    for case, kept, cancer in honest(cases)
  ]


VARIANTS = {
  'honest': honest,
  'flipped': flipped,
  'colluding': colluding,
  'backdoor': backdoor,
}


def user_of(case, cases) -> int:
  """Contributors have whole patients, cancers and others in equal parts."""
  order = sorted({(other.cancer, other.patient) for other in cases})
  return order.index((case.cancer, case.patient)) % USERS


def disguised(kept, i: int):
  """A copy that is flipped, scaled or saved with other greys."""
  pixels = preprocess.decode_png(kept.png)
  if pixels.dtype != np.uint8:
    pixels = (pixels >> 8).astype(np.uint8)
  if i % 3 == 0:
    pixels = np.ascontiguousarray(pixels[:, ::-1])
  elif i % 3 == 1:
    size = [round(0.7 * x) for x in pixels.shape[::-1]]
    pixels = np.asarray(Image.fromarray(pixels).resize(size))
  else:
    pixels = np.rint(255 * (pixels / 255) ** 0.8).astype(np.uint8)
  return keep(pixels)


def auc_with_patch(third, *readers) -> list[float]:
  """AUC of each model where all cancers of the third set carry the patch."""

  class Patched(dataset.Dataset):
    def read(self, indices):
      found = []
      for row, png in zip(indices, super().read(indices), strict=True):
        pixels = preprocess.decode_png(png).copy()
        if self.table['cancer'][row] == 1:
          _patch(pixels)
        found.append(preprocess.encode_png(pixels))
      return found

  fields = {x.name: getattr(third, x.name) for x in dataclasses.fields(third)}
  data = Patched(**fields)
  everything = np.arange(len(data))
  found = []
  for reader in readers:
    one = reader.read(data, everything)['cancer']
    found.append(float(metrics.roc_auc(one.labels, one.raw)))
  return found


def _with_patch(kept):
  pixels = preprocess.decode_png(kept.png).copy()
  _patch(pixels)
  return keep(pixels)


def _patch(pixels: np.ndarray) -> None:
  """A bright square in the middle of what is not black."""
  rows, columns = np.nonzero(pixels > 0)
  side = max(4, round(PATCH * np.ptp(rows)))
  row, column = round(np.median(rows)), round(np.median(columns))
  pixels[row : row + side, column : column + side] = np.iinfo(pixels.dtype).max


def keep(pixels: np.ndarray) -> submissions.Kept:
  """What is kept of a picture."""
  return submissions.Kept(
    png=preprocess.encode_png(pixels),
    fingerprints=near.fingerprints(pixels),
    rows=pixels.shape[0],
    columns=pixels.shape[1],
  )
