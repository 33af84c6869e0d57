"""Patches against brute force, and a network that looks twice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax import config, errors, losses, models, parallel
from rsna_jax.models import global_local, patches

SIZE = (97, 65)
# Compiled in a third of the time, for code that runs once.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def make_config(**fields):
  c = config.default()
  c.data.size = SIZE
  c.model.name, c.model.trunk, c.model.width = 'global_local', 'cnn', 0.05
  c.model.patches, c.model.patch_size = 3, 24
  c.model.update(fields)
  config.validate(c)
  return c


def images(count=2, size=SIZE):
  chance = np.random.default_rng(0)
  return chance.random((count, *size, 1)).astype(np.float32)


@functools.cache
def made():
  """The network, and variables of which each counts."""
  model = models.create(make_config())
  variables = models.init(model, jax.random.key(0), SIZE, 3)
  chance = np.random.default_rng(1)
  moved = jax.tree.map(
    lambda x: x + chance.normal(0, 0.05, x.shape).astype(np.float32),
    variables['params'],
  )
  return model, {**variables, 'params': moved}


@functools.cache
def looker():
  """Images to logits, what was seen, the feature map and a gradient."""
  model, variables = made()

  @quick_jit
  def run(image):
    def total(image):
      seen = model.apply(variables, image, method='look')
      return seen.map.sum(), seen

    slopes, seen = jax.grad(total, has_aux=True)(image)
    features = model.apply(variables, image, method='features')
    meta = jnp.zeros((len(image), 3))
    logits = model.apply(variables, features, meta, method='classify')
    return logits['cancer'], seen, features, slopes

  return run


def greedy(values, count, window):
  """Windows of the largest sums, tried one by one."""
  left, found = values.astype(np.float64).copy(), []
  rows, columns = window
  for _ in range(count):
    best, at = -1.0, None
    for i in range(left.shape[0] - rows + 1):
      for j in range(left.shape[1] - columns + 1):
        total = left[i : i + rows, j : j + columns].sum()
        if total > best:
          best, at = total, (i, j)
    found.append(at)
    left[at[0] : at[0] + rows, at[1] : at[1] + columns] = 0
  return np.array(found)


@pytest.mark.parametrize(
  ('shape', 'window'), [((7, 5), (2, 2)), ((9, 4), (3, 1)), ((4, 6), (4, 6))]
)
def test_windows_are_those_of_a_greedy_search(shape, window):
  # Whole numbers add up without rounding; small ones have many ties.
  values = np.random.default_rng(0).integers(0, 4, (5, *shape))
  found = jax.jit(patches.choose, static_argnums=(1, 2))(values, 4, window)
  expected = [greedy(one, 4, window) for one in values]
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == jnp.int32


def test_patches_are_the_pixels_about_the_middle_of_their_windows():
  grid = patches.Grid(cells=(6, 4), pixels=(96, 64), size=(93, 64), patch=30)
  assert grid.window == (2, 2)
  first = np.array([[[0, 0], [2, 1], [4, 2]], [[1, 0], [3, 2], [4, 0]]])
  corner = np.asarray(patches.corners(jnp.asarray(first), grid))
  middle = (first + 1) * 16
  exact = np.clip(middle - 15, 0, [93 - 30, 64 - 30])
  np.testing.assert_array_equal(corner, exact)
  image = np.arange(2 * 93 * 64, dtype=np.float32).reshape(2, 93, 64, 1)
  found = patches.cut(jnp.asarray(image), jnp.asarray(corner), 30)
  for row in range(2):
    for k in range(3):
      top, left = exact[row, k]
      expected = image[row, top : top + 30, left : left + 30]
      np.testing.assert_array_equal(found[row, k], expected)


@pytest.mark.parametrize('patch', [1, 7, 64])
def test_a_window_is_at_least_a_cell_and_no_larger_than_the_map(patch):
  grid = patches.Grid((4, 3), (128, 96), (128, 96), patch)
  assert grid.window == ((2, 2) if patch == 64 else (1, 1))
  assert patches.Grid((1, 1), (32, 32), (32, 32), 32).window == (1, 1)
  last = np.array(grid.cells) - grid.window
  corner = patches.corners(jnp.asarray([[0, 0], last], jnp.int32), grid)
  assert (corner >= 0).all()
  assert (np.asarray(corner) + patch <= grid.size).all()


def test_the_global_answer_is_the_mean_of_the_highest_probabilities():
  maps = np.random.default_rng(0).normal(0, 3, (3, 8, 5, 2))
  found = global_local.top_logits(jnp.asarray(maps, jnp.float32), 0.1)
  chances = 1 / (1 + np.exp(-maps.reshape(3, 40, 2)))
  mean = np.sort(chances, axis=1)[:, -4:].mean(axis=1)
  np.testing.assert_allclose(found, np.log(mean / (1 - mean)), rtol=1e-4)
  far = global_local.top_logits(jnp.full((1, 2, 2, 1), 200.0), 0.5)
  np.testing.assert_allclose(far, 200.0)
  one = global_local.top_logits(jnp.asarray(maps, jnp.float32), 1e-6)
  np.testing.assert_allclose(one, maps.max(axis=(1, 2)), rtol=1e-5)


def test_malignant_classes_choose_where_density_is_told_as_well():
  maps = np.full((1, 3, 4, 8), -5.0, np.float32)
  maps[0, 0, 0, ::2] = 5.0  # benign, at every density
  maps[0, 2, 3, 5] = 5.0  # malignant, at one
  found = np.asarray(global_local.where(jnp.asarray(maps)))
  assert found.argmax() == 11 and found[0, 0, 0] == 0
  both = np.asarray(global_local.where(jnp.asarray(maps[..., :4])))
  assert both.argmax() == 0  # of four densities, all count


def test_a_saliency_that_is_flat_chooses_without_a_fault():
  found = global_local.where(jnp.full((1, 3, 4, 1), 7.0))
  assert (found == 0).all()
  first = patches.choose(found, 2, (2, 2))
  np.testing.assert_array_equal(first, [[[0, 0], [0, 0]]])


def test_squares_are_means_and_black_fills_them_up():
  image = images(1, (7, 10))
  found = global_local.reduced(jnp.asarray(image), 3)
  full = np.zeros((1, 9, 12, 1))
  full[:, :7, :10] = image
  for i in range(3):
    for j in range(4):
      square = full[0, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
      np.testing.assert_allclose(found[0, i, j, 0], square.mean(), rtol=1e-5)
  assert global_local.reduced(image, 1) is image


def test_what_was_seen_stands_at_its_place_in_the_feature_map():
  image = images(4)
  _, seen, features, _ = looker()(image)
  count = seen.map.shape[-1]
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  close(features[..., -count:], seen.map)
  close(features[..., :-count], seen.features)
  np.testing.assert_allclose(seen.weights.sum(axis=1), 1, rtol=1e-5)
  # Nothing where no patch lies: 24 pixels are a cell of the 4x3 here.
  values = np.asarray(global_local.where(seen.saliency))
  for row in range(len(image)):
    cells = greedy(values[row], 3, (1, 1))
    there = np.zeros(values.shape[1:], bool)
    there[tuple(cells.T)] = True
    assert (seen.map[row][~there] == 0).all()
    assert (seen.map[row][there] != 0).any(axis=-1).all()
    grid = patches.Grid(there.shape, SIZE, SIZE, 24)
    np.testing.assert_array_equal(
      seen.corners[row], patches.corners(jnp.asarray(cells), grid)
    )


def test_an_answer_does_not_depend_on_the_rest_of_the_batch():
  image = images(4)
  logits, seen, *_ = looker()(image)
  others = image[::-1].copy() ** 2
  others[2] = image[2]
  found, other, *_ = looker()(others)
  np.testing.assert_array_equal(found[2], logits[2])
  np.testing.assert_array_equal(other.corners[2], seen.corners[2])
  assert (found[:2] != logits[:2]).all()


def test_what_lies_outside_the_patches_reaches_no_local_number():
  image = images(4)
  _, seen, _, slopes = looker()(image)
  slopes = slopes[..., 0]
  covered = np.zeros((len(image), *SIZE), bool)
  for row, corner in enumerate(np.asarray(seen.corners)):
    for top, left in corner:
      covered[row, top : top + 24, left : left + 24] = True
  assert not covered.all()
  assert (slopes[~covered] == 0).all() and (slopes[covered] != 0).any()


def test_a_flipped_image_has_the_flipped_saliency_and_patches():
  model, variables = made()
  # Kernels that are symmetric; sizes are odd, so that strides are as well.
  symmetric = jax.tree.map(
    lambda x: (x + x[:, ::-1]) / 2 if x.ndim == 4 else x, variables['params']
  )
  apply = quick_jit(
    lambda image: model.apply(
      {**variables, 'params': symmetric}, image, method='look'
    )
  )
  image = images(2)
  seen, other = apply(image), apply(image[:, :, ::-1])
  np.testing.assert_allclose(
    other.saliency, seen.saliency[:, :, ::-1], atol=1e-4
  )
  left = SIZE[1] - 24 - seen.corners[..., 1]
  np.testing.assert_array_equal(other.corners[..., 0], seen.corners[..., 0])
  # Half a pixel may be rounded either way.
  assert np.abs(other.corners[..., 1] - left).max() <= 1
  assert np.asarray(seen.corners).std() > 1


def trained(model, variables, image):
  """What a network in training says, by name."""
  outputs, updates = model.apply(
    variables,
    image,
    jnp.zeros((len(image), 3)),
    True,
    mutable=['batch_stats', *losses.SOWN],
  )
  return {**outputs, **losses.sown(updates)}


@functools.cache
def learning():
  """What is said in training, and gradients of it by the names of modules."""
  model, variables = made()
  parts = (
    'cancer',
    'supervision/global',
    'supervision/local',
    'penalty/saliency',
  )

  def run(params):
    said = trained(model, {**variables, 'params': params}, images(8))
    return jnp.stack([jnp.sum(said[part] ** 2) for part in parts]), said

  found, said = quick_jit(jax.jacrev(run, has_aux=True))(variables['params'])
  return said, {
    part: {
      name: {bool((x[i] != 0).any()) for x in jax.tree.leaves(branch)}
      for name, branch in found.items()
    }
    for i, part in enumerate(parts)
  }


def test_both_trunks_learn_from_the_answer():
  _, slopes = learning()
  found = slopes['cancer']
  for name in ('trunk', 'local_network', 'local_dense', 'attention', 'head'):
    assert True in found[name], name
  # The choice has no gradient: saliency learns from its own answer.
  assert found['salient'] == {False}


def test_each_branch_learns_from_its_own_answer():
  _, slopes = learning()
  for part in ('supervision/global', 'penalty/saliency'):
    assert True in slopes[part]['trunk'] and True in slopes[part]['salient']
    assert slopes[part]['local_network'] == {False}
  found = slopes['supervision/local']
  assert True in found['local_network'] and True in found['local_logits']
  assert found['trunk'] == found['salient'] == {False}


def test_eight_devices_see_what_one_sees():
  model, variables = made()
  one, _ = learning()
  shared = model.clone(axis_name=parallel.AXIS)
  split = jax.sharding.PartitionSpec(parallel.AXIS)
  many = quick_jit(
    jax.shard_map(
      functools.partial(trained, shared, variables),
      mesh=parallel.make_mesh(jax.devices()[:8]),
      in_specs=split,
      out_specs=split,
    )
  )(images(8))
  assert len(one) == len(many) == 4
  for name in one:
    np.testing.assert_allclose(many[name], one[name], atol=1e-4, err_msg=name)


def test_weights_of_the_trunk_alone_have_their_place():
  c = make_config()
  whole = models.init(models.create(c), jax.random.key(0), SIZE, 0)['params']
  c.model.name = 'cnn'
  single = models.init(models.create(c), jax.random.key(0), SIZE, 0)['params']
  assert jax.tree.map(jnp.shape, whole['trunk']) == jax.tree.map(
    jnp.shape, single['trunk']
  )
  assert 'head' not in whole['local_network']


def test_fields_of_the_config_reach_the_network():
  c = make_config(
    patches=2,
    patch_size=32,
    local_width=0.1,
    global_stride=2,
    top_share=0.5,
    drop_path=0.2,
    pool='max',
  )
  c.data.target = 'density_cancer'
  c.loss.auxiliary.birads = 0.1
  model = models.create(c)

  def run():
    return model.init_with_output(
      jax.random.key(0), images(1), np.zeros((1, 0), np.float32)
    )

  def look():
    return model.init_with_output(jax.random.key(0), images(1), method='look')[
      0
    ]

  logits, variables = jax.eval_shape(run)
  assert {k: x.shape for k, x in logits.items()} == {
    'density_cancer': (1, 8),
    'birads': (1, 3),
  }
  seen = jax.eval_shape(look)
  assert seen.corners.shape == (1, 2, 2)
  assert seen.saliency.shape == (1, 2, 2, 8)  # of 49x33
  assert variables['params']['local_dense']['kernel'].shape == (24, 12)
  local = model.bind({}).local_network
  assert (local.width, local.drop_path) == (0.1, 0.2)
  assert model.top_share == 0.5


@pytest.mark.parametrize(
  ('fields', 'remedy'),
  [
    ({'patch_size': 66}, r'model.patch_size=66: at most 65'),
    ({'patch_size': 15}, r'model.patch_size=15: cnn needs at least 16'),
    ({'global_stride': 5}, r'cnn needs at least 80'),
    ({'patches': 0}, r'model.patches=0: at least 1'),
    ({'global_stride': 0}, r'model.global_stride=0: at least 1'),
    ({'top_share': 0.0}, r'model.top_share=0.0: above 0'),
    ({'local_width': -1.0}, r'model.local_width=-1.0: not negative'),
    ({'trunk': 'meta'}, r"model.trunk='meta': choose cnn"),
  ],
)
def test_values_that_do_not_fit_are_refused(fields, remedy):
  with pytest.raises(errors.ConfigError, match=remedy):
    models.create(make_config(**fields))


def test_a_patch_larger_than_an_image_is_refused():
  model, variables = made()
  with pytest.raises(errors.ConfigError, match='patch_size=24: images are 20x'):
    model.apply(variables, images(1, (20, 40)), np.zeros((1, 3), np.float32))
