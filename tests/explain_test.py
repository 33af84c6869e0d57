import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rsna_jax import cli, errors, evaluate, explain, inference, optim, steps
from rsna_jax import run as run_lib


@pytest.fixture(scope='module')
def model(tiny_run):
  return inference.load_model(tiny_run)


@pytest.fixture(scope='module')
def picture(tiny_layout):
  return tiny_layout / 'test_images' / '17' / '170.png'


@pytest.mark.parametrize('method', explain.METHODS)
def test_a_run_is_explained_with_its_own_metadata(model, picture, method):
  known = {'age': 61, 'view': 'CC'}
  found = explain.explain(model, picture, method, known)
  (said,) = model.predict([picture], [known])
  assert found.probability == pytest.approx(said.cancer, abs=1e-6)
  # The score is the logit of what is predicted.
  odds = said.cancer / (1 - said.cancer)
  assert found.score == pytest.approx(np.log(odds), abs=1e-3)
  assert found.map.shape == (64, 32) and found.map.dtype == np.float32
  assert not found.map[~found.mask].any()
  # Of Grad-CAM nothing is left where all speaks against.
  assert found.map.any() or method == 'grad-cam'
  assert np.isfinite(found.map).all()
  assert found.box == said.box
  back = found.on_original()
  assert back.shape == found.original_shape == (256, 160)
  top, left, bottom, right = found.box
  rows, columns = np.mgrid[:256, :160] + 0.5
  outside = (rows < top) | (rows > bottom) | (columns < left)
  outside |= columns > right
  assert not back[outside].any()
  if found.peak is not None:
    x, y = found.peak
    assert back[int(y), int(x)] >= 0.8 * back.max() > 0


def test_other_metadata_changes_the_score_and_bytes_are_as_good(model, picture):
  found = [
    explain.explain(model, picture.read_bytes(), metadata={'age': age}).score
    for age in (40, 80)
  ]
  assert found[0] != found[1]


def test_the_map_is_float32_for_a_run_of_bfloat16(model, monkeypatch):
  monkeypatch.setattr(
    model, 'config', model.config.copy_and_resolve_references()
  )
  model.config.train.dtype = 'bfloat16'
  network, variables = model.network()
  assert network.dtype == jnp.float32
  text = str(
    jax.make_jaxpr(network.apply)(
      variables,
      np.zeros((1, 64, 32, 1), np.float32),
      np.zeros((1, model.encoder.width), np.float32),
    )
  )
  assert 'bf16' not in text


@pytest.fixture
def density_model(tiny_run, monkeypatch):
  """A model of the 8 classes, with the first weights of a training."""
  run = run_lib.load(tiny_run)
  run.config.data.target = 'density_cancer'

  def first(run, which):
    c = run.config
    network = evaluate.create_model(c)
    key, width = jax.random.key(0), run.encoder.width
    made = steps.create_state(
      network, optim.create(c), c, key, meta_width=width
    )
    return made, 0

  monkeypatch.setattr(evaluate, 'restore', first)
  return inference.Model(run, None)


def test_a_class_is_chosen_by_its_name(density_model, picture):
  model = density_model
  cancer = explain.explain(model, picture)
  assert cancer.target == 'cancer'
  odds = cancer.probability / (1 - cancer.probability)
  assert cancer.score == pytest.approx(np.log(odds), abs=1e-3)
  one, other = (
    explain.explain(model, picture, target=name)
    for name in ('Density2Benign', 'Density3Malignant')
  )
  assert one.probability == cancer.prediction.probabilities['Density2Benign']
  assert not np.allclose(one.map, other.map)
  with pytest.raises(errors.ConfigError, match='cancer, Density1Benign'):
    explain.explain(model, picture, target='density')


def test_what_cannot_be_explained_is_said(model, picture, tmp_path):
  with pytest.raises(errors.ConfigError, match='grad-cam, hirescam'):
    explain.explain(model, picture, 'lime')
  with pytest.raises(errors.InputError, match='BIRADS'):
    explain.explain(model, picture, metadata={'BIRADS': 4})
  with pytest.raises(errors.DataError, match=r'none\.png: no such file'):
    explain.explain(model, tmp_path / 'none.png')


def _refused(capsys, *arguments) -> str:
  capsys.readouterr()
  with pytest.raises(SystemExit) as end:
    cli.main([*map(str, arguments)])
  assert end.value.code == 2
  lines = capsys.readouterr().err.splitlines()
  (line,) = [line for line in lines if line.startswith('error: ')]
  return line


def test_the_command_writes_pictures_and_numbers(
  tiny_run, picture, tmp_path, capsys
):
  twin = tmp_path / 'b' / picture.name
  twin.parent.mkdir()
  shutil.copy(picture, twin)
  with pytest.raises(SystemExit) as end:
    cli.main(
      [
        *('explain', str(picture), str(twin), '--workdir', str(tiny_run)),
        *('--out', str(tmp_path / 'out'), '--workers', '1'),
      ]
    )
  assert end.value.code == 0
  assert 'not a medical device' in capsys.readouterr().out
  folders = sorted(path.name for path in (tmp_path / 'out').iterdir())
  assert folders == ['170', '170_2']
  folder = tmp_path / 'out' / '170'
  found = json.loads((folder / 'explanation.json').read_text())
  assert found['method'] == 'hirescam' and found['target'] == 'cancer'
  assert found['file'] == str(picture) and 0 <= found['probability'] <= 1
  assert set(found['box']) == {'top', 'left', 'bottom', 'right'}
  assert found['step'] in (4, 8)
  overlay = np.asarray(Image.open(folder / 'overlay.png').convert('RGB'))
  assert overlay.shape[1] == 160 and overlay.shape[0] > 256
  coloured = np.ptp(overlay[:256].astype(int), axis=2) > 10
  box = found['box']
  inside = np.zeros(coloured.shape, bool)
  rows = slice(int(box['top']), int(box['bottom']) + 1)
  inside[rows, int(box['left']) : int(box['right']) + 1] = True
  assert coloured.any() and not coloured[~inside].any()
  assert Image.open(folder / 'standard.png').height > 768


def test_bad_input_is_one_line(tiny_run, picture, tmp_path, capsys):
  end = ('--workdir', tiny_run, '--out', tmp_path / 'out')
  assert 'none.png' in _refused(capsys, 'explain', tmp_path / 'none.png', *end)
  bad = tmp_path / 'bad.dcm'
  bad.write_bytes(b'nothing of use')
  assert 'bad.dcm' in _refused(capsys, 'explain', bad, *end)
  assert '--pointing-game' in _refused(capsys, 'explain', *end)
  assert 'lime' in _refused(
    capsys, 'explain', picture, *end, '--method', 'lime'
  )
  assert 'density_B' in _refused(
    capsys, 'explain', picture, *end, '--target', 'density_B'
  )
  assert 'findings.csv' in _refused(
    capsys, 'explain', '--pointing-game', tmp_path, *end
  )
  no_run = ('--workdir', tmp_path, '--out', tmp_path / 'out')
  assert 'config.json' in _refused(capsys, 'explain', picture, *no_run)
