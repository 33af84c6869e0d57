import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_network
import tiny_steps

from rsna_jax import config, losses, models, optim, parallel, steps
from rsna_jax.data import augment
from rsna_jax.models import layers, many_view
from rsna_jax.options import model as model_options

_SIZE, _META = (8, 8), 3
_EMPTY = [6, -1, 2]


def _config(name='many_view', group='exam', trunk='cnn', **fields):
  c = config.default()
  c.data.size, c.data.group = (32, 32), group
  c.model.name, c.model.trunk, c.model.width = name, trunk, 0.05
  c.model.update(fields)
  return c


def _noisy(variables, seed=0):
  """Variables of which none is at its start, as after a training."""
  chance = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: x + 0.3 * np.abs(chance.standard_normal(x.shape)).astype('f'),
    variables,
  )


class _Normalised(small_network.Small):
  """With batch statistics."""

  def setup(self):
    super().setup()
    self.bn = layers.BatchNorm()

  def features(self, image, train=False):
    return self.bn(self.trunk(image, train), train)


@pytest.fixture(scope='module')
def setting():
  """A network that compares, its variables, and a batch of two breasts."""
  model = many_view.of(_Normalised)(compare=True)
  variables = _noisy(models.init(model, jax.random.key(0), _SIZE, _META))
  chance = np.random.default_rng(1)
  image = chance.uniform(size=(2, 6, *_SIZE, 1)).astype(np.float32)
  meta = chance.standard_normal((2, _META)).astype(np.float32)
  slots = np.array(
    [
      [[0, 0, 0], [1, 0, 0], _EMPTY, [0, 1, 1], [1, 1, 1], [1, 1, 1]],
      [[1, 0, 1], *[_EMPTY] * 5],
    ],
    np.int32,
  )
  call = jax.jit(lambda *x: model.apply(variables, *x[:2], False, slots=x[2]))

  def answer(image, slots, meta=meta):
    """Of the slots given, and empty ones up to six."""
    some = image.shape[1]
    full = np.zeros((2, 6, *_SIZE, 1), np.float32)
    codes = np.full((2, 6, 3), _EMPTY, np.int32)
    full[:, :some], codes[:, :some] = image, slots
    return np.asarray(call(full, meta, codes)['cancer'])

  return model, variables, image, slots, meta, answer


def test_the_order_of_images_is_of_no_concern(setting):
  *_, image, slots, _, answer = setting
  expected = answer(image, slots)
  order = [1, 5, 4, 2, 3, 0]
  found = answer(
    np.stack([image[0, order], image[1]]), np.stack([slots[0, order], slots[1]])
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_empty_slot_changes_nothing(setting):
  model, variables, image, slots, meta, answer = setting
  expected = answer(image, slots)
  other = np.where((slots[..., 1] == -1)[..., None, None, None], 1e3, image)
  np.testing.assert_array_equal(answer(other.astype('f'), slots), expected)
  other = slots.copy()
  other[0, 2, [0, 2]] = 3, 1  # its codes are of no concern, either
  np.testing.assert_array_equal(answer(image, other), expected)
  # Nor does it matter whether there is one.
  kept = [0, 1, 3, 4, 5]
  found = model.apply(
    variables, image[:, kept], meta, False, slots=slots[:, kept]
  )
  np.testing.assert_allclose(found['cancer'][0], expected[0], rtol=1e-5)


def test_an_empty_slot_has_no_part_in_gradient_or_statistics(setting):
  model, variables, image, slots, meta, _ = setting

  @jax.jit
  def step(image):
    def loss(params):
      out, updates = model.apply(
        variables | {'params': params},
        image,
        meta,
        True,
        slots=slots,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.key(0)},
      )
      wanted = jnp.ones_like(out['cancer'])
      return optax.sigmoid_binary_cross_entropy(out['cancer'], wanted).sum(), (
        updates['batch_stats']
      )

    return jax.grad(loss, has_aux=True)(variables['params'])

  other = np.where((slots[..., 1] == -1)[..., None, None, None], 1e3, image)
  first, second = step(image), step(other.astype('f'))
  jax.tree.map(np.testing.assert_array_equal, first, second)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(first))
  # A first image stands in for what is missing, and counts as often.
  filled = image.copy()
  filled[0, 2], filled[1, 1:] = image[0, 0], image[1, 0]
  maps = model.apply(
    variables, filled.reshape(-1, *_SIZE, 1), method=lambda m, x: m.trunk(x)
  )
  mean = np.asarray(first[1]['bn']['norm']['mean'])
  before = np.asarray(variables['batch_stats']['bn']['norm']['mean'])
  np.testing.assert_allclose(
    mean, 0.99 * before + 0.01 * maps.mean(axis=(0, 1, 2)), rtol=1e-4
  )


