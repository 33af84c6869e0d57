import json
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rsna_jax import checkpoint


def _state(value: float):
  params = {
    'a': {'kernel': jnp.arange(600.0).reshape(20, 30) * value},
    'b': jnp.full(4, value, jnp.bfloat16),
  }
  tx = optax.adamw(optax.cosine_decay_schedule(1e-3, 10))
  return {
    'step': jnp.int32(value),
    'params': params,
    'opt_state': tx.init(params),
    'ema': None,
  }


def _equal(a, b) -> bool:
  same = jax.tree.map(
    lambda x, y: (
      np.asarray(x).dtype == np.asarray(y).dtype
      and np.asarray(x).tobytes() == np.asarray(y).tobytes()
    ),
    a,
    b,
  )
  return all(jax.tree.leaves(same))


def _files(folder):
  return sorted(
    path
    for path in folder.rglob('*')
    if path.is_file() and path.name != 'manifest.json'
  )


def test_what_was_saved_is_restored_bit_for_bit(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(3), 3)
    restored = saved.restore(_state(0))
  assert restored.step == 3
  assert _equal(restored.state, _state(3))


def test_the_latest_and_the_best_steps_are_kept(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=1) as saved:
    for step, score in ((1, 0.5), (2, 0.9), (3, 0.7), (4, None)):
      saved.save(_state(step), step, score)
    assert saved.steps() == [2, 4]
    assert (saved.best(), saved.latest()) == (2, 4)


def test_a_score_that_is_nan_is_never_the_best(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1, 0.1)
    saved.save(_state(2), 2, float('nan'))
    assert saved.best() == 1


def test_every_flipped_bit_is_found_and_the_step_before_is_taken(
  tmp_path, caplog
):
  with checkpoint.Checkpoints(tmp_path / 'whole', keep=2) as saved:
    saved.save(_state(1), 1)
    saved.save(_state(2), 2)
  chance = random.Random(0)
  newest = tmp_path / 'whole' / 'checkpoints' / '2'
  names = [path.relative_to(newest) for path in _files(newest)]
  names = [name for name in names if (newest / name).stat().st_size]
  with checkpoint.Checkpoints(tmp_path / 'whole', read_only=True) as saved:
    for _ in range(150):
      path = newest / chance.choice(names)
      whole = path.read_bytes()
      damaged = bytearray(whole)
      damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
      path.write_bytes(damaged)
      assert saved.damage(2) is not None, path
      path.write_bytes(whole)
    assert saved.damage(2) is None
    path.write_bytes(damaged)
    assert saved.restore(_state(0)).step == 1
    assert 'checkpoints/2 is damaged' in caplog.text


def test_a_damaged_score_stops_neither_looking_on_nor_going_on(
  tmp_path, caplog
):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1, 0.5)
    saved.save(_state(2), 2, 0.7)
  path = next((tmp_path / 'checkpoints' / '2').rglob('metrics/metrics'))
  path.write_text(path.read_text().replace(':', '!'))
  for read_only in (True, False):
    caplog.clear()
    with checkpoint.Checkpoints(tmp_path, read_only=read_only) as saved:
      assert saved.best() == 1
      assert saved.restore(_state(0)).step == 1
      assert 'checkpoints/2 is damaged' in caplog.text
  assert checkpoint.finished_steps(tmp_path) == [1]


def test_a_step_may_get_its_score_and_keeps_its_notes(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1, 0.9, wait=False)
    saved.save(_state(2), 2, notes={'losses': [0.25, 1e-300]}, wait=False)
    assert not saved.restore(_state(0)).scored
    saved.save(_state(2), 2, 0.95)
    restored = saved.restore(_state(0))
    assert saved.best() == 2
  assert restored.scored and restored.notes == {'losses': [0.25, 1e-300]}
  assert _equal(restored.state, _state(2))


