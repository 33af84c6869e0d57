"""Layouts of batches, the checks of modes, and shard_map either way."""

import functools
import os
import re
import socket
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rsna_jax import config, errors, losses, optim, parallel, steps
from rsna_jax.models import heads, layers


def test_pmap_batches_get_a_device_axis_and_ids_stay_on_the_host():
  mesh = parallel.make_mesh()
  batch = {'meta': np.arange(32.0).reshape(16, 2), 'id': np.arange(16)}
  placed = parallel.place_batch(batch, 'pmap', mesh)
  assert list(placed) == ['meta'] and placed['meta'].shape == (8, 2, 2)
  whole = parallel.place_batch(batch, 'jit', mesh)['meta']
  assert whole.shape == (16, 2)
  assert whole.addressable_shards[1].data.shape == (2, 2)


@pytest.mark.parametrize('mode', parallel.MODES)
def test_predictions_come_back_whole_and_in_order(mode):
  mesh = parallel.make_mesh()
  predict = parallel.wrap_predict(
    lambda state, batch: {'cancer': batch['meta'] * state}, mode, mesh
  )
  meta = np.arange(24, dtype=np.float32)[:, None]
  batch = parallel.place_batch({'meta': meta}, mode, mesh)
  state = parallel.place_state(jnp.float32(2), mesh)
  found = predict(state, batch)['cancer']
  assert isinstance(found, np.ndarray)
  np.testing.assert_array_equal(found, meta * 2)


@pytest.mark.parametrize('mode', parallel.MODES)
def test_a_batch_that_devices_cannot_share_is_refused(mode):
  mesh = parallel.make_mesh()
  with pytest.raises(errors.ConfigError, match='batch of 12: 8 devices'):
    parallel.place_batch({'meta': np.zeros((12, 1))}, mode, mesh)
  with pytest.raises(errors.ConfigError, match=r'batch_size=12.*such as 16'):
    parallel.check_batch_size(12, mesh)
  parallel.check_batch_size(24, mesh)


def test_an_unknown_mode_is_refused():
  mesh = parallel.make_mesh()
  with pytest.raises(errors.ConfigError, match=r"parallel.mode='xmap'"):
    parallel.wrap(lambda s, b, r: (s, {}), 'xmap', mesh)


def test_pmap_with_several_processes_is_refused(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(errors.ConfigError, match='choose shard_map or jit'):
    parallel.axis_name('pmap')


def test_reductions_without_an_axis_change_nothing():
  tree = {'a': jnp.arange(3.0)}
  assert parallel.psum(tree, None) is tree
  assert parallel.pmean(tree, None) is tree


def test_without_a_wish_in_the_environment_nothing_is_joined():
  assert parallel.start_distributed({}) is False
  with pytest.raises(errors.ConfigError, match="JAX_NUM_PROCESSES=''"):
    parallel.start_distributed({'JAX_COORDINATOR_ADDRESS': 'localhost:1'})


class _Network(heads.Classifier):
  """Has the one layer whose gradient is written by hand."""

  def setup(self):
    self.depthwise = layers.Depthwise3x3(form='edge')
    self.norm = layers.BatchNorm(self.axis_name)
    self.head = self.make_head()

  def features(self, image, train=False):
    return self.norm(self.depthwise(image), train)


def _gradient_step(check_vma, devices):
  """Parameters and norm of the gradient after one step under shard_map."""
  c = config.default()
  c.optim.name, c.optim.schedule, c.optim.clip_norm = 'sgd', 'constant', 0.0
  c.optim.learning_rate = 0.1
  mesh = parallel.make_mesh(jax.devices()[:devices])
  model, tx = _Network(axis_name='data', pool='max'), optim.create(c)
  step = functools.partial(
    steps.train_step, model=model, tx=tx, loss=losses.create(c), axis='data'
  )
  state = steps.create_state(
    model, tx, c, jax.random.key(0), meta_width=1, image_size=(9, 8)
  )
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.random((8, 9, 8, 1), np.float32),
    'meta': rng.random((8, 1), np.float32),
    'label_cancer': np.arange(8) % 2,
    'weight': np.ones(8, np.float32),
  }
  mapped = jax.shard_map(
    step,
    mesh=mesh,
    in_specs=(P(), P('data'), P()),
    out_specs=(P(), P()),
    check_vma=check_vma,
  )
  state, metrics = jax.jit(mapped)(state, batch, jax.random.key(1))
  return jax.device_get(state.params), float(metrics['grad_norm'])


def test_gradients_are_right_whether_or_not_shard_map_tracks_what_varies():
  expected, expected_norm = _gradient_step(True, 1)
  assert expected_norm > 0.1
  for check_vma in (True, False):
    params, norm = _gradient_step(check_vma, 4)
    assert norm == pytest.approx(expected_norm, rel=1e-4)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, atol=1e-5),
      params,
      expected,
    )


