"""A server for tests in a browser: a tiny run, people, and files to upload."""

import contextlib
import dataclasses
import io
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import serve_mammograms
import serve_store
import tiny
from PIL import Image

START_S = 120
_ADDRESS = re.compile(r'http://127\.0\.0\.1:\d+')
_LAX = {
  'requests_per_minute': 100_000,
  'uploads_per_minute': 10_000,
  'submissions_per_day': 1_000,
}


@dataclasses.dataclass(frozen=True)
class Site:
  """A running server.

  Attributes:
    address: without a slash at its end.
    run: the run that it began with.
    store: its folder.
  """

  address: str
  run: pathlib.Path
  store: pathlib.Path


def train(data_dir: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
  """A run of 8 steps that rates density and cancer, with a calibration."""
  from rsna_jax import train as train_lib

  config = tiny.make_config(
    data_dir,
    data__target='density_cancer',
    loss__name='cross_entropy',
    eval__calibration='platt',
    model__metadata=(),
  )
  train_lib.train_and_evaluate(config, workdir)
  return workdir


@contextlib.contextmanager
def serving(
  run: pathlib.Path, store: pathlib.Path, people: bool = True, **settings
):
  """Runs `rsna-jax serve` on a free port until the block ends.

  Args:
    run: that a new store starts with.
    store: its folder.
    people: whether the store is a new one, and gets those of
      `serve_store.make`, with its password.
    settings: of the server.
  """
  if people:
    serve_store.make(store).db.close()
  command = [sys.executable, '-m', 'rsna_jax.cli', 'serve']
  command += ['--workdir', str(run), '--store', str(store), '--port', '0']
  for name, value in {**_LAX, **settings}.items():
    command += ['--set', f'{name}={value}']
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONUNBUFFERED': '1'}
  process = subprocess.Popen(
    command,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  lines: list[str] = []
  # Read for ever: a full pipe would stop the server.
  reader = threading.Thread(
    target=lambda: lines.extend(process.stdout), daemon=True
  )
  reader.start()
  try:
    yield Site(_address(process, lines), run, store)
  finally:
    process.terminate()
    try:
      process.wait(30)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
    reader.join(5)


def _address(process: subprocess.Popen, lines: list[str]) -> str:
  """Where it is, once a model is ready."""
  end = time.monotonic() + START_S
  while time.monotonic() < end:
    assert process.poll() is None, ''.join(lines)
    found = _ADDRESS.search(''.join(lines))
    if found:
      with contextlib.suppress(urllib.error.URLError):
        urllib.request.urlopen(f'{found[0]}/ready', timeout=5).close()
        return found[0]
    time.sleep(0.2)
  raise AssertionError('no model is ready:\n' + ''.join(lines))


def write_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """A mammogram of each kind, each another one, and a photograph."""
  of = serve_mammograms
  deep = of.grey(2).astype(np.uint16) * 257
  grey = of.grey(3)
  warm = np.stack([grey, grey, np.minimum(grey, 250)], axis=-1)
  made = {
    'left.dcm': of.dicom(of.grey(0), ImageLaterality='L', ViewPosition='CC'),
    'right.dcm': of.dicom(
      of.grey(1)[:, ::-1], ImageLaterality='R', ViewPosition='MLO'
    ),
    'deep.png': of.picture(deep, 'PNG'),
    'colour.jpg': of.picture(Image.fromarray(warm), 'JPEG', quality=95),
    'grey.pgm': _pgm(of.grey(4)),
    'shallow.png': of.picture(of.grey(5), 'PNG'),
    'another.png': of.picture(of.grey(6), 'PNG'),
    'keyboard.png': of.picture(of.grey(7), 'PNG'),
    'plain.png': of.picture(of.grey(8), 'PNG'),
    'photograph.png': _photograph(),
  }
  for name, data in made.items():
    (folder / name).write_bytes(data)
  return {name: folder / name for name in made}


def _pgm(pixels: np.ndarray) -> bytes:
  rows, columns = pixels.shape
  return b'P5\n%d %d\n255\n' % (columns, rows) + pixels.tobytes()


def _photograph() -> bytes:
  """A landscape: blue above, green below, a red house."""
  y, x = np.mgrid[:300, :400]
  chance = np.random.default_rng(0)
  red = np.where(y < 150, 90 + y // 3, 60)
  green = np.where(y < 150, 140 + y // 3, 120 + 40 * np.sin(x / 9))
  blue = np.where(y < 150, 220, 50)
  picture = np.stack([red, green, blue], axis=-1)
  picture[120:220, 150:260] = 190, 60, 50
  noisy = picture + 12 * chance.standard_normal(picture.shape)
  out = io.BytesIO()
  Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, 'PNG')
  return out.getvalue()
