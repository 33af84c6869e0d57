"""The cache of compiled programs: where it lies; it changes no result."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from rsna_jax import compile_cache

_FOLDER = 'JAX_COMPILATION_CACHE_DIR'


def test_it_lies_in_the_users_cache_and_is_theirs_alone(tmp_path):
  environ = {'XDG_CACHE_HOME': str(tmp_path / 'cache')}
  folder = pathlib.Path(compile_cache.turn_on(environ))
  assert environ[_FOLDER] == str(folder)
  assert folder.is_relative_to(tmp_path / 'cache' / 'rsna_jax')
  assert folder.stat().st_mode & 0o777 == 0o700
  assert compile_cache.turn_on({'XDG_CACHE_HOME': str(tmp_path / 'cache')})


def test_a_folder_that_is_named_is_taken(tmp_path):
  environ = {_FOLDER: str(tmp_path), 'XDG_CACHE_HOME': '/nowhere'}
  assert compile_cache.turn_on(environ) == str(tmp_path)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('value', ['0', 'false', 'False', 'off'])
def test_one_variable_turns_it_off(tmp_path, value):
  environ = {
    'XDG_CACHE_HOME': str(tmp_path),
    'JAX_ENABLE_COMPILATION_CACHE': value,
  }
  assert compile_cache.turn_on(environ) is None
  assert _FOLDER not in environ and list(tmp_path.iterdir()) == []


def test_without_a_folder_to_write_there_is_no_cache(tmp_path):
  (tmp_path / 'rsna_jax').write_text('a file stands where a folder is wanted')
  environ = {'XDG_CACHE_HOME': str(tmp_path)}
  assert compile_cache.turn_on(environ) is None and _FOLDER not in environ


def test_a_folder_that_others_may_write_is_not_used(tmp_path):
  environ = {'XDG_CACHE_HOME': str(tmp_path)}
  pathlib.Path(compile_cache.turn_on(environ)).chmod(0o777)
  assert compile_cache.turn_on({'XDG_CACHE_HOME': str(tmp_path)}) is None


def test_what_was_longest_unused_goes_first(tmp_path):
  for i, name in enumerate('abc'):
    (tmp_path / name).write_bytes(bytes(10))
    os.utime(tmp_path / name, (i, i))
  compile_cache.prune(tmp_path, 20)
  assert sorted(file.name for file in tmp_path.iterdir()) == ['b', 'c']
  compile_cache.prune(tmp_path / 'nothing', 20)


_STEP = """
import hashlib, json, sys
from rsna_jax import compile_cache
folder = compile_cache.turn_on()
assert 'jax' not in sys.modules
import jax, jax.numpy as jnp
import numpy as np
from rsna_jax.models import layers
hits = []
jax.monitoring.register_event_listener(
  lambda name, **_: hits.append(name.endswith('cache_hits')))
layer = layers.Depthwise3x3()
x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8, 16)), 'float32')
variables = layer.init(jax.random.key(0), x)
def loss(v, x):
  return jnp.mean(jnp.tanh(layer.apply(v, x)) ** 2)
step = jax.jit(lambda v, x: jax.tree.map(
  lambda p, g: p - g, v, jax.grad(loss)(v, x)))
for _ in range(3):
  variables = step(variables, x)
found = np.asarray(variables['params']['kernel']).tobytes()
print(json.dumps([hashlib.sha256(found).hexdigest(), sum(hits)]))
"""


def test_programs_from_the_disk_compute_the_same_bits(tmp_path):
  def run(**more):
    environ = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
    environ |= {'XDG_CACHE_HOME': str(tmp_path), 'JAX_PLATFORMS': 'cpu', **more}
    done = subprocess.run(
      [sys.executable, '-c', _STEP],
      env=environ,
      capture_output=True,
      text=True,
      check=True,
    )
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)

  without, _ = run(JAX_ENABLE_COMPILATION_CACHE='0')
  cold, cold_hits = run()
  warm, warm_hits = run()
  assert without == cold == warm
  assert cold_hits == 0 and warm_hits > 0