def test_what_is_not_finite_is_not_saved_but_for_the_optimiser(tmp_path):
  state = _state(1)
  state['opt_state'] = {'best': np.float32(np.inf)}
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(state, 1)
    state['params']['b'] = jnp.full(4, jnp.nan, jnp.bfloat16)
    with pytest.raises(checkpoint.NotFiniteError, match='params/b is not'):
      saved.save(state, 2)
    assert saved.steps() == [1]


def test_a_save_in_the_background_is_a_copy_and_its_error_comes_later(
  tmp_path,
):
  state = {'a': np.zeros(1000)}
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(state, 1, wait=False)
    state['a'] += 1
    assert not saved.restore(state).state['a'].any()
    (tmp_path / 'checkpoints' / '2').write_text('a file in the way')
    saved.save(state, 2, wait=False)
    with pytest.raises(NotADirectoryError):
      saved.wait()
    (tmp_path / 'checkpoints' / '2').unlink()
    saved.save(state, 2)
    assert saved.steps() == [1, 2]


def test_a_missing_an_emptied_and_an_added_file_are_damage(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1)
    folder = tmp_path / 'checkpoints' / '1'
    for path in _files(folder):
      whole = path.read_bytes()
      path.unlink()
      assert 'missing' in saved.damage(1)
      if whole:
        path.write_bytes(b'')
        assert 'changed' in saved.damage(1)
      path.write_bytes(whole)
    (folder / 'more').write_bytes(b'')
    assert 'more' in saved.damage(1)


def test_when_every_step_is_damaged_all_are_named(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    for step in (1, 2):
      saved.save(_state(step), step)
      _files(tmp_path / 'checkpoints' / str(step))[0].write_bytes(b'x')
    with pytest.raises(checkpoint.CheckpointError, match=r'step\(s\) 2, 1'):
      saved.restore(_state(0))


def test_a_half_written_step_is_never_picked_up(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1)
  folder = tmp_path / 'checkpoints'
  # As a kill leaves them: before Orbax's rename, and before our manifest.
  shutil.copytree(folder / '1', folder / '2.orbax-checkpoint-tmp')
  shutil.copytree(folder / '1', folder / '3')
  (folder / '3' / 'manifest.json').unlink()
  with checkpoint.Checkpoints(tmp_path) as saved:
    assert saved.restore(_state(0)).step == 1
    saved.save(_state(3), 3)
    assert saved.steps() == [1, 3]
  assert not (folder / '2.orbax-checkpoint-tmp').exists()


def test_a_damaged_step_can_be_saved_again(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1)
    saved.save(_state(2), 2)
    _files(tmp_path / 'checkpoints' / '2')[0].write_bytes(b'x')
    assert saved.restore(_state(0)).step == 1
    saved.save(_state(2), 2)
    assert saved.restore(_state(0)).step == 2


def test_arrays_of_another_model_are_refused_by_name(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1)
    other = _state(1)
    other['params']['a']['kernel'] = jnp.zeros((20, 31))
    with pytest.raises(
      checkpoint.CheckpointError, match=r'params/a/kernel is \(20, 30\)'
    ):
      saved.restore(other)


def test_a_step_that_is_not_there_is_answered_with_those_that_are(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    assert saved.restore(_state(0)) is None
    saved.save(_state(4), 4)
    with pytest.raises(checkpoint.CheckpointError, match='there are: 4'):
      saved.restore(_state(0), 5)


def test_the_manifest_lists_every_file(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1)
  folder = tmp_path / 'checkpoints' / '1'
  listed = json.loads((folder / 'manifest.json').read_text())
  assert sorted(listed) == sorted(
    str(path.relative_to(folder)) for path in _files(folder)
  )


def test_a_disk_that_is_too_full_is_refused_before_anything_is_written(
  tmp_path, monkeypatch
):
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(_state(1), 1)
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(OSError, match='No space left') as error:
      saved.save(_state(2), 2)
    assert error.value.filename.endswith(' wanted, 10,000 free)')
    assert [p.name for p in saved.folder.iterdir() if p.is_dir()] == ['1']
    assert saved.restore(_state(0)).step == 1
