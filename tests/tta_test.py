import functools

import jax
import numpy as np
import pytest
import small_network
import tiny

from rsna_jax import config, errors, models, optim, parallel, steps, tta

_SIZE = (32, 24)


@pytest.fixture(scope='module')
def setting():
  """A network that is sensitive to place, its state, and a batch."""
  model = small_network.Small()
  chance = np.random.default_rng(0)
  image = chance.integers(0, 256, (3, *_SIZE, 1)).astype(np.uint8)
  meta = chance.standard_normal((3, 2)).astype(np.float32)
  c = tiny.make_config('unused')
  state = steps.create_state(
    model,
    optim.create(c),
    c,
    jax.random.key(0),
    meta_width=2,
    image_size=_SIZE,
  )
  return model, state, {'image': image, 'meta': meta}


def _plain(setting, image) -> np.ndarray:
  model, state, batch = setting
  batch = batch | {'image': image}
  return np.asarray(steps.predict_step(state, batch, model=model)['cancer'])


def _augmented(setting, *names) -> np.ndarray:
  model, state, batch = setting
  step = jax.jit(functools.partial(tta.predict_step, model=model, names=names))
  return np.asarray(step(state, batch)['cancer'])


def test_without_views_it_is_the_plain_step(setting):
  image = setting[2]['image']
  found = _augmented(setting)
  np.testing.assert_allclose(found, _plain(setting, image), rtol=1e-5)


def test_a_flip_is_averaged_with_the_image_as_logits(setting):
  image = setting[2]['image']
  expected = (_plain(setting, image) + _plain(setting, image[:, ::-1])) / 2
  np.testing.assert_allclose(
    _augmented(setting, 'flip_vertical'), expected, rtol=1e-4
  )


def test_intensity_is_a_power_of_the_grey_values(setting):
  grey = setting[2]['image'].astype(np.float32) / 255
  expected = np.mean([_plain(setting, grey**p) for p in (1, 0.85, 1.15)], 0)
  np.testing.assert_allclose(
    _augmented(setting, 'intensity'), expected, rtol=1e-4
  )


def test_all_views_are_the_mean_of_views_made_one_by_one(setting):
  grey = setting[2]['image'].astype(np.float32) / 255
  height, width = _SIZE

  def sampled(y, x):
    """The image at (H, W) places, 0 outside: four neighbours, by hand."""
    found = np.zeros_like(grey)
    for row in range(height):
      for column in range(width):
        top, left = int(np.floor(y[row])), int(np.floor(x[column]))
        for i in (top, top + 1):
          for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
              share = (1 - abs(y[row] - i)) * (1 - abs(x[column] - j))
              found[:, row, column] += share * grey[:, i, j]
    return found

  rows, columns = np.arange(height), np.arange(width)
  made = [grey, grey**0.85, grey**1.15]
  for shift in (-0.02, 0.02):
    made.append(sampled(rows + shift * height, columns))
  for zoom in (0.95, 1.05):
    # The middle of the chest wall, at the edge of the first column, stays.
    middle = (height - 1) / 2
    y = middle + (rows - middle) / zoom
    made.append(sampled(y, (columns + 0.5) / zoom - 0.5))
  made += [one[:, ::-1] for one in made]
  expected = np.mean([_plain(setting, one) for one in made], axis=0)
  assert len(tta.views(tta.NAMES, _SIZE)[0]) == len(made) == 14
  np.testing.assert_allclose(
    _augmented(setting, *tta.NAMES), expected, rtol=1e-3, atol=1e-5
  )


def test_the_network_is_in_the_program_once(setting):
  model, state, batch = setting
  size = {
    names: jax.jit(
      functools.partial(tta.predict_step, model=model, names=names)
    )
    .lower(state, batch)
    .as_text()
    .count('stablehlo.convolution')
    for names in ((), tta.NAMES)
  }
  assert size[()] == size[tta.NAMES] > 0


def test_a_network_of_metadata_alone_is_left_as_it_is():
  c = tiny.make_config('unused', model__name='meta')
  model = models.create(c)
  state = steps.create_state(
    model,
    optim.create(c),
    c,
    jax.random.key(0),
    meta_width=2,
    image_size=(0, 0),
  )
  batch = {
    'image': np.zeros((2, 0, 0, 1), np.uint8),
    'meta': np.ones((2, 2), np.float32),
  }
  found = tta.predict_step(state, batch, model=model, names=tta.NAMES)
  expected = steps.predict_step(state, batch, model=model)
  assert (found['cancer'] == expected['cancer']).all()


@pytest.mark.parametrize('names', [('mirror',), ('shift', 'shift')])
def test_unknown_and_repeated_views_are_named(names):
  with pytest.raises(errors.ConfigError, match='flip_vertical'):
    tta.views(names, _SIZE)
  c = config.default()
  c.eval.tta = names
  with pytest.raises(errors.ConfigError, match=f'eval.tta=.*{names[0]}'):
    config.validate(c)


def test_the_views_run_under_every_mode_of_parallel_work(setting):
  model, state, batch = setting
  batch = {k: np.repeat(v, 3, axis=0)[:8] for k, v in batch.items()}
  step = functools.partial(tta.predict_step, model=model, names=('shift',))
  alone = np.asarray(step(state, batch)['cancer'])
  mesh = parallel.make_mesh()
  for mode in parallel.MODES:
    found = parallel.wrap_predict(step, mode, mesh)(
      parallel.place_state(state, mesh), parallel.place_batch(batch, mode, mesh)
    )
    np.testing.assert_allclose(found['cancer'], alone, rtol=1e-4)
