"""Eight devices on the CPU, set before anything uses JAX, and a tiny run."""

import os
import signal
import tempfile

import jax
import pytest
import tiny

# A setting of this process alone: what a test starts finds its own devices.
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)

# A shell that starts the suite in the background has Ctrl-C ignored, and what a
# test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests compile more than they compute. What LLVM does not optimise is the same
# program, after all passes of XLA; commands that a test starts do likewise.
os.environ['XLA_FLAGS'] = ' '.join(
  [os.environ.get('XLA_FLAGS', ''), '--xla_backend_optimization_level=0']
).strip()

# Many tests compile the same program, and so do the commands they start.
# The process that starts pytest's workers makes the folder, for all of them.
# One that the environment names is taken, and serves the next time as well.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  _CACHE = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.0'
jax.config.update(
  'jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR']
)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


@pytest.fixture(scope='session')
def tiny_layout(tmp_path_factory):
  """An RSNA layout of pictures: 16 labelled patients, 2 without labels."""
  folder = tmp_path_factory.mktemp('layout')
  tiny.write_layout(folder)
  return folder


@pytest.fixture(scope='session')
def tiny_data(tiny_layout, tmp_path_factory):
  """The layout, prepared at 64x32."""
  from rsna_jax.data import convert, preprocess

  folder = tmp_path_factory.mktemp('data')
  spec = preprocess.Spec(size=(64, 32))
  convert.prepare(tiny_layout, folder, spec=spec, workers=2)
  return folder


@pytest.fixture(scope='session')
def tiny_run(tiny_data, tmp_path_factory):
  """A run of 8 steps that nothing disturbed. Not to be changed."""
  from rsna_jax import train

  workdir = tmp_path_factory.mktemp('whole') / 'run'
  train.train_and_evaluate(tiny.make_config(tiny_data), workdir)
  return workdir
