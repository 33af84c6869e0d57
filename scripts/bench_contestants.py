"""From a DICOM file to a small PNG: the usual scripts, and this package.

Each contestant lives in a process of its own with one thread, which measures
itself. What the usual scripts do is written out here, so that it can be judged.
"""

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Mapping
from multiprocessing import connection
from typing import Any

import numpy as np

INSTALL = {
  'cv2': 'opencv-python-headless',
  'dicomsdl': 'dicomsdl==0.109.4',
  'gdcm': 'python-gdcm',
  'libjpeg': 'pylibjpeg-libjpeg',
  'numba': 'numba',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
  """A way to make a picture; `quality` and `numba` are of this package."""

  name: str
  script: str
  quality: str = ''
  numba: bool = False
  needs: tuple[str, ...] = ()

  def missing(self) -> list[str]:
    """Packages to install first."""
    absent = [n for n in self.needs if importlib.util.find_spec(n) is None]
    return [INSTALL[name] for name in absent]


def contestants(qualities: tuple[str, ...]) -> list[Contestant]:
  """The two usual scripts, then ours without and with the extra `fast`."""
  found = [
    Contestant(name='pydicom script', script='pydicom', needs=('cv2',)),
    Contestant(
      name='dicomsdl script', script='dicomsdl', needs=('cv2', 'dicomsdl')
    ),
  ]
  for quality in qualities:
    found.append(Contestant(name=quality, script='ours', quality=quality))
    found.append(
      Contestant(
        name=f'{quality}, numba',
        script='ours',
        quality=quality,
        numba=True,
        needs=('numba',),
      )
    )
  return found


def lossless_plugin() -> str:
  """pydicom's plug-in for JPEG lossless that a usual user has."""
  found = [n for n in ('gdcm', 'libjpeg') if importlib.util.find_spec(n)]
  if not found:
    raise SystemExit(
      'pydicom has no decoder of JPEG lossless: pip install --target DIR '
      'python-gdcm, and put DIR on PYTHONPATH'
    )
  return {'gdcm': 'gdcm', 'libjpeg': 'pylibjpeg'}[found[0]]


def pydicom_script(path: str, size: tuple[int, int]) -> bytes:
  """pydicom, its window, min-max in float64, crop, resize, PNG."""
  import pydicom
  from pydicom import pixels, uid

  ds = pydicom.dcmread(path)
  is_jpeg2000 = ds.file_meta.TransferSyntaxUID in uid.JPEG2000TransferSyntaxes
  ds.pixel_array_options(
    decoding_plugin='pylibjpeg' if is_jpeg2000 else lossless_plugin()
  )
  image = pixels.apply_voi_lut(ds.pixel_array, ds).astype(np.float64)
  if ds.PhotometricInterpretation == 'MONOCHROME1':
    image = image.max() - image
  image = image - image.min()
  image = image / image.max()
  return _picture((image * 255).astype(np.uint8), size)


def dicomsdl_script(path: str, size: tuple[int, int]) -> bytes:
  """dicomsdl, a linear window by hand in float32, crop, resize, PNG.

  Such scripts take a SIGMOID window for a linear one, which is cheaper, and
  another picture: skin beyond the window is lost, and with it some of the crop.
  """
  import dicomsdl

  ds = dicomsdl.open(path)
  info = ds.getPixelDataInfo()
  image = ds.pixelData(storedvalue=True).astype(np.float32)
  low = info['WindowCenter'] - info['WindowWidth'] / 2
  image -= low
  image *= 1 / info['WindowWidth']
  np.clip(image, 0, 1, out=image)
  if info['PhotometricInterpretation'] == 'MONOCHROME1':
    np.subtract(1, image, out=image)
  image *= 255
  return _picture(image.astype(np.uint8), size)


def _picture(image: np.ndarray, size: tuple[int, int]) -> bytes:
  """Crops the breast by its contour, resizes, turns, pads and encodes."""
  import cv2

  _, mask = cv2.threshold(image, 10, 255, cv2.THRESH_BINARY)
  contours, _ = cv2.findContours(
    mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
  )
  left, top, width, height = cv2.boundingRect(
    max(contours, key=cv2.contourArea)
  )
  crop = image[top : top + height, left : left + width]
  scale = min(size[0] / height, size[1] / width)
  fit = max(1, round(height * scale)), max(1, round(width * scale))
  small = cv2.resize(crop, fit[::-1], interpolation=cv2.INTER_AREA)
  half = fit[1] // 2
  if small[:, :half].sum(dtype=np.int64) < small[:, -half:].sum(dtype=np.int64):
    small = small[:, ::-1]
  out = np.zeros(size, np.uint8)
  offset = (size[0] - fit[0]) // 2
  out[offset : offset + fit[0], : fit[1]] = small
  return cv2.imencode('.png', out)[1].tobytes()


def ours(path: str, spec: Mapping[str, Any]) -> bytes:
  """What `rsna-jax prepare` does to a file, in this process."""
  from rsna_jax.data import convert

  made = convert.standard_example((path, dict(spec), None))
  return made['example']['image']


def spec_of(size: tuple[int, int], quality: str, bits: int = 8) -> dict:
  """A `preprocess.Spec` as JSON."""
  from rsna_jax.data import preprocess

  return preprocess.Spec(size=size, quality=quality, bits=bits).to_json()


@contextlib.contextmanager
def environment(ours: bool, numba: bool) -> Iterator[None]:
  """What a process that is started now inherits.

  Ours gets what the children of `rsna-jax prepare` get: one thread, and memory
  that is kept from image to image. The usual scripts get one thread.
  """
  from rsna_jax.data import sandbox

  changes = dict(sandbox.ENVIRONMENT)
  if not ours:
    changes = {k: v for k, v in changes.items() if 'MALLOC' not in k}
  changes['RSNA_JAX_NUMBA'] = str(int(numba))
  before = {name: os.environ.get(name) for name in changes}
  os.environ.update(changes)
  try:
    yield
  finally:
    for name, value in before.items():
      os.environ.pop(name)
      if value is not None:
        os.environ[name] = value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
  """CPU and wall milliseconds of one picture, peak memory in MB, its PNG."""

  cpu_ms: float
  wall_ms: float
  peak_mb: float
  png: bytes


class Worker:
  """A process that is one contestant, for as long as the benchmark lasts."""

  def __init__(self, contestant: Contestant):
    """Starts it; the first pictures it makes are not to be counted."""
    context = multiprocessing.get_context('spawn')
    self._pipe, theirs = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(theirs, contestant), daemon=True
    )
    with environment(contestant.script == 'ours', contestant.numba):
      self._process.start()
    theirs.close()
    self.name = contestant.name

  def measure(self, path: str, size: tuple[int, int]) -> Measurement:
    """Makes one picture."""
    self._pipe.send((path, size))
    try:
      found = self._pipe.recv()
    except EOFError:
      raise SystemExit(f'{self.name} died of {path}') from None
    if isinstance(found, str):
      raise SystemExit(f'{self.name}: {path}: {found}')
    return found

  def close(self) -> None:
    """Ends the process."""
    self._pipe.close()
    self._process.join(10)


