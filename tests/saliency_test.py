"""Maps against finite differences, formulas and brute force."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_network

from rsna_jax import config as config_lib
from rsna_jax import models, saliency
from rsna_jax.models import heads

_META = 3


def _made(name: str, pool: str, target: str = 'cancer', size=(64, 32)):
  """A tiny network with random weights and statistics, and random inputs."""
  c = config_lib.default()
  c.model.name, c.model.pool = 'cnn' if name == 'small' else name, pool
  c.model.width, c.model.depth = 0.1, 0.1
  c.data.target = target
  model = models.create(c)
  chance = np.random.default_rng(1)

  def changed(path, value):
    # First statistics and biases are 0 and 1, which would hide mistakes.
    noise = chance.standard_normal(value.shape).astype(np.float32)
    if 'var' in jax.tree_util.keystr(path):
      noise = np.abs(noise)
    return np.asarray(value) + np.float32(0.1) * noise

  if name == 'small':
    model = small_network.Small(targets=model.targets, pool=pool)
    shapes = np.zeros((1, *size, 1), np.float32), np.zeros((1, _META))
    variables = model.init(jax.random.key(0), *shapes)
  else:
    variables = models.init(model, jax.random.key(0), size, _META)
  variables = jax.tree_util.tree_map_with_path(changed, variables)
  image = chance.uniform(size=(2, *size, 1)).astype(np.float32)
  meta = chance.standard_normal((2, _META)).astype(np.float32)
  return model, variables, image, meta


@pytest.mark.parametrize(
  ('name', 'pool'), [('cnn', 'max'), ('xception', 'mean'), ('small', 'mean')]
)
def test_hirescam_sums_to_the_logit_without_bias_and_metadata(name, pool):
  size = (64, 64)
  model, variables, image, meta = _made(name, pool, 'density', size)
  network = saliency.Network(model, variables, saliency.logit('density', 2))
  cells, scores = network.cells(image, meta, 'hirescam')
  last = variables['params']['head']['logits']['density']
  rest = meta @ last['kernel'][-_META:, 2] + last['bias'][2]
  np.testing.assert_allclose(
    cells.sum(axis=(1, 2)), scores - rest, rtol=1e-4, atol=1e-5
  )


def test_cams_follow_the_slopes_of_a_head_that_is_not_linear():
  model, variables, image, meta = _made('density_cnn', 'mean', size=(16, 16))
  network = saliency.Network(model, variables, saliency.logit('cancer', 0))
  maps = np.asarray(model.apply(variables, image, method=model.features))

  @jax.jit
  def logit(maps):
    return model.apply(variables, maps, meta, method=model.classify)['cancer'][
      :, 0
    ]

  step = 1e-2
  slopes = np.zeros_like(maps)
  for place in np.ndindex(*maps.shape[1:]):
    moved = np.zeros_like(maps)
    moved[(slice(None), *place)] = step
    slopes[(slice(None), *place)] = np.asarray(
      logit(maps + moved) - logit(maps - moved)
    ) / (2 * step)
  most = np.abs(slopes * maps).max()
  np.testing.assert_allclose(
    network.cells(image, meta, 'hirescam')[0],
    (slopes * maps).sum(axis=-1),
    atol=2e-2 * most,
  )
  weights = slopes.mean(axis=(1, 2), keepdims=True)
  np.testing.assert_allclose(
    network.cells(image, meta, 'grad-cam')[0],
    np.maximum((weights * maps).sum(axis=-1), 0),
    atol=2e-2 * np.abs(weights * maps).max(),
  )


class _Formula(heads.Classifier):
  """3 a^2 + 2 a b + c over the first pixels: attributions are known."""

  def setup(self):
    self.weight = self.param('weight', nn.initializers.ones, ())

  def features(self, image, train=False):
    return image

  def classify(self, features, meta, train=False):
    a, b, c = (features[:, 0, k, 0] for k in range(3))
    value = self.weight * (3 * a**2 + 2 * a * b + c) + meta.sum(axis=1)
    return {'cancer': value[:, None]}


def test_integrated_gradients_are_those_of_the_formula():
  model = _Formula()
  image = np.random.default_rng(0).uniform(size=(4, 5)).astype(np.float32)
  meta = np.array([7.0], np.float32)
  variables = model.init(jax.random.key(0), image[None, ..., None], meta[None])
  network = saliency.Network(model, variables, saliency.logit('cancer', 0))
  found, _, said = network.integrated_gradients(image, meta)
  a, b, c = image[0, :3]
  expected = np.zeros_like(image)
  expected[0, :3] = 3 * a**2 + a * b, a * b, c
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert said['difference'] == pytest.approx(expected.sum(), rel=1e-5)


class _Corner(_Formula):
  """Nothing up to 0.52 of the first pixel, then a slope of 40."""

  def classify(self, features, meta, train=False):
    value = self.weight * 40 * nn.relu(features[:, 0, 0, 0] - 0.52)
    return {'cancer': value[:, None]}


def test_steps_are_added_until_the_sum_is_right():
  model = _Corner()
  image = np.ones((2, 3), np.float32)
  meta = np.zeros(1, np.float32)
  variables = model.init(jax.random.key(0), image[None, ..., None], meta[None])
  network = saliency.Network(model, variables, saliency.logit('cancer', 0))
  found, score, said = network.integrated_gradients(image, meta)
  assert score == pytest.approx(19.2, rel=1e-5)
  # The middles of 32 parts have 15 beyond the corner: 18.75, which is too few.
  assert said['steps'] == 96
  assert found[0, 0] == pytest.approx(40 * 46 / 96, rel=1e-5)
  assert not found.ravel()[1:].any()


@pytest.mark.parametrize('name', ['small', 'density_cnn'])
def test_integrated_gradients_sum_to_the_difference_from_black(name):
  model, variables, image, meta = _made(name, 'max', size=(16, 16))
  network = saliency.Network(model, variables, saliency.logit('cancer', 0))
  found, _, said = network.integrated_gradients(image[0, ..., 0], meta[0])
  black = network.score(np.zeros_like(image[:1]), meta[:1])
  difference = float(network.score(image[:1], meta[:1])[0] - black[0])
  assert abs(found.sum() - difference) <= 0.01 * max(abs(difference), 1)
  assert said['error'] == pytest.approx(found.sum() - difference, abs=1e-4)
  # Black itself is no difference at all.
  flat, *_ = network.integrated_gradients(
    np.zeros_like(image[0, ..., 0]), meta[0]
  )
  assert not flat.any()


class _Smooth(heads.Classifier):
  """Without corners, which finite differences would fall into."""

  def setup(self):
    self.conv = nn.Conv(4, (5, 5), strides=2)
    self.head = self.make_head()

  def features(self, image, train=False):
    return jnp.tanh(3 * self.conv(image))


def test_the_gradient_of_the_pixels_is_that_of_finite_differences():
  chance = np.random.default_rng(2)
  image = chance.uniform(size=(2, 16, 12, 1)).astype(np.float32)
  meta = np.zeros((2, 0), np.float32)
  model = _Smooth()
  variables = model.init(jax.random.key(0), image, meta)
  network = saliency.Network(model, variables, saliency.logit('cancer', 0))
  found = np.asarray(network._gradient(variables, image, meta))
  for _ in range(3):
    way = chance.standard_normal(image.shape).astype(np.float32)
    step = 1e-2
    slope = (
      network.score(image + step * way, meta)
      - network.score(image - step * way, meta)
    ) / (2 * step)
    np.testing.assert_allclose(
      (found * way).sum(axis=(1, 2, 3)), slope, rtol=5e-3, atol=1e-4
    )


def test_occlusion_is_that_of_one_square_after_the_other():
  model, variables, image, meta = _made('small', 'mean', size=(32, 20))
  image, meta = image[0, ..., 0], meta[0]
  mask = np.zeros(image.shape, bool)
  mask[4:28, :13] = True
  network = saliency.Network(model, variables, saliency.logit('cancer', 0))
  found, _ = network.occlusion(image, meta, mask, patch=8 / 32, stride=5 / 32)

  def score(one):
    return float(network.score(one[None, ..., None], meta[None])[0])

  total, count = np.zeros(image.shape), np.zeros(image.shape)
  for top in (0, 5, 10, 15, 20, 24):
    for left in (0, 5, 10, 12):
      square = np.zeros(image.shape, bool)
      square[top : top + 8, left : left + 8] = True
      changed = np.where(square & mask, image[mask].mean(), image)
      total += square * (score(image) - score(changed))
      count += square
  np.testing.assert_allclose(found, total / count, atol=1e-5)
  assert np.abs(found).max() > 1e-3
  # Where all is alike already, nothing is lost.
  alike = np.where(mask, np.float32(0.4), np.float32(0))
  np.testing.assert_allclose(
    network.occlusion(alike, meta, mask)[0], 0, atol=1e-6
  )
  assert not network.occlusion(image, meta, np.zeros_like(mask))[0].any()


def test_an_image_without_structure_gives_cells_that_are_alike():
  model, variables, image, meta = _made('density_cnn', 'mean', size=(24, 24))
  maps = np.asarray(
    model.apply(variables, np.full_like(image, 0.5), method=model.features)
  )
  # Away from the border, which a network sees as black beyond it.
  inner = maps[:, 4:-4, 4:-4]
  assert np.ptp(inner, axis=(1, 2)).max() <= 1e-5 * np.abs(maps).max()
  model, variables, image, meta = _made('small', 'mean', size=(64, 64))
  network = saliency.Network(model, variables, saliency.logit('cancer', 0))
  image = np.full_like(image, 0.5)
  for method in saliency.CAMS:
    inner = network.cells(image, meta, method)[0][:, 3:-3, 3:-3]
    assert np.ptp(inner, axis=(1, 2)).max() <= 1e-5 * np.abs(inner).max()


def test_cancer_log_odds_are_those_of_the_summed_probabilities():
  logits = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
  chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  cancer = chances[:, 1::2].sum(axis=1)
  found = saliency.cancer_log_odds('density_cancer')(
    {'density_cancer': jnp.asarray(logits)}
  )
  np.testing.assert_allclose(found, np.log(cancer / (1 - cancer)), rtol=1e-4)


def test_cells_are_enlarged_about_their_centres():
  cells = np.zeros((1, 4, 2), np.float32)
  cells[0, 1, 1] = 1
  found = saliency.upsampled(cells, (32, 16))[0]
  rows = np.mgrid[:32, :16][0] + 0.5
  assert (found * rows).sum() / found.sum() == pytest.approx(12, abs=1e-4)
  assert found.max() <= 1
  assert found[8:16, 8:16].min() > 0.2
