"""A loaded model is folded, and compiles few programs whatever it is asked."""

import numpy as np
import pytest

from rsna_jax import evaluate, inference, steps
from rsna_jax import run as run_lib


@pytest.fixture(scope='module')
def images(tiny_run):
  """Twenty images as `Model.prepare` makes them, and the model."""
  model = inference.load_model(tiny_run)
  chance = np.random.default_rng(0)
  shape = (20, *model.spec.size)
  dtype = np.uint8 if model.spec.bits == 8 else np.uint16
  pixels = chance.integers(0, 2**model.spec.bits, shape).astype(dtype)
  return model, [inference.Prepared('', one, None, {}) for one in pixels]


def test_1_to_20_images_compile_three_programs(images):
  model, found = images
  inference._PREDICT.clear_cache()
  all_at_once = model.logits(found)
  for count in range(1, 21):
    np.testing.assert_allclose(
      model.logits(found[:count]), all_at_once[:count], atol=1e-5
    )
  assert inference._PREDICT._cache_size() <= len(inference.BATCH_SIZES) == 3


def test_what_was_folded_predicts_what_the_checkpoint_does(images, tiny_run):
  model, found = images
  network, folded = model.network()
  state, _ = evaluate.restore(run_lib.load(tiny_run))
  assert 'shift' in str(folded['batch_stats'])
  image = np.float32([one.pixels[..., None] for one in found[:4]])
  image /= 2**model.spec.bits - 1
  meta = model.metadata(found[:4])

  def logits(variables):
    return np.asarray(network.apply(variables, image, meta, False)['cancer'])

  expected = logits(steps.variables(state))
  np.testing.assert_allclose(logits(folded), expected, atol=1e-5)
  np.testing.assert_allclose(model.logits(found[:4]), expected, atol=1e-5)
