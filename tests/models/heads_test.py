"""Pooling, metadata and dropout before the last Dense layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax.models import heads

TARGETS = (('cancer', 1), ('density', 4))


def setup(**fields):
  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.normal(size=(3, 4, 2, 6)), jnp.float32)
  meta = jnp.asarray(rng.normal(size=(3, 5)), jnp.float32)
  head = heads.Head(TARGETS, **fields)
  variables = head.init(jax.random.key(0), features, meta, False)
  return head, variables, features, meta


@pytest.mark.parametrize('pool', heads.POOLS)
def test_logits_are_a_dense_layer_on_pooled_features_and_metadata(pool):
  head, variables, features, meta = setup(pool=pool)
  variables = jax.tree.map(lambda x: x + 0.1, variables)
  found = head.apply(variables, features, meta, False)
  pooled = {'mean': np.mean, 'max': np.max}[pool](features, axis=(1, 2))
  joined = np.concatenate([pooled, meta], axis=1)
  assert {name: x.shape[1] for name, x in found.items()} == dict(TARGETS)
  for name, _ in TARGETS:
    layer = variables['params']['logits'][name]
    np.testing.assert_allclose(
      found[name], joined @ layer['kernel'] + layer['bias'], atol=1e-5
    )


def test_metadata_starts_without_a_say_and_gets_a_gradient():
  head, variables, features, meta = setup()
  kernel = variables['params']['logits']['cancer']['kernel']
  assert kernel.shape == (11, 1)
  assert (kernel[6:] == 0).all() and (kernel[:6] != 0).all()

  def total(variables):
    return head.apply(variables, features, meta, False)['cancer'].sum()

  gradient = jax.grad(total)(variables)['params']['logits']['cancer']['kernel']
  np.testing.assert_allclose(gradient[6:, 0], meta.sum(axis=0), rtol=1e-5)


def test_dropout_covers_features_and_metadata_in_training_alone():
  head, variables, features, meta = setup(dropout=1.0)
  found = head.apply(
    variables, features, meta, True, rngs={'dropout': jax.random.key(0)}
  )
  assert (found['density'] == 0).all()  # the bias, which starts at zero
  assert (head.apply(variables, features, meta, False)['density'] != 0).all()


def test_bfloat16_features_give_float32_logits():
  head, variables, features, meta = setup()
  found = head.apply(variables, features.astype(jnp.bfloat16), meta, False)
  assert found['cancer'].dtype == jnp.float32


def test_channels_are_scaled_in_steps_and_never_vanish():
  assert heads.channels(728, 1.0) == 728
  assert heads.channels(728, 0.25) == 184
  assert heads.channels(32, 0.001) == 4
