"""The engine with a tiny model: batches, the queue, exchanges, explanations."""

import concurrent.futures
import dataclasses
import pathlib
import threading
import time

import numpy as np
import pytest

from rsna_jax import errors, inference
from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import engine as engine_lib

_SETTINGS = settings_lib.Settings(store=pathlib.Path('s'), batch_wait_s=0.05)


def _prepared(seed: int, **attributes) -> inference.Prepared:
  chance = np.random.default_rng(seed)
  pixels = chance.integers(0, 256, (64, 32)).astype(np.uint8)
  return inference.Prepared(str(seed), pixels, (0, 0, 64, 32), attributes)


@pytest.fixture(scope='module')
def engine(tiny_run):
  made = engine_lib.Engine(_SETTINGS)
  made.load(1, tiny_run)
  with pytest.raises(problems.Problem) as caught:
    made.predict([_prepared(0)])
  assert caught.value.code == 'E_STARTING'
  made.start()
  _wait(lambda: made.ready)
  yield made
  made.stop()
  with pytest.raises(problems.Problem):
    made.predict([_prepared(0)])


def _wait(true):
  end = time.monotonic() + 60
  while not true():
    assert time.monotonic() < end
    time.sleep(0.01)


@pytest.fixture
def batches(engine, monkeypatch):
  """Sizes of the batches that the model is asked, which can be held up."""
  model = engine.current.model
  ask, seen = model.predict_prepared, []
  gate = threading.Event()
  gate.set()

  def asked(found):
    gate.wait(60)
    seen.append(len(found))
    return ask(found)

  monkeypatch.setattr(model, 'predict_prepared', asked)
  seen_and_gate = seen, gate
  yield seen_and_gate
  gate.set()
  _wait(lambda: engine.waiting == 0)


def test_requests_that_arrive_together_share_a_batch(engine, batches):
  seen, gate = batches
  gate.clear()
  first = engine.predict([_prepared(99)])
  _wait(lambda: first.running())
  parts = [
    [_prepared(10 * i + k, age=50 + i) for k in range(1 + i % 3)]
    for i in range(6)
  ]
  futures = [engine.predict(part) for part in parts]
  gate.set()
  alone = inference.Model.predict_prepared
  for part, future in zip(parts, futures, strict=True):
    loaded, said = future.result(60)
    assert loaded.number == 1
    assert [one.name for one in said] == [one.name for one in part]
    for one, expected in zip(said, part, strict=True):
      (right,) = alone(loaded.model, [expected])
      assert one.cancer == pytest.approx(right.cancer, abs=1e-5)
  assert seen[:2] == [1, 12]


def test_batches_are_no_larger_than_the_setting(engine, batches):
  seen, gate = batches
  gate.clear()
  first = engine.predict([_prepared(0)])
  _wait(lambda: first.running())
  futures = [engine.predict([_prepared(i)] * 3) for i in range(12)]
  gate.set()
  concurrent.futures.wait(futures, 60)
  assert max(seen) <= _SETTINGS.batch
  assert sum(seen) == 37


def test_a_full_queue_says_when_to_come_again(engine, batches):
  _, gate = batches
  gate.clear()
  futures = []
  with pytest.raises(problems.Problem) as caught:
    for i in range(100):
      futures.append(engine.predict([_prepared(i)]))
  assert caught.value.code == 'E_BUSY'
  assert caught.value.status == 503
  assert caught.value.retry_after_s >= 1
  assert len(futures) == _SETTINGS.queue
  gate.set()
  assert all(len(one.result(60)[1]) == 1 for one in futures)
  assert engine.predict([_prepared(1)]).result(60)


def test_who_has_left_is_not_computed(engine, batches):
  seen, gate = batches
  gate.clear()
  first = engine.predict([_prepared(0)])
  _wait(lambda: first.running())
  left, stays = engine.predict([_prepared(1)]), engine.predict([_prepared(2)])
  assert left.cancel()
  gate.set()
  assert stays.result(60)[1][0].name == '2'
  assert seen == [1, 1]


def test_a_bad_request_costs_itself_alone(engine, batches):
  _, gate = batches
  gate.clear()
  first = engine.predict([_prepared(0)])
  _wait(lambda: first.running())
  bad = engine.predict([_prepared(1, view=b'no view')])
  good = engine.predict([_prepared(2)])
  gate.set()
  with pytest.raises(errors.InputError):
    bad.result(60)
  assert good.result(60)[1][0].name == '2'


def test_an_exchange_drops_no_request(tiny_run):
  """Requests go on while models change; each answer names a whole model."""
  made = engine_lib.Engine(_SETTINGS)
  made.load(1, tiny_run)
  made.start()
  _wait(lambda: made.ready)
  numbers, failed, done = [], [], threading.Event()

  def ask():
    while not done.is_set():
      try:
        numbers.append(made.predict([_prepared(3)]).result(60)[0].number)
      except Exception as error:
        failed.append(error)

  threads = [threading.Thread(target=ask) for _ in range(4)]
  for thread in threads:
    thread.start()
  for number in (2, 3):
    made.swap(number, tiny_run)
    before = len(numbers)
    _wait(lambda before=before: len(numbers) > before + 20)
  done.set()
  for thread in threads:
    thread.join()
  assert not failed
  assert set(numbers) == {1, 2, 3}
  assert numbers[-1] == 3
  assert made.by_number(2).number == 2  # for maps of what it answered
  with pytest.raises(problems.Problem) as caught:
    made.by_number(1)
  assert caught.value.code == 'E_NOT_FOUND'
  made.stop()


def test_a_request_is_answered_by_the_model_that_it_began_with(tiny_run):
  made = engine_lib.Engine(_SETTINGS)
  made.load(1, tiny_run)
  made.start()
  _wait(lambda: made.ready)
  first = made.current
  made.swap(2, tiny_run)
  old, new = made.predict([_prepared(1)], first), made.predict([_prepared(1)])
  assert old.result(60)[0].number == 1
  assert new.result(60)[0].number == 2
  made.stop()


def test_a_model_that_is_none_leaves_the_old_one(engine, tmp_path):
  with pytest.raises(errors.InputError):
    engine.swap(9, tmp_path)
  assert engine.current.number == 1
  assert engine.predict([_prepared(1)]).result(60)[0].number == 1


def test_the_reference_is_the_validation_set_as_it_is_calibrated(engine):
  loaded = engine.current
  assert len(loaded.reference) == len(loaded.labels) == 8
  assert (np.diff(loaded.reference) >= 0).all()
  assert set(loaded.labels.tolist()) == {0, 1}


def test_an_answer_is_explained_over_the_original(engine):
  prepared = _prepared(5, age=60)
  prepared = dataclasses.replace(
    prepared, pixels=np.maximum(prepared.pixels, 40)
  )
  found = {
    'pixels': prepared.pixels,
    'box': prepared.box,
    'attributes': prepared.attributes,
    'to_original': np.array([[2.0, 0, 5], [0, 2.0, 3]]),
    'original_shape': (140, 80),
    'picture': None,
  }
  made = engine.explain(engine.current, 'x', found, 'hirescam').result(120)
  assert made.map.shape == (64, 32)
  assert made.target == 'cancer'
  assert made.on_original((140, 80)).shape == (140, 80)
  for method, target in (('hirescam', 'density_B'), ('lime', None)):
    with pytest.raises(problems.Problem) as caught:
      engine.explain(engine.current, 'x', found, method, target)
    assert caught.value.code == 'E_FIELD'