def _serve(pipe: connection.Connection, contestant: Contestant) -> None:
  if contestant.script != 'ours':
    import cv2

    cv2.setNumThreads(1)
  while True:
    try:
      path, size = pipe.recv()
    except EOFError:
      return
    if contestant.script == 'ours':
      make, how = ours, spec_of(size, contestant.quality)
    else:
      make, how = globals()[f'{contestant.script}_script'], size
    try:
      _forget_peak()
      cpu, wall = _cpu_s(), time.perf_counter()
      png = make(path, how)
      cpu, wall = _cpu_s() - cpu, time.perf_counter() - wall
    except Exception as error:
      pipe.send(f'{type(error).__name__}: {error}')
      continue
    pipe.send(
      Measurement(
        cpu_ms=1e3 * cpu, wall_ms=1e3 * wall, peak_mb=_peak_mb(), png=png
      )
    )


def _cpu_s() -> float:
  """Of all threads, and of children that have ended."""
  children = resource.getrusage(resource.RUSAGE_CHILDREN)
  return time.process_time() + children.ru_utime + children.ru_stime


def _forget_peak() -> None:
  """Makes the peak of this process count from now, where Linux lets it."""
  try:
    with open('/proc/self/clear_refs', 'w', encoding='ascii') as file:
      file.write('5')
  except OSError:
    pass


def _peak_mb() -> float:
  try:
    with open('/proc/self/status', encoding='ascii') as file:
      line = next(line for line in file if line.startswith('VmHWM'))
    return int(line.split()[1]) / 1024
  except (OSError, StopIteration):
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
