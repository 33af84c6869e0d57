"""The loop of submissions on a small scale, with real runs and a real store."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import serve_loop
import serve_store
import sqlalchemy as sa

from rsna_jax import errors, run
from rsna_jax.data import preprocess
from rsna_jax.serve.learning import frozen_files, retrain, retrain_options
from rsna_jax.serve.store import (
  audit_log,
  database,
  frozen_index,
  near,
  submissions,
  tables,
  versions,
)

_TURNS = 'RSNA_JAX_KILL_TURNS'
_OPTIONS = retrain_options.parse(serve_loop.OPTIONS)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  """A run that has learned nothing yet. Not to be changed."""
  return serve_loop.train_base(tmp_path_factory.mktemp('base'))


@pytest.fixture(scope='module')
def loop(base, tmp_path_factory):
  """A store after one retraining, what was said, and its result."""
  folder = tmp_path_factory.mktemp('loop') / 'store'
  store = serve_loop.make_store(folder, base)
  said = []
  result = retrain.run(store.db, _OPTIONS, 'administrator', said.append)
  yield store, said, result
  store.db.close()


@pytest.fixture(scope='module')
def accepted(base, tmp_path_factory):
  """The folder of a store with 60 accepted submissions. Not to be changed."""
  folder = tmp_path_factory.mktemp('accepted') / 'store'
  serve_loop.make_store(folder, base, 60).db.close()
  return folder


@pytest.fixture
def store(accepted, tmp_path):
  """A copy of it for one test."""
  shutil.copytree(accepted, tmp_path / 'store')
  made = serve_store.open_there(tmp_path / 'store', None)
  yield made
  made.db.close()


def test_a_better_model_is_promoted_with_its_scores_and_origin(loop):
  store, said, result = loop
  assert result.outcome.promote, result.outcome.reason
  models = versions.Models(store.db, store.folder)
  serving = models.serving()
  assert serving.number == result.model.number == 2
  assert (serving.parent, serving.dataset_number) == (1, 1)
  assert serving.promoted_by == 'administrator'
  assert serving.reason.startswith('Promoted: on the submissions the AUC')
  gap = serving.scores['submissions']['cancer']['figures']['roc_auc']
  assert gap['difference']['low'] > 0 and gap['new'] > gap['old']
  assert models.check() == []
  assert [line.split(': ')[1] for line in said] == [
    'freezing',
    'preparing',
    'training',
    'judging',
    'installing',
  ]
  assert not (store.folder / 'retrain' / '1').exists()
  with store.db.reading() as session:
    assert audit_log.verify(session) == []
    actions = session.scalars(sa.select(tables.Audit.action)).all()
  assert actions[-3:] == ['dataset.freeze', 'model.add', 'model.promote']


def test_the_scores_are_those_of_the_models_in_the_store(loop, base):
  """AUC computed anew from the predictions that the two runs left behind."""
  import sklearn.metrics

  store, _, result = loop
  figures = result.outcome.scores['original']['cancer']['figures']['roc_auc']
  for number, which in ((1, 'old'), (2, 'new')):
    path = store.folder / f'models/{number}/eval/validation/breasts.csv'
    with path.open() as file:
      rows = list(csv.DictReader(file))
    auc = sklearn.metrics.roc_auc_score(
      [int(row['label']) for row in rows],
      [float(row['cancer']) for row in rows],
    )
    assert figures[which] == pytest.approx(auc, abs=1e-6)


def test_the_frozen_set_holds_what_was_accepted_on_the_sides_of_acceptance(
  loop,
):
  store, _, _ = loop
  folder = store.folder / 'datasets' / '1'
  with store.db.reading() as session:
    rows = {x.id: x for x in session.scalars(sa.select(tables.Submission))}
    listed = session.scalars(sa.select(tables.DatasetMember)).all()
    (dataset,) = session.scalars(sa.select(tables.Dataset)).all()
  members = frozen_files.members(folder)
  assert {x.submission_id for x in members} == set(rows)
  assert {x.submission_id: x.side for x in listed} == {
    key: row.side for key, row in rows.items()
  }
  patients = {}
  for one in members:
    row = rows[one.submission_id]
    assert one.side == row.side
    path = (
      folder
      / one.side
      / 'train_images'
      / str(one.patient_id)
      / f'{one.image_id}.png'
    )
    assert path.read_bytes() == store.blobs.read(row.image_sha256)
    patients.setdefault(row.patient, set()).add((one.patient_id, one.side))
  assert all(len(of) == 1 for of in patients.values())
  for side in tables.SIDES:
    with (folder / side / 'train.csv').open() as file:
      labels = {
        int(x['image_id']): int(x['cancer']) for x in csv.DictReader(file)
      }
    assert labels == {
      x.image_id: rows[x.submission_id].final_cancer
      for x in members
      if x.side == side
    }
    assert dataset.counts[side]['images'] == len(labels)


def test_the_new_run_knows_what_it_learned_from(loop, base):
  store, _, _ = loop
  old, new = run.load(base), run.load(store.folder / 'models/2')
  assert new.fingerprint == old.fingerprint
  assert len(new.extra_fingerprints) == 1
  assert new.config.model.init_from == str(store.folder / 'models/1')
  assert new.config.name == 'tiny, retrained on set 1'
  assert new.encoder.to_json() == old.encoder.to_json()
  found = json.loads(
    (store.folder / 'models/2/eval/validation/metrics.json').read_text()
  )
  assert found['decision']['calibration'] == 'platt'


def test_the_same_again_is_refused_and_other_options_are_not(loop):
  store, _, _ = loop
  with pytest.raises(errors.DataError, match='nothing new since model 2'):
    retrain.run(store.db, _OPTIONS, say=lambda line: None)


def test_going_back_gives_the_first_model_byte_for_byte(loop, base):
  store, _, _ = loop
  models = versions.Models(store.db, store.folder)
  before = versions.weights_sha256(store.folder / 'models/1')
  back = models.rollback(None, 'administrator')
  assert back.number == 1 and back.weights_sha256 == before
  assert models.check() == []
  models.rollback(2, 'administrator')


def test_a_model_that_may_be_worse_on_the_original_is_kept_but_does_not_serve(
  base, tmp_path
):
  # Taught the opposite, it cannot be better on both sets.
  store = serve_loop.make_store(
    tmp_path / 'store', base, 60, flip=range(5_000, 5_060)
  )
  options = retrain_options.parse([*serve_loop.OPTIONS, 'margin=0'])
  result = retrain.run(store.db, options, say=lambda line: None)
  assert not result.outcome.promote
  models = versions.Models(store.db, store.folder)
  assert models.serving().number == 1
  assert models.get(2).status == 'refused'
  assert models.get(2).reason == result.outcome.reason
  assert result.outcome.reason.startswith('Not promoted: ')
  # The next one is another set, though nothing is new: the options are.
  again = retrain.run(
    store.db, retrain_options.parse(serve_loop.OPTIONS), say=lambda line: None
  )
  assert again.model.number == 3 and again.model.dataset_number == 2
  assert again.model.parent == 1
  store.db.close()


def test_too_little_is_said_before_anything_is_frozen(base, tmp_path):
  store = serve_loop.make_store(tmp_path / 'store', base, 0)
  with pytest.raises(errors.DataError, match='no accepted submission'):
    retrain.run(store.db, _OPTIONS)
  serve_loop.submit(store, range(5_000, 5_012))
  with pytest.raises(errors.DataError, match='it takes 4 of each to tell'):
    retrain.run(store.db, _OPTIONS)
  with store.db.reading() as session:
    assert not session.scalars(sa.select(tables.Dataset)).all()
  store.db.close()


def test_without_the_original_data_it_is_refused_and_said_how_to_name_them(
  store, base, tmp_path
):
  path = store.folder / 'models/1/config.json'
  value = json.loads(path.read_text())
  value['data']['dir'] = str(tmp_path / 'gone')
  path.write_text(json.dumps(value))
  with pytest.raises(errors.DataError, match='set data_dir=DIR'):
    retrain.run(store.db, _OPTIONS)
  other = tmp_path / 'other'
  serve_loop.write_layout(other / 'layout', first=10_000)
  from rsna_jax.data import convert

  convert.prepare(
    other / 'layout', other / 'data', spec=serve_loop.SPEC, workers=2
  )
  wrong = retrain_options.parse([f'data_dir={other / "data"}'])
  with pytest.raises(errors.DataError, match='other data than the model'):
    retrain.run(store.db, wrong)
  right = retrain_options.parse(
    [*serve_loop.OPTIONS, f'data_dir={base.parent / "data"}']
  )
  assert retrain.run(store.db, right, say=lambda line: None).model.number == 2


def test_copies_of_frozen_images_never_reach_a_set(base, tmp_path):
  store = serve_loop.make_store(tmp_path / 'store', base, 0)
  image = _validation_image(base)
  pixels = serve_loop.picture(image, False)
  # Before there is an index it gets in, and is accepted.
  serve_loop.submit(store, range(5_000, 5_060))
  row = store.add(pixels[:, ::-1], patient='copy')
  from rsna_jax.serve.store import verdicts

  with store.db.session() as session:
    verdicts.accept(session, row['id'], store.reviewer, distinct=True)
  assert frozen_index.load(store.db) is None
  assert frozen_index.ensure(store.db, store.folder, base)
  frozen = frozen_index.load(store.db)
  # Later ones are caught when they come: scaled, and of other grey.
  from PIL import Image

  scaled = np.asarray(Image.fromarray(pixels).resize((180, 288)))
  late = store.add(scaled, patient='late', frozen=frozen)
  assert late['status'] == 'quarantined'
  fresh = store.add(serve_loop.picture(9_001, False), frozen=frozen)
  assert fresh['status'] == 'pending'
  result = retrain.run(store.db, _OPTIONS, say=lambda line: None)
  members = frozen_files.members(store.folder / 'datasets' / '1')
  assert len(members) == 60
  assert row['id'] not in {x.submission_id for x in members}
  with store.db.reading() as session:
    assert session.get(tables.Submission, row['id']).status == 'quarantined'
  assert result.model.dataset_number == 1
  store.db.close()


def _validation_image(base) -> int:
  """A picture without cancer that the base run was judged on."""
  with (base / 'eval/validation/predictions.csv').open() as file:
    rows = list(csv.DictReader(file))
  return next(int(x['image_id']) for x in rows if x['label_cancer'] == '0')


def test_the_index_finds_each_frozen_image_and_no_other(base, tmp_path):
  store = serve_loop.make_store(tmp_path / 'store', base, 0)
  assert frozen_index.ensure(store.db, store.folder, base)
  frozen = frozen_index.load(store.db)
  with (base / 'eval/validation/predictions.csv').open() as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    pixels = serve_loop.picture(
      int(row['image_id']), row['label_cancer'] == '1'
    )
    assert frozen.holds(near.fingerprints(pixels))
  strange = [serve_loop.picture(seed, False) for seed in range(7_000, 7_060)]
  assert not any(frozen.holds(near.fingerprints(x)) for x in strange)
  # A second call finds that it is there; without data it stays.
  note = (store.folder / 'frozen.json').read_bytes()
  assert frozen_index.ensure(store.db, store.folder, base)
  assert frozen_index.ensure(store.db, store.folder, tmp_path)
  assert (store.folder / 'frozen.json').read_bytes() == note
  store.db.close()


def test_a_deleted_picture_goes_from_the_frozen_sets(store):
  retrain.run(store.db, _OPTIONS, say=lambda line: None)
  folder = store.folder / 'datasets' / '1'
  gone, *others = frozen_files.members(folder)
  submissions.delete(store.db, store.blobs, gone.submission_id, None)
  assert frozen_files.forget_deleted(store.db) == [1]
  assert frozen_files.members(folder) == others
  assert not list(folder.rglob(f'{gone.image_id}.png'))
  with (folder / gone.side / 'train.csv').open() as file:
    left = {int(row['image_id']) for row in csv.DictReader(file)}
  assert left == {x.image_id for x in others if x.side == gone.side}
  assert frozen_files.forget_deleted(store.db) == []


def test_a_deletion_while_it_is_unfinished_is_kept_from_being_learned(
  store, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(retrain.finetune, 'fine_tune', _full_disk)
    with pytest.raises(OSError, match='No space'):
      retrain.run(store.db, _OPTIONS, say=lambda line: None)
  members = frozen_files.members(store.folder / 'datasets' / '1')
  gone = next(x for x in members if x.side == 'train')
  submissions.delete(store.db, store.blobs, gone.submission_id, None)
  result = retrain.run(store.db, _OPTIONS, say=lambda line: None)
  assert result.model.dataset_number == 1
  new = run.load(result.model.folder)
  assert new.extra_fingerprints
  left = frozen_files.members(store.folder / 'datasets' / '1')
  assert gone not in left and len(left) == len(members) - 1


def _full_disk(*unused, **also):
  raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_full_disk_leaves_the_old_model_and_is_finished_later(
  store, monkeypatch
):
  models = versions.Models(store.db, store.folder)
  for where, what in (
    (retrain.frozen_files, 'write'),
    (retrain.finetune, 'prepare'),
    (retrain.finetune, 'fine_tune'),
    (retrain.judging, 'suspicion'),
    (versions.model_files, 'copy_run'),
  ):
    with monkeypatch.context() as patch:
      patch.setattr(where, what, _full_disk)
      with pytest.raises(OSError, match='No space'):
        retrain.run(store.db, _OPTIONS, say=lambda line: None)
    assert models.serving().number == 1 and models.check() == []
  assert retrain.run(store.db, _OPTIONS).model.dataset_number == 1
  with store.db.reading() as session:
    assert session.scalars(sa.select(tables.Dataset.number)).all() == [1]


def test_two_retrainings_of_a_store_do_not_run_at_once(base, tmp_path):
  store = serve_loop.make_store(tmp_path / 'store', base, 0)
  with (
    retrain._lock(store.folder),
    pytest.raises(errors.RunError, match='another retraining'),
  ):
    retrain.run(store.db, _OPTIONS)
  store.db.close()


def test_other_options_train_anew_and_a_decision_stands(store, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(retrain.judging, 'suspicion', _full_disk)
    with pytest.raises(OSError, match='No space'):
      retrain.run(store.db, _OPTIONS, say=lambda line: None)
  said = []
  # Another training, of the same program, which is compiled already.
  other = retrain_options.parse([*serve_loop.OPTIONS, 'share=0.25'])
  with monkeypatch.context() as patch:
    patch.setattr(versions.model_files, 'copy_run', _full_disk)
    with pytest.raises(OSError, match='No space'):
      retrain.run(store.db, other, say=said.append)
  assert 'retraining 1: another training, so it trains anew' in said
  result = retrain.run(store.db, _OPTIONS, say=said.append)
  assert any('is decided already' in line for line in said)
  assert run.load(result.model.folder).config.data.extra_share == 0.25
  assert result.model.scores['options']['share'] == 0.25


def test_an_unfinished_one_can_be_given_up(store, monkeypatch):
  models = versions.Models(store.db, store.folder)
  with monkeypatch.context() as patch:
    patch.setattr(versions.Models, 'promote', _full_disk)
    patch.setattr(versions.Models, 'refuse', _full_disk)
    with pytest.raises(OSError, match='No space'):
      retrain.run(store.db, _OPTIONS, say=lambda line: None)
  assert models.get(2).status == 'candidate'
  assert models.serving().number == 1
  fresh = retrain_options.parse([*serve_loop.OPTIONS, 'fresh=true'])
  result = retrain.run(store.db, fresh, say=lambda line: None)
  assert models.get(2).status == 'refused'
  assert (result.model.number, result.model.dataset_number) == (3, 2)
  assert [x.name for x in (store.folder / 'retrain').glob('[0-9]*')] == []


@pytest.mark.parametrize('turn', range(int(os.environ.get(_TURNS, '1'))))
def test_killed_at_each_stage_the_next_one_finishes_and_the_old_one_serves(
  store, base, turn
):
  """Five kills a turn; the environment may ask for more turns."""
  folder = store.folder
  models = versions.Models(store.db, folder)
  chance = np.random.default_rng(turn)
  for stage in ('freezing', 'preparing', 'training', 'judging', 'installing'):
    most_s = 0.05 if stage == 'installing' else 1.0
    _kill_at(_command(folder, base), stage, turn and chance.uniform(0, most_s))
    serving = models.serving()
    # Two only where the kill came too late for the very last stage.
    assert serving.number in ((1, 2) if stage == 'installing' else (1,))
    assert serving.status == 'promoted' and models.check() == []
    assert versions.weights_sha256(serving.folder) == serving.weights_sha256
  if models.serving().number == 1:
    done = subprocess.run(
      _command(folder, base), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert 'goes on where it was left' in done.stdout
    assert done.stdout.splitlines()[-1].startswith('model 2: ')
  assert models.get(2).status in ('promoted', 'refused')
  assert len(models.list()) == 2
  with store.db.reading() as session:
    assert session.scalars(sa.select(tables.Dataset.number)).all() == [1]
    assert audit_log.verify(session) == []
  assert models.check() == []


def _command(folder, base) -> list[str]:
  options = [f'--set={pair}' for pair in serve_loop.OPTIONS]
  return [
    *(sys.executable, '-m', 'rsna_jax.cli', 'retrain', '--store', str(folder)),
    *('--workdir', str(base), *options),
  ]


def _kill_at(command, stage: str, delay_s: float) -> None:
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  try:
    for line in process.stdout:
      if line.rstrip().endswith(stage):
        time.sleep(delay_s)
        return
    pytest.fail(f'it ended before {stage}')
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_command_answers_bad_options_in_one_line(store):
  for pair, message in (
    ('epochs=3', 'NAME is one of steps'),
    ('steps=many', 'a value such as 200'),
    ('steps=0', 'at least 1'),
    ('share=-1', 'at least 0'),
    ('fresh=perhaps', 'a value such as False'),
    ('margin=nan', 'at least 0'),
  ):
    with pytest.raises(errors.ConfigError, match=message):
      retrain_options.parse([pair])
  options = retrain_options.parse(['share=1.5', *serve_loop.OPTIONS])
  with pytest.raises(errors.ConfigError, match=r'data\.extra_share=1\.5'):
    retrain.run(store.db, options, say=lambda line: None)


def test_an_ensemble_is_not_fine_tuned(base, tmp_path):
  folder = tmp_path / 'ensemble'
  folder.mkdir()
  (folder / 'ensemble.json').write_text(
    json.dumps({'runs': [{'path': str(base)}, {'path': str(base)}]})
  )
  db = database.Database(None, tmp_path / 'store')
  db.migrate()
  versions.Models(db, tmp_path / 'store').register_first(folder)
  with pytest.raises(errors.RunError, match='is an ensemble'):
    retrain.run(db, _OPTIONS)
  db.close()


def test_pictures_of_sixteen_bits_can_be_learned_from(store):
  deep = serve_loop.picture(8_001, True).astype(np.uint16) * 257
  kept = serve_store.kept(deep)
  assert preprocess.decode_png(kept.png).dtype == np.uint16
  row = store.add(deep, cancer='1', patient='deep')
  from rsna_jax.serve.store import verdicts

  with store.db.session() as session:
    verdicts.accept(session, row['id'], store.reviewer, distinct=True)
  retrain.run(store.db, _OPTIONS, say=lambda line: None)
  members = frozen_files.members(store.folder / 'datasets' / '1')
  assert row['id'] in {x.submission_id for x in members}
