import json
import math

import pytest

from rsna_jax import cli, errors, explain, pointing
from rsna_jax.data import phantom


@pytest.fixture(scope='module')
def phantoms(tmp_path_factory):
  """Three sick patients and a test patient, at a third of the size."""
  folder = tmp_path_factory.mktemp('phantom') / 'src'
  phantom.write(folder, patients=3, seed=5, scale=0.3, prevalence=1.0)
  return folder


def test_a_peak_on_the_circle_is_on_the_lesion():
  lesions = [
    {'x': 10.0, 'y': 20.0, 'radius': 5.0},
    {'x': 40.0, 'y': 20.0, 'radius': 2.0},
  ]
  points = [(10, 20), (13, 24), (14, 24), (40, 22.1), (25, 20)]
  assert pointing.on_lesion(points, lesions).tolist() == [
    True,
    True,
    False,
    False,
    False,
  ]
  assert pointing.on_lesion(points, lesions, 1.0).tolist() == [True] * 4 + [
    False
  ]


def _play(monkeypatch, run, src, place, **more):
  """The game of a method that points where `place(lesion)` says."""
  lesions = pointing._lesions(src)
  real = explain.explain_decoded

  def pointed(model, name, found, method, target):
    one = real(model, name, found, method, target)
    spots = lesions[name.rpartition('/')[2].removesuffix('.dcm')][1]
    object.__setattr__(one, 'peak', place(spots[0]))
    return one

  monkeypatch.setattr(explain, 'explain_decoded', pointed)
  return pointing.pointing_game(run, src, 'grad-cam', **more)


def test_who_knows_the_lesion_wins_and_who_does_not_loses(
  tiny_run, phantoms, monkeypatch
):
  count = len(pointing._lesions(phantoms))
  game = _play(monkeypatch, tiny_run, phantoms, lambda s: (s['x'], s['y']))
  assert (game.hits, game.n, game.distance) == (count, count, 0.0)
  assert game.low < 1 and game.high == pytest.approx(1)
  assert sum(n for _, n in game.kinds.values()) == count
  # A lesion takes a few per cent of a breast.
  assert 0.003 < game.chance < 0.2
  monkeypatch.undo()
  game = _play(
    monkeypatch,
    tiny_run,
    phantoms,
    lambda s: (s['x'] + s['radius'] + 3, s['y']),
    tolerance=0.0,
    limit=2,
  )
  assert (game.hits, game.n) == (0, 2)
  monkeypatch.undo()
  game = _play(monkeypatch, tiny_run, phantoms, lambda s: None, limit=1)
  assert game.hits == 0 and math.isinf(game.distance)
  assert game.to_json()['distance'] is None


def test_the_command_writes_the_figures(tiny_run, phantoms, tmp_path, capsys):
  with pytest.raises(SystemExit) as end:
    cli.main(
      [
        *('explain', '--workdir', str(tiny_run), '--out', str(tmp_path)),
        *('--pointing-game', str(phantoms), '--method', 'hirescam'),
        *('--limit', '3', '--workers', '1'),
      ]
    )
  assert end.value.code == 0
  assert 'by chance' in capsys.readouterr().out
  (found,) = json.loads((tmp_path / 'pointing_game.json').read_text())
  assert found['method'] == 'hirescam' and found['n'] == 3
  assert found['low'] <= found['share'] <= found['high']


def test_images_that_were_trained_on_do_not_play(
  tiny_run, phantoms, monkeypatch
):
  lesions = pointing._lesions(phantoms)
  image = next(i for i in sorted(lesions) if i in pointing._train_ids(phantoms))
  monkeypatch.setattr(pointing, '_validation_ids', lambda _: {image})
  game = pointing.pointing_game(tiny_run, phantoms, 'hirescam')
  tests = set(lesions) - pointing._train_ids(phantoms)
  assert game.held_out and game.n == 1 + len(tests)


def test_what_is_no_phantom_is_said(tiny_run, tmp_path):
  with pytest.raises(
    errors.DataError, match=r'findings\.csv.*rsna-jax phantom'
  ):
    pointing.pointing_game(tiny_run, tmp_path)
  (tmp_path / 'findings.csv').write_text(
    'image_id,patient_id,kind,x,y,radius\n'
  )
  with pytest.raises(errors.DataError, match='no image with a lesion'):
    pointing.pointing_game(tiny_run, tmp_path)
  (tmp_path / 'findings.csv').write_text(
    'image_id,patient_id,kind,x,y,radius\n1,2,mass,a,3,4\n'
  )
  with pytest.raises(errors.DataError, match=r'findings\.csv: damaged'):
    pointing.pointing_game(tiny_run, tmp_path)
