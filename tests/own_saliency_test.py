"""The map that the global and local network makes itself, as an explanation."""

import jax
import numpy as np
import pytest
from PIL import Image
from ported import quick_jit

from rsna_jax import (
  cli,
  config,
  errors,
  evaluate,
  explain,
  explain_files,
  inference,
  models,
  optim,
  pointing,
  saliency,
  steps,
)
from rsna_jax import run as run_lib
from rsna_jax.data import shown

_SIDE = 16


def _change(c):
  c.model.name, c.model.trunk, c.model.width = 'global_local', 'cnn', 0.05
  c.model.patches, c.model.patch_size = 3, _SIDE
  return c


@pytest.fixture
def model(tiny_run, monkeypatch):
  """A network that looks twice, with the first weights of a training."""
  run = run_lib.load(tiny_run)
  _change(run.config)
  run.config.optim.ema = 0.0

  def first(run, which):
    made = steps.create_state(
      evaluate.create_model(run.config),
      optim.create(run.config),
      run.config,
      jax.random.key(0),
      meta_width=run.encoder.width,
    )
    # A channel of its own for each place, so that no two say the same.
    kernel = made.params['salient']['kernel']
    kernel = np.random.default_rng(0).normal(0, 1, kernel.shape)
    salient = {**made.params['salient'], 'kernel': kernel.astype(np.float32)}
    return made.replace(params={**made.params, 'salient': salient}), 0

  monkeypatch.setattr(evaluate, 'restore', first)
  return inference.Model(run, None)


@pytest.fixture
def picture(tiny_layout):
  return tiny_layout / 'test_images' / '17' / '170.png'


def test_the_map_is_what_the_last_layer_makes_of_each_place():
  c = _change(config.default())
  c.data.size, c.data.target = (65, 97), 'density_cancer'
  network = models.create(c)
  variables = models.init(network, jax.random.key(0), c.data.size, 2)
  chance = np.random.default_rng(1)
  image = chance.random((2, *c.data.size, 1)).astype(np.float32)
  meta = np.zeros((2, 2), np.float32)
  seen, logits = quick_jit(
    lambda variables: (
      network.apply(variables, image, method='look'),
      network.apply(variables, image, meta)['density_cancer'],
    )
  )(variables)
  whole = np.asarray(logits)
  kernel, bias = (variables['params']['salient'][x] for x in ('kernel', 'bias'))
  logits = np.asarray(seen.features, np.float64) @ kernel + bias
  odds = np.log(np.exp(logits[..., 1::2]).sum(-1))
  odds -= np.log(np.exp(logits[..., ::2]).sum(-1))
  malignant = np.log(np.exp(whole[:, 1::2]).sum(-1))
  score = saliency.cancer_log_odds('density_cancer')
  found = saliency.Network(network, variables, score).own(image, meta)
  np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-odds)), atol=1e-5)
  assert np.std(found[0]) > 1e-3
  benign = np.log(np.exp(whole[:, ::2]).sum(-1))
  np.testing.assert_allclose(found[1], malignant - benign, atol=1e-4)
  np.testing.assert_array_equal(found[2], seen.corners)
  np.testing.assert_allclose(found[3], seen.weights, atol=1e-6)


def test_patches_lie_where_they_were_cut_whichever_way_the_breast_faces(
  model, picture
):
  found = explain.explain(model, picture, explain.OWN)
  assert found.score == pytest.approx(
    np.log(found.probability / (1 - found.probability)), abs=1e-3
  )
  assert found.map.shape == (64, 32) and found.map.min() >= 0
  assert found.map.max() <= 1 and found.map[found.mask].std() > 0.01
  assert sum(one.weight for one in found.patches) == pytest.approx(1)
  # The network's own words of the image that it is given.
  network, variables = model.network()
  image = np.asarray(steps.to_float(found.pixels))[None, ..., None]
  seen = quick_jit(lambda x: network.apply(variables, x, method='look'))(image)
  (a, _, x0), (_, b, y0) = found.to_original
  for one, (top, left) in zip(found.patches, seen.corners[0], strict=True):
    xs = sorted((a * left + x0, a * (left + _SIDE) + x0))
    expected = (b * top + y0, xs[0], b * (top + _SIDE) + y0, xs[1])
    np.testing.assert_allclose(one.box, expected, atol=1e-3)
  # As if the picture had been the other way around.
  decoded = shown.shown_file((picture, model.spec.to_json(), 0))
  turned = np.array([[-1.0, 0, 160], [0, 1, 0]])
  decoded['to_original'] = turned @ np.vstack([found.to_original, [0, 0, 1]])
  other = explain.explain_decoded(model, 'turned', decoded, explain.OWN)
  for one, two in zip(found.patches, other.patches, strict=True):
    top, left, bottom, right = one.box
    np.testing.assert_allclose(
      two.box, (top, 160 - right, bottom, 160 - left), atol=1e-3
    )


def test_the_picture_has_the_patches(model, picture, tmp_path, monkeypatch):
  monkeypatch.setattr(inference, 'load_model', lambda *_, **__: model)
  ((folder, one),) = explain_files.explain_files(
    'run', [picture], tmp_path / 'out', method=explain.OWN
  )
  overlay = np.asarray(Image.open(folder / 'overlay.png').convert('RGB'))
  blue = (overlay == (86, 180, 233)).all(axis=2)
  for patch in one.patches:
    top, left, bottom, _ = (round(x) for x in patch.box)
    column = slice(max(top, 0) + 2, min(bottom, 256) - 2)
    assert blue[column, max(left, 0)].mean() > 0.8
  assert explain.methods(model) == (*explain.METHODS, explain.OWN)
  monkeypatch.setattr(pointing, 'pointing_game', lambda *x, **_: _Said(x[2]))
  games = pointing.play('run', 'src', tmp_path)
  assert [game.method for game in games] == [*explain.METHODS, explain.OWN]


class _Said:
  """A game that was not played."""

  def __init__(self, method):
    self.method = method

  def text(self):
    return self.method

  def to_json(self):
    return {}


def test_a_network_without_a_map_of_its_own_is_refused(
  tiny_run, picture, tmp_path, capsys
):
  model = inference.load_model(tiny_run)
  assert explain.methods(model) == explain.METHODS
  with pytest.raises(errors.ConfigError, match=r'model\.name=cnn makes no map'):
    explain.explain(model, picture, explain.OWN)
  command = ['explain', str(picture), '--workdir', str(tiny_run)]
  capsys.readouterr()
  with pytest.raises(SystemExit) as end:
    cli.main(
      [*command, '--out', str(tmp_path / 'o'), '--method', 'own-saliency']
    )
  assert end.value.code == 2 and not (tmp_path / 'o').exists()
  (line,) = capsys.readouterr().err.splitlines()
  assert 'own-saliency' in line and 'hirescam' in line
