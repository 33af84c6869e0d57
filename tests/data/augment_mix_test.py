"""Mixup and cutmix against their formulas, on one device and on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from scipy import stats

from rsna_jax import config, errors, parallel
from rsna_jax.data import groups
from rsna_jax.data.augment import mix
from rsna_jax.models import layers

COUNT = 64


def options(**fields):
  c = config.default().augment
  for name, value in fields.items():
    c[name] = value
  return c


BOTH = options(mixup=0.5, cutmix=0.3, cutmix_alpha=0.8)


def make_batch(count=COUNT, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': rng.random((count, 12, 8, 1), np.float32),
    'meta': rng.random((count, 3), np.float32),
    'label_cancer': rng.integers(0, 2, count).astype(np.int32),
    'label_view': rng.integers(0, 6, count).astype(np.int32),
    'weight': np.ones(count, np.float32),
    'weight_view': rng.integers(0, 2, count).astype(np.float32),
  }


def run(batch, key, axis=None, o=BOTH):
  keys = layers.example_keys(key, batch['meta'].shape[0], axis)
  rest = {k: v for k, v in batch.items() if k not in ('image', 'meta')}
  return mix.apply(batch['image'], batch['meta'], rest, keys, o)


@pytest.fixture(scope='module')
def mixed():
  return jax.device_get(jax.jit(run)(make_batch(), jax.random.key(0)))


def test_each_example_is_mixed_with_its_neighbour_in_the_share_it_has(mixed):
  image, meta, found = mixed
  batch = make_batch()
  other = np.arange(COUNT) ^ 1
  share = found[mix.MIX]
  kinds = {'alone': 0, 'blended': 0, 'box': 0}
  for i in range(COUNT):
    own, its = batch['image'][i], batch['image'][other[i]]
    blend = share[i] * own + (1 - share[i]) * its
    if share[i] == 1:
      kinds['alone'] += 1
      np.testing.assert_array_equal(image[i], own)
    elif np.allclose(image[i], blend, atol=1e-6):
      kinds['blended'] += 1
    else:
      kinds['box'] += 1
      theirs = image[i] == its
      np.testing.assert_array_equal(np.where(theirs, its, own), image[i])
      assert theirs.mean() == pytest.approx(1 - share[i], abs=1e-6)
      # The pixels of the partner fill a rectangle.
      rows, columns, _ = np.nonzero(theirs)
      assert theirs.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
  # 32, 19 and 13 expected; an empty box counts as alone.
  assert 20 < kinds['blended'] < 44 and kinds['box'] > 8 and kinds['alone'] > 5
  expected = share[:, None] * batch['meta']
  expected = expected + (1 - share[:, None]) * batch['meta'][other]
  np.testing.assert_allclose(meta, expected, atol=1e-6)
  for name in ('label_cancer', 'label_view', 'weight', 'weight_view'):
    np.testing.assert_array_equal(found[name], batch[name])
    np.testing.assert_array_equal(found['partner_' + name], batch[name][other])


def test_the_loss_of_a_mixture_is_that_of_both_labels_in_their_shares(mixed):
  _, _, batch = mixed
  logits = np.random.default_rng(3).normal(size=(COUNT, 1)).astype(np.float32)
  outputs, rows = mix.unmix({'cancer': logits}, batch)
  each = optax.sigmoid_binary_cross_entropy(
    outputs['cancer'][:, 0], rows['label_cancer'].astype(np.float32)
  )
  found = np.sum(each * rows['weight'])
  share = batch[mix.MIX]
  own = np.log1p(np.exp(logits[:, 0])) - logits[:, 0] * batch['label_cancer']
  other = (
    np.log1p(np.exp(logits[:, 0]))
    - logits[:, 0] * (batch['label_cancer'][np.arange(COUNT) ^ 1])
  )
  np.testing.assert_allclose(
    found, np.sum(share * own + (1 - share) * other), rtol=1e-5
  )
  assert np.sum(rows['weight']) == pytest.approx(COUNT)
  # A label that the partner lacks counts for nothing.
  weight = batch['weight_view']
  np.testing.assert_allclose(
    rows['weight_view'][COUNT:],
    weight[np.arange(COUNT) ^ 1] * (1 - share),
    atol=1e-6,
  )


def test_eight_devices_mix_as_one_does(mixed):
  mesh = parallel.make_mesh()
  assert mesh.devices.size == 8
  mapped = jax.shard_map(
    functools.partial(run, axis=parallel.AXIS),
    mesh=mesh,
    in_specs=(P(parallel.AXIS), P()),
    out_specs=P(parallel.AXIS),
  )
  found = jax.device_get(jax.jit(mapped)(make_batch(), jax.random.key(0)))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-6), found, mixed
  )


def test_views_of_a_breast_are_mixed_alike(mixed):
  batch = make_batch()
  batch['image'] = np.stack([batch['image']] * 2, axis=1)
  image, _, found = jax.device_get(jax.jit(run)(batch, jax.random.key(0)))
  assert image.shape == (COUNT, 2, 12, 8, 1)
  np.testing.assert_array_equal(image[:, 0], image[:, 1])
  np.testing.assert_allclose(image[:, 0], mixed[0], atol=1e-6)
  np.testing.assert_array_equal(found[mix.MIX], mixed[2][mix.MIX])


def test_a_batch_without_mixing_passes_as_it_is():
  batch = make_batch(2)
  image, meta, rest = run(batch, jax.random.key(0), o=options())
  assert image is batch['image'] and meta is batch['meta']
  outputs = {'cancer': np.zeros((2, 1))}
  assert mix.unmix(outputs, rest) == (outputs, rest)
  assert mix.unmix_rows(rest) is rest


def test_metadata_alone_are_mixed_too():
  batch = make_batch()
  batch['image'] = jnp.zeros((COUNT, 0, 0, 1))
  image, meta, found = jax.jit(run)(batch, jax.random.key(0))
  assert image.size == 0
  share = found[mix.MIX][:, None]
  other = batch['meta'][np.arange(COUNT) ^ 1]
  np.testing.assert_allclose(
    meta, share * batch['meta'] + (1 - share) * other, atol=1e-6
  )
  assert 0.2 < float(jnp.mean(share < 1)) < 0.95


def test_a_device_with_an_odd_number_of_examples_is_refused():
  with pytest.raises(errors.ConfigError, match=r'has 3 examples.*batch_size'):
    run(make_batch(3), jax.random.key(0))


@pytest.mark.parametrize('alpha', [0.2, 0.4, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution(alpha):
  uniform = (np.arange(5000) + 0.5) / 5000
  shares = mix.beta(jnp.asarray(uniform, jnp.float32), alpha)
  of = stats.beta(alpha, alpha)
  close = np.abs(of.cdf(np.asarray(shares, np.float64)) - uniform) < 3e-4
  # Next to 1, where neighbours in float32 are far apart.
  assert (close | np.isclose(shares, of.ppf(uniform), rtol=1e-6)).all()
  assert mix.beta(jnp.array([0.0, 1.0]), alpha).tolist() == [0, 1]


def test_a_view_that_the_neighbour_lacks_stays_as_it_is():
  image = np.stack([np.full((2, 4, 4, 1), 0.8), np.full((2, 4, 4, 1), 0.2)])
  image[1, 1] = 0  # an empty slot
  slots = np.zeros((2, 2, 3), np.int32)
  slots[1, 1, 1] = groups.EMPTY
  batch = {'slots': slots, 'weight': np.ones(2, np.float32)}
  keys = jax.random.split(jax.random.key(1), 2)
  o = options(mixup=1.0, mixup_alpha=5.0)
  found, _, rows = mix.apply(image, np.zeros((2, 0)), batch, keys, o)
  share = rows[mix.MIX][0]
  assert 0.1 < share < 0.9
  np.testing.assert_allclose(found[0, 0], 0.2 + 0.6 * share, atol=1e-6)
  np.testing.assert_allclose(found[0, 1], 0.8, atol=1e-6)
