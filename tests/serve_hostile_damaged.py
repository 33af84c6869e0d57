"""A19: mammograms damaged at random, the same way at every run."""

import functools
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import serve_mammograms as mammograms
from serve_hostile import OK, Case, case

from rsna_jax.serve import problems

_SCRIPTS = pathlib.Path(__file__).parents[1] / 'scripts'
_DICOM = 70  # five of each transfer syntax
_PICTURES = 45
# Damage need not show, and may lead anywhere but to a fault of the server.
_ANSWERS = (
  OK,
  *(code for code, status in problems.STATUSES.items() if status in (400, 422)),
)


def cases() -> Iterator[Case]:
  for index in range(_DICOM):
    # The first two of many are big.
    make = functools.partial(_dicom, index + 2)
    yield case('A19', f'DICOM {index}', make, *_ANSWERS)
  for index in range(_PICTURES):
    make = functools.partial(_picture, index)
    yield case('A19', f'picture {index}', make, *_ANSWERS, 'E_TYPE')


def _dicom(index: int) -> bytes:
  sys.path.insert(0, str(_SCRIPTS))
  try:
    import fuzz_files
  finally:
    sys.path.remove(str(_SCRIPTS))
  return fuzz_files.damaged(index, seed=11).data


def _picture(index: int) -> bytes:
  rng = np.random.default_rng([19, index])
  kind = ('PNG', 'JPEG', 'PPM')[index % 3]
  data = bytearray(mammograms.picture(mammograms.grey(index % 4), kind))
  for _ in range(int(rng.choice((1, 3, 30)))):
    at, what = int(rng.integers(len(data))), int(rng.integers(3))
    if what == 0:
      data[at] ^= 1 << int(rng.integers(8))
    elif what == 1:
      data[at : at + 16] = rng.bytes(16)
    else:
      del data[at : at + int(rng.integers(1, 64))]
  return bytes(data)