def test_every_part_of_the_answer_is_looked_at(setting):
  *_, image, slots, meta, answer = setting
  expected = answer(image, slots)

  def changes(image=image, slots=slots, meta=meta):
    return np.abs(answer(image, slots, meta) - expected)[:, 0]

  for slot in (0, 1, 3, 4, 5):
    other = image.copy()
    other[0, slot] = 1 - other[0, slot]
    assert changes(image=other)[0] > 1e-5
    assert changes(image=other)[1] == 0
  for code in ([2, 0, 0], [0, 0, 1]):  # view, laterality
    other = slots.copy()
    other[0, 0] = code
    assert changes(slots=other)[0] > 1e-4
  swapped = slots.copy()
  swapped[0, :, 1] = [1, 1, -1, 0, 0, 0]
  assert changes(slots=swapped)[0] > 1e-4
  assert (changes(meta=meta + 1) > 1e-4).all()


def test_duplicates_count_as_in_a_mean(setting):
  *_, image, slots, _, answer = setting
  one = answer(image[:, :1], slots[:, :1])
  thrice = answer(image[:, [0, 0, 0]], slots[:, [0, 0, 0]])
  np.testing.assert_allclose(thrice, one, rtol=1e-5)
  # All of them twice: nothing changes. One of them twice: it counts more.
  pair = answer(image[:, [0, 1]], slots[:, [0, 1]])
  twice = answer(image[:, [0, 1, 1, 0]], slots[:, [0, 1, 1, 0]])
  np.testing.assert_allclose(twice, pair, rtol=1e-5)
  more = answer(image[:, [0, 1, 1]], slots[:, [0, 1, 1]])
  assert np.abs(more - pair)[0] > 1e-4


def test_without_the_other_breast_nothing_is_compared(setting):
  _, variables, image, slots, meta, answer = setting
  alone = many_view.of(_Normalised)()
  width = variables['params']['head']['codes']['view'].shape[1]
  kernel = variables['params']['head']['logits']['cancer']['kernel']
  own = jax.tree.map(lambda x: x, variables)
  own['params']['head']['logits']['cancer']['kernel'] = jnp.concatenate(
    [kernel[:width], kernel[3 * width :]]
  )
  found = jax.jit(lambda *x: alone.apply(own, *x[:2], False, slots=x[2]))(
    image[:, :3], meta, slots[:, :3]
  )
  np.testing.assert_allclose(
    answer(image[:, :3], slots[:, :3]), found['cancer'], rtol=1e-5
  )


def test_plain_images_are_breasts_of_one_image_each(setting):
  model, variables, image, _, meta, answer = setting
  unknown = np.asarray(many_view.unknown_slots(2))
  assert unknown.tolist() == [[[6, 0, 2]]] * 2
  expected = answer(image[:, :1], unknown)
  plain = model.apply(variables, image[:, 0], meta, False)
  np.testing.assert_allclose(plain['cancer'], expected, rtol=1e-5)
  maps = model.apply(variables, image[:, 0], method='features')
  assert maps.ndim == 4
  found = model.apply(variables, maps, meta, method='classify')
  np.testing.assert_allclose(found['cancer'], expected, rtol=1e-5)


@pytest.mark.parametrize('trunk', model_options.TRUNKS)
def test_the_weights_of_a_network_of_single_images_have_a_place(trunk):
  fields = {'pool': 'gem', 'trunk': trunk, 'depth': 0.2}
  shapes = []
  for name, group in ((trunk, 'image'), ('many_view', 'breast')):
    model = models.create(_config(name, group, **fields))
    image, meta = np.zeros((1, 32, 32, 1), 'f'), np.zeros((1, _META), 'f')
    made = jax.eval_shape(model.init, jax.random.key(0), image, meta)
    shapes.append(
      {
        jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(made)
      }
    )
  single, many = shapes
  assert single.items() < many.items()
  added = {'/'.join(name.split('/')[:3]) for name in many.keys() - single}
  assert added == {'params/head/attention', 'params/head/codes'}


