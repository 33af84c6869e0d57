"""`rsna-jax doctor`: what is installed, which devices, and what would run."""

import importlib
import importlib.metadata
import os
import platform
import sys

_REQUIRED = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'pydicom',
  'pylibjpeg',
  'pylibjpeg-openjpeg',
  'imagecodecs',
  'pillow',
  'tensorflow-datasets',
  'array_record',
  'ml-collections',
  'tensorboardX',
  'jinja2',
  'tqdm',
  'importlib_resources',
  'absl-py',
)
# Extra -> its package and what it is for.
_OPTIONAL = {
  'tf': ('tensorflow', 'tensorflow-cpu', 'data.reader=tf (tf.data)'),
  'plots': ('matplotlib', 'matplotlib', 'curves in reports'),
  'fast': ('numba', 'numba', 'JPEG lossless twice as fast in prepare'),
  'beam': ('apache_beam', 'apache-beam', 'prepare --beam-runner'),
}


def doctor() -> int:
  """Prints the state of the installation.

  Returns:
    0 when training and predicting would run here, else 2.
  """
  faults = []
  print(f'Python {platform.python_version()} on {platform.platform()}')
  if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    faults.append('Python: use 3.11, 3.12 or 3.13')
  for name in _REQUIRED:
    found = _version(name)
    print(f'  {name:22} {found or "MISSING"}')
    if found is None:
      faults.append(f'{name} is missing: pip install --editable .')
  for extra, (module, name, purpose) in _OPTIONAL.items():
    found = _version(name) or _version(module)
    text = found or f"not installed: pip install --editable '.[{extra}]'"
    print(f'  {name:22} {text}  ({purpose})')
  faults += _check('decoding', _decoding)
  faults += _check('devices', _devices)
  faults += _check('one compiled step', _one_step)
  print(f'cores: {os.cpu_count()}, memory: {_memory_gib():.0f} GiB')
  for fault in faults:
    print(f'FAULT: {fault}')
  print('ready' if not faults else f'not ready: {len(faults)} fault(s)')
  return 2 if faults else 0


def _check(name: str, call) -> list[str]:
  try:
    print(f'{name}: {call()}')
    return []
  except Exception as error:  # whatever it is, it has to be shown
    text = str(error).splitlines()[0] if str(error) else ''
    return [f'{name}: {type(error).__name__}: {text}']


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def _decoding() -> str:
  """Encodes and decodes a picture in each syntax that RSNA has."""
  import imagecodecs
  import numpy as np
  import openjpeg.utils

  from rsna_jax.data import fused, openjp2

  pixels = (np.arange(96 * 64, dtype=np.uint16) * 7 % 4096).reshape(96, 64)
  lossless = imagecodecs.jpeg8_encode(
    pixels, lossless=True, predictor=1, bitspersample=12
  )
  if not np.array_equal(imagecodecs.jpeg8_decode(lossless), pixels):
    raise RuntimeError('JPEG lossless does not decode exactly')
  code = openjpeg.utils.encode_array(
    pixels, bits_stored=12, photometric_interpretation=2
  )
  decoded = openjpeg.utils.decode(bytes(code))
  if not np.array_equal(decoded.reshape(pixels.shape), pixels):
    raise RuntimeError('JPEG 2000 does not decode exactly')
  fused_found = 'with' if fused.available() else 'without'
  openjpeg_found = 'at any level' if openjp2.library() else 'in full alone'
  return (
    f'JPEG 2000 ({openjpeg_found}) and JPEG lossless ({fused_found} the extra '
    'fast) decode exactly'
  )


def _devices() -> str:
  import jax

  devices = jax.devices()
  kinds = sorted({device.device_kind for device in devices})
  return f'{len(devices)} {devices[0].platform} ({", ".join(kinds)})'


def _one_step() -> str:
  import jax
  import jax.numpy as jnp

  total = jax.jit(lambda x: jnp.sum(x @ x))(jnp.ones((64, 64)))
  if float(total) != 64.0**3:
    raise RuntimeError(f'a matrix product is wrong: {float(total)}')
  modes = 'pmap, shard_map, jit'
  return f'right; parallel.mode: {modes} on {jax.device_count()} device(s)'


def _memory_gib() -> float:
  try:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
  except (OSError, ValueError):
    return float('nan')