_PROCESS = """
import jax, numpy as np
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 2)
from rsna_jax import parallel
assert parallel.start_distributed()
mesh = parallel.make_mesh()
first = 4 * jax.process_index()
rows = np.arange(first, first + 4, dtype=np.float32)[:, None]
state = parallel.place_state(np.float32(3), mesh)
for mode in ('shard_map', 'jit'):
  predict = parallel.wrap_predict(lambda s, b: {'y': b['x'] * s}, mode, mesh)
  batch = parallel.place_batch({'x': rows}, mode, mesh)
  print(mode, predict(state, batch)['y'].ravel().tolist())
"""


def test_two_processes_share_a_batch_and_both_get_all_predictions():
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  runs = [
    subprocess.Popen(
      [sys.executable, '-c', _PROCESS],
      env=os.environ
      | {
        'JAX_COORDINATOR_ADDRESS': f'localhost:{port}',
        'JAX_NUM_PROCESSES': '2',
        'JAX_PROCESS_ID': str(i),
      },
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  wanted = [float(3 * i) for i in range(8)]
  for process in runs:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-2000:]
    lines = out.splitlines()
    assert f'shard_map {wanted}' in lines and f'jit {wanted}' in lines


class _Trunk(nn.Module):
  """Layers whose windows reach over the rows of a neighbour, and odd sizes."""

  @nn.compact
  def __call__(self, image, train):
    x = layers.Conv3x3(4, 2, 'VALID')(image)
    x = layers.Depthwise(7)(layers.BatchNorm()(x, train))
    return layers.Conv3x3(6, 2)(layers.max_pool(x, 3, 2, 'SAME'))


class _Rows(heads.Classifier):
  def setup(self):
    self.trunk = _Trunk()
    self.head = self.make_head()


def _shared_step(space):
  """Results of a step and a prediction, and the compiled step's text."""
  c = config.default()
  c.optim.name, c.optim.schedule, c.optim.learning_rate = 'sgd', 'constant', 0.1
  mesh = parallel.make_mesh(space=space)
  model, tx = _Rows(forms='plain', pool='max'), optim.create(c)
  step = functools.partial(
    steps.train_step, model=model, tx=tx, loss=losses.create(c)
  )
  state = steps.create_state(
    model, tx, c, jax.random.key(0), meta_width=1, image_size=(64, 20)
  )
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.random((8, 64, 20, 1), np.float32),
    'meta': rng.random((8, 1), np.float32),
    'label_cancer': np.arange(8) % 2,
    'weight': np.ones(8, np.float32),
  }
  placed = parallel.place_batch(batch, 'jit', mesh)
  compiled = (
    parallel.wrap(step, 'jit', mesh, donate=False)
    .lower(parallel.place_state(state, mesh), placed, jax.random.key(1))
    .compile()
  )
  state, metrics = compiled(
    parallel.place_state(state, mesh), placed, jax.random.key(1)
  )
  predict = parallel.wrap_predict(
    functools.partial(steps.predict_step, model=model), 'jit', mesh
  )
  found = jax.device_get((state.params, metrics)), predict(state, placed)
  return found, placed, compiled.as_text()


def test_devices_that_share_images_by_rows_give_what_whole_images_give():
  expected, _, _ = _shared_step(1)
  found, placed, text = _shared_step(4)
  shards = placed['image'].addressable_shards
  assert shards[0].data.shape == (4, 16, 20, 1)
  assert placed['weight'].addressable_shards[0].data.shape == (4,)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected
  )
  # Neighbours exchange rows; nobody gathers an image, but of each device the
  # maxima of its rows: 4 images by 4 devices by 6 channels.
  assert 'collective-permute' in text
  gathered = re.findall(r'= \w+\[([\d,]+)\]\S* all-gather\(', text)
  assert set(gathered) == {'4,4,6'} and len(gathered) == 2


def test_images_that_devices_cannot_share_are_refused():
  with pytest.raises(errors.ConfigError, match=r'parallel\.space=3: 8 devices'):
    parallel.make_mesh(space=3)
  mesh = parallel.make_mesh(space=4)
  batch = {'image': np.zeros((2, 6, 4, 1), np.uint8)}
  with pytest.raises(errors.ConfigError, match='have 6 rows'):
    parallel.place_batch(batch, 'jit', mesh)
  assert parallel.mesh_for_prediction(3).axis_names == ('data',)
  parallel.check_batch_size(2, mesh)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'parallel.mode': 'pmap'}, 'choose parallel.mode=jit'),
    ({'parallel.mode': 'shard_map'}, 'choose parallel.mode=jit'),
    ({'data.size': (510, 256)}, 'the 510 rows'),
    ({'model.forms': 'fast'}, 'choose plain or auto'),
  ],
)
def test_sharing_of_rows_where_it_cannot_work_is_refused(fields, message):
  c = config.default()
  c.parallel.space, c.parallel.mode = 4, 'jit'
  config.validate(c)
  for field, value in fields.items():
    group, name = field.split('.')
    c[group][name] = value
  with pytest.raises(
    errors.ConfigError, match=rf'parallel\.space=4: .*{message}'
  ):
    config.validate(c)
