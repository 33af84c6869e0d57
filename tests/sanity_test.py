"""Maps that do not depend on what was learned explain nothing.

Source: Adebayo et al. 2018, "Sanity checks for saliency maps",
arXiv:1810.03292.
"""

import jax
import numpy as np
import pytest
import scipy.stats
import small_network

from rsna_jax import saliency

_SIZE = (32, 24)
# Layers from the top, each time one more is random.
_CASCADE = (('logits',), ('logits', 'Conv_1'), ('logits', 'Conv_1', 'Conv_0'))
_MASK = np.ones(_SIZE, bool)


@pytest.fixture(scope='module')
def trained():
  """A network that tells spots apart, and images of both spots."""
  model = small_network.Small(targets=(('density', 4),), pool='max')
  variables, losses = small_network.train(model, 'density', steps=150)
  assert losses[-10:].mean() < 0.1
  images, labels, places = small_network.spots(64, seed=9)
  both = np.flatnonzero(labels == 3)[:6]
  return model, variables, images[both, ..., 0], places[both]


def _maps(network, images, method):
  meta = np.zeros((len(images), 0), np.float32)
  if method in saliency.CAMS:
    cells, _ = network.cells(images[..., None], meta, method)
    return saliency.upsampled(cells, _SIZE)
  if method == 'occlusion':
    return [
      network.occlusion(one, none, _MASK, patch=5 / 32, stride=3 / 32)[0]
      for one, none in zip(images, meta, strict=True)
    ]
  return [
    network.integrated_gradients(one, none)[0]
    for one, none in zip(images, meta, strict=True)
  ]


def _alike(one, other) -> float:
  """Mean rank correlation of maps; a flat map is like nothing."""
  found = []
  for a, b in zip(one, other, strict=True):
    flat = np.ptp(a) == 0 or np.ptp(b) == 0
    found.append(
      0.0 if flat else scipy.stats.spearmanr(a, b, axis=None).statistic
    )
  return float(np.mean(found))


def _random(model, variables, names, seed):
  """The variables, those of the named layers as before any training."""
  image = np.zeros((1, *_SIZE, 1), np.float32)
  fresh = model.init(jax.random.key(seed), image, np.zeros((1, 0), np.float32))
  return jax.tree_util.tree_map_with_path(
    lambda path, old, new: (
      new if any(n in jax.tree_util.keystr(path) for n in names) else old
    ),
    variables,
    fresh,
  )


@pytest.mark.parametrize('method', saliency.METHODS)
def test_random_weights_destroy_the_map_from_the_top_layer_on(trained, method):
  model, variables, images, _ = trained
  network = saliency.Network(model, variables, saliency.logit('density', 1))
  images = images[:3]
  learned = _maps(network, images, method)
  assert _alike(learned, _maps(network, images, method)) == pytest.approx(1)
  for names in _CASCADE:
    found = [
      _alike(
        learned,
        _maps(
          network.with_variables(_random(model, variables, names, seed)),
          images,
          method,
        ),
      )
      for seed in (1, 2, 3)
    ]
    assert abs(np.mean(found)) < 0.6, (names, found)


@pytest.mark.parametrize('method', ['hirescam', 'occlusion'])
def test_the_map_of_another_class_is_another(trained, method):
  model, variables, images, places = trained
  bright, dark = (
    _maps(
      saliency.Network(model, variables, saliency.logit('density', k)),
      images,
      method,
    )
    for k in (1, 2)
  )
  assert _alike(bright, dark) < 0
  for i, (row, column) in enumerate(places[:, 0]):
    # The bright spot speaks for 'bright alone', and against 'dark alone'.
    assert bright[i][row, column] > dark[i][row, column]


def test_the_peak_lies_on_what_the_network_has_to_see(trained):
  model, variables, images, places = trained
  network = saliency.Network(model, variables, saliency.logit('density', 1))
  hits = [
    np.abs(np.subtract(np.unravel_index(one.argmax(), _SIZE), place)).max() <= 4
    for one, place in zip(
      _maps(network, images, 'occlusion'), places[:, 0], strict=True
    )
  ]
  assert np.mean(hits) > 0.8