def test_with_weights_of_single_images_it_starts_as_the_mean_of_logits(setting):
  *_, image, slots, meta, _ = setting
  single, many = _Normalised(), many_view.of(_Normalised)()
  theirs = models.init(single, jax.random.key(0), _SIZE, _META)
  ours = models.init(many, jax.random.key(1), _SIZE, _META)
  flat = dict(jax.tree_util.tree_leaves_with_path(theirs))
  loaded = jax.tree_util.tree_map_with_path(
    lambda path, leaf: flat.get(path, leaf), ours
  )
  call = jax.jit(lambda x: single.apply(theirs, x, meta)['cancer'])
  each = [np.asarray(call(image[:, i])) for i in (0, 1)]
  found = jax.jit(
    lambda x, slots: many.apply(loaded, x, meta, False, slots=slots)
  )(image[:, :2], slots[:, :2])
  mean = (each[0] + each[1]) / 2
  np.testing.assert_allclose(
    found['cancer'], [mean[0], each[0][1]], rtol=1e-4, atol=1e-6
  )


def test_hidden_codes_are_those_of_images_of_which_nothing_is_known():
  def network(hide):
    return many_view.of(small_network.Small)(hide=hide)

  variables = _noisy(models.init(network(0), jax.random.key(0), _SIZE, 0))
  chance = np.random.default_rng(0)
  pooled = chance.uniform(size=(4, 2, 16)).astype(np.float32)
  slots = np.array([[[0, 0, 0], [1, 0, 1]]] * 4, np.int32)
  meta = np.zeros((4, 0), np.float32)

  @functools.partial(jax.jit, static_argnums=(1, 2))
  def join(slots, hide, train, key=0):
    return network(hide).apply(
      variables,
      pooled,
      slots,
      meta,
      train,
      method='join',
      rngs={'dropout': jax.random.key(key)},
    )['cancer'][:, 0]

  unknown = np.asarray(many_view.unknown_slots(4, 2))
  plain = join(slots, 0.5, False)
  hidden = join(unknown, 0.5, False)
  assert np.abs(plain - hidden).max() > 1e-3
  np.testing.assert_allclose(join(slots, 1.0, True), hidden, rtol=1e-5)
  np.testing.assert_array_equal(join(slots, 0.0, True), plain)
  found = np.stack([join(slots, 0.5, True, key) for key in range(20)])
  # Two images, each hidden or not: four answers.
  assert len(np.unique(found[:, 0].round(5))) == 4


def test_each_image_is_augmented_by_a_key_of_its_own():
  options = config.default().augment
  for name in ('flip_vertical', 'rotation_deg', 'scale', 'shift', 'contrast'):
    options[name] = 0.0
  image = np.full((2, 3, *_SIZE, 1), 0.5, np.float32)
  keys = layers.example_keys(jax.random.key(0), 2, None)
  step = jax.jit(lambda x, keys: steps.augmented(x, keys, options))
  found = np.asarray(step(image, keys))
  assert found.shape == image.shape
  assert len(np.unique(found.mean(axis=(2, 3, 4)).round(6))) == 6
  third = jax.vmap(jax.random.fold_in, (0, None))(keys, 2)
  alone = jax.jit(lambda x, keys: augment.apply(x, keys, options))
  np.testing.assert_allclose(found[:, 2], alone(image[:, 2], third), rtol=1e-6)


def test_devices_share_a_batch_of_breasts():
  c = tiny_steps.make_config()
  chance = np.random.default_rng(0)
  batch = tiny_steps.make_batch(rows=8)
  batch['image'] = chance.integers(0, 256, (8, 3, 16, 16, 1)).astype(np.uint8)
  side = chance.choice([-1, 0, 1], (8, 3), p=[0.3, 0.4, 0.3])
  side[:, 0] = 0
  codes = chance.integers(0, 2, (8, 3, 3))
  codes[..., 1] = side
  batch['slots'] = codes.astype(np.int32)
  found = []
  for mode, devices in (('jit', jax.devices()[:1]), ('shard_map', None)):
    mesh = parallel.make_mesh(devices)
    axis = parallel.axis_name(mode)
    model = many_view.of(tiny_steps.Network)(
      dropout=0.3, axis_name=axis, compare=True, hide=0.5
    )
    tx = optim.create(c)
    state = steps.create_state(model, tx, c, jax.random.key(0), meta_width=2)
    step = functools.partial(
      steps.train_step, model=model, tx=tx, loss=losses.create(c), axis=axis
    )
    step = parallel.wrap(step, mode, mesh)
    state, metrics = step(
      parallel.place_state(state, mesh),
      parallel.place_batch(batch, mode, mesh),
      jax.random.key(1),
    )
    found.append(jax.device_get((state.batch_stats, metrics)))
  tiny_steps.close(*found, atol=1e-5)
