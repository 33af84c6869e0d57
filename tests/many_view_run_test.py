"""A run of many views from its training to its answers."""

import csv
import dataclasses

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from rsna_jax import config as config_lib
from rsna_jax import (
  ensemble,
  errors,
  evaluate,
  explain,
  inference,
  parallel,
  predict,
  train,
  tta,
)
from rsna_jax import run as run_lib
from rsna_jax.data import dataset, groups, order, stream_np


@pytest.fixture(scope='module')
def exam_run(tiny_run, tiny_data, tmp_path_factory):
  """Both breasts, from the weights of a run of single images."""
  workdir = tmp_path_factory.mktemp('many') / 'run'
  c = tiny.make_config(
    tiny_data,
    data__group='exam',
    data__views=1,
    model__name='many_view',
    model__trunk='cnn',
    model__init_from=str(tiny_run),
    parallel__mode='jit',
    train__steps=2,
    eval__tta=('flip_vertical',),
    eval__worst=0,
    optim__ema=0.0,
    model__metadata=('age',),
  )
  for name in ('flip_vertical', 'rotation_deg', 'scale', 'shift'):
    c.augment[name] = 0.0  # compiles for seconds; steps_test has it
  c.augment.brightness = c.augment.contrast = 0.0
  c.optim.learning_rate = 3e-2  # so that two steps show
  mesh = parallel.make_mesh(jax.devices()[:1])  # compiles faster than for eight
  with pytest.MonkeyPatch.context() as patch:
    for name in ('make_mesh', 'mesh_for_prediction'):
      patch.setattr(parallel, name, lambda *args, **kwargs: mesh)
    train.train_and_evaluate(c, workdir)
  return workdir


@pytest.fixture(scope='module')
def model(exam_run):
  return inference.load_model(exam_run)


@pytest.fixture(scope='module')
def four_views(tmp_path_factory):
  """An exam as NYU's are: four PNGs of 16 bits, cancer on the left."""
  folder = tmp_path_factory.mktemp('exam')
  found = {}
  for seed, (side, view) in enumerate(
    [('L', 'CC'), ('L', 'MLO'), ('R', 'CC'), ('R', 'MLO')]
  ):
    pixels = tiny.picture(np.random.default_rng(seed), side == 'L')
    path = folder / f'{side}-{view}.png'
    Image.fromarray(pixels.astype(np.uint16) * 250).save(path)
    found[side, view] = path
  return found


def _rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def _known(views):
  return [{'laterality': side, 'view': view} for side, view in views]


def test_weights_of_single_images_are_loaded_but_for_what_is_new(
  exam_run, tiny_run
):
  c = run_lib.load(exam_run).config
  assert c.model.init_from == str(tiny_run)
  ours, _ = evaluate.restore(run_lib.load(exam_run))
  theirs, _ = evaluate.restore(run_lib.load(tiny_run))
  kernel = np.asarray(ours.params['head']['logits']['cancer']['kernel'])
  given = np.asarray(theirs.ema_params['head']['logits']['cancer']['kernel'])
  width = ours.params['head']['codes']['view'].shape[1]
  meta, before = (run_lib.load(x).encoder.width for x in (exam_run, tiny_run))
  assert kernel.shape == (3 * width + meta, 1)
  assert given.shape == (width + before, 1)
  # Two steps of Adam go no further than this.
  np.testing.assert_allclose(kernel[:width], given[:width], atol=0.07)
  assert 0 < np.abs(kernel[width : 3 * width]).max() < 0.07
  for one, other in zip(
    jax.tree.leaves(ours.params['trunk']),
    jax.tree.leaves(theirs.ema_params['trunk']),
    strict=True,
  ):
    np.testing.assert_allclose(one, other, atol=0.07)


def test_all_images_of_a_breast_have_its_answer(exam_run):
  rows = _rows(exam_run / 'eval/validation/predictions.csv')
  said = {}
  for row in rows:
    said.setdefault(row['prediction_id'], set()).add(row['cancer'])
  assert len(said) == 8
  assert all(len(values) == 1 for values in said.values())
  breasts = _rows(exam_run / 'eval/validation/breasts.csv')
  assert {row['prediction_id']: {row['cancer']} for row in breasts} == said
  assert (exam_run / 'eval/validation/report.html').is_file()
  assert (exam_run / 'submission.csv').is_file()


def test_the_evaluation_equals_the_network_on_whole_breasts(
  exam_run, tiny_data, monkeypatch
):
  run = run_lib.load(exam_run)
  c, encoder = run.config, run.encoder
  state, _ = evaluate.restore(run)
  data = dataset.open_dataset(c)
  rows = np.random.default_rng(0).permutation(len(data))
  monkeypatch.setattr(evaluate, '_IMAGES', 8)  # several parts
  found = evaluate.Predictor(c, encoder)(state, data, rows)
  by_breast = groups.of_rows(data, rows, views=c.eval.views, compare=True)
  (batch,) = stream_np.batches(
    data,
    rows,
    order.EvalOrder(len(by_breast), len(by_breast)),
    encoder,
    target='cancer',
    groups=by_breast,
  )
  assert batch['image'].shape[1] == 8
  batch = {k: batch[k] for k in ('image', 'meta', 'slots')}
  network = evaluate.create_model(c)
  step = jax.jit(tta.predict_step, static_argnames=('model', 'names'))
  expected = step(state, batch, model=network, names=('flip_vertical',))
  np.testing.assert_allclose(
    found, np.asarray(expected['cancer'])[by_breast.of_image], atol=1e-5
  )


def test_four_views_of_an_exam_are_two_answers(model, four_views):
  files, known = list(four_views.values()), _known(four_views)
  found = model.predict(files, known)
  assert [one.breast for one in found] == ['L', 'L', 'R', 'R']
  assert [one.name for one in found] == list(map(str, files))
  said = [one.cancer for one in found]
  assert said[0] == said[1] != said[2] == said[3]
  # The order is of no concern; what is there twice is.
  turned = model.predict(files[::-1], known[::-1])
  assert [one.cancer for one in turned][::-1] == pytest.approx(said, abs=1e-6)
  twice = model.predict(files * 2, known * 2)
  assert [one.cancer for one in twice] == pytest.approx(said * 2, abs=1e-6)
  three = model.predict([*files, files[0]], [*known, known[0]])
  assert three[0].cancer == three[1].cancer == three[4].cancer != said[0]
  # Any subset is answered, by what is there.
  left = model.predict(files[:2], known[:2])
  assert left[0].cancer == left[1].cancer != said[0]
  assert model.predict(files[:1], known[:1])[0].breast == 'L'


def test_who_is_known_is_not_mixed_with_others(model, four_views, tmp_path):
  files, known = list(four_views.values()), _known(four_views)
  together = [one.cancer for one in model.predict(files, known)]
  apart = [{**one, 'patient_id': i} for i, one in enumerate(known)]
  alone = [
    model.predict([file], [one])[0].cancer
    for file, one in zip(files, known, strict=True)
  ]
  found = [one.cancer for one in model.predict(files, apart)]
  assert found == pytest.approx(alone, abs=1e-6)
  assert np.abs(np.subtract(found, together)).max() > 1e-6
  same = [{**one, 'patient_id': 'A7'} for one in known]
  found = [one.cancer for one in model.predict(files, same)]
  assert found == pytest.approx(together, abs=1e-6)
  # A path <patient>/<image> says it, too.
  paths = []
  for i, file in enumerate(files):
    path = tmp_path / str(i // 2) / f'{i}.png'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(file.read_bytes())
    paths.append(path)
  pairs = model.predict(files[:2], known[:2]) + model.predict(
    files[2:], known[2:]
  )
  found = model.predict(paths, known)
  assert [one.cancer for one in found] == pytest.approx(
    [one.cancer for one in pairs], abs=1e-6
  )
  # Of unknown laterality, each is a breast of its own.
  found = model.predict(files)
  assert [one.breast for one in found] == [None] * 4
  alone = [model.predict([file])[0].cancer for file in files]
  assert [one.cancer for one in found] == pytest.approx(alone, abs=1e-6)


def test_requests_that_share_a_batch_are_not_one_exam(model, four_views):
  prepared = [
    dataclasses.replace(
      model.prepare(file, file.name),
      attributes={'laterality': side, 'view': view},
    )
    for (side, view), file in four_views.items()
  ]
  alone = [model.predict_prepared([one])[0].cancer for one in prepared]
  found = [one.cancer for one in model.predict_prepared(prepared)]
  assert found == pytest.approx(alone, abs=1e-6)
  exams = [dataclasses.replace(one, exam='a') for one in prepared]
  exams += [dataclasses.replace(one, exam='b') for one in prepared[:2]]
  found = [one.cancer for one in model.predict_prepared(exams)]
  whole = model.predict(list(four_views.values()), _known(four_views))
  assert found[:4] == pytest.approx([x.cancer for x in whole], abs=1e-6)
  assert found[4] == found[5] != found[0]


def test_a_layout_gives_the_submission_of_the_training(
  exam_run, tiny_layout, tmp_path
):
  done = predict.predict_files(exam_run, [tiny_layout], tmp_path, workers=1)
  assert done.predicted == 8
  ours = {
    row['prediction_id']: float(row['cancer']) for row in _rows(done.submission)
  }
  theirs = {
    row['prediction_id']: float(row['cancer'])
    for row in _rows(exam_run / 'submission.csv')
  }
  assert ours == pytest.approx(theirs, abs=1e-5)


def test_an_ensemble_takes_it_beside_a_run_of_single_images(
  model, tiny_run, four_views
):
  single = inference.load_model(tiny_run)
  both = ensemble.Ensemble(
    [ensemble.Member(model=single), ensemble.Member(model=model)]
  )
  files, known = list(four_views.values()), _known(four_views)
  found = both.predict(files, known)
  assert [one.breast for one in found] == ['L', 'L', 'R', 'R']

  def logits(which):
    p = np.array([one.cancer for one in which.predict(files, known)])
    return np.log(p / (1 - p))

  mean = (logits(single) + logits(model)) / 2
  np.testing.assert_allclose(logits(both), mean, atol=1e-5)


def test_one_image_of_it_is_explained(model, four_views):
  file = four_views['L', 'CC']
  found = explain.explain(model, file, metadata={'laterality': 'L'})
  assert found.map.shape == (64, 32)
  assert found.prediction.breast == 'L'
  assert found.prediction.cancer == pytest.approx(
    model.predict([file], [{'laterality': 'L'}])[0].cancer, abs=1e-6
  )


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'data__group': 'breast'}, "data.group='breast': model.name=cnn looks at"),
    ({'model__name': 'many_view'}, "data.group='image': model.name=many_view"),
    (
      {'model__name': 'many_view', 'model__trunk': 'meta'},
      "model.trunk='meta': choose cnn, convnext_small",
    ),
    (
      {
        'model__name': 'many_view',
        'data__group': 'exam',
        'eval__aggregate': 'noisy_or',
        'model__metadata': ('age',),
      },
      "eval.aggregate='noisy_or': data.group=exam: all images of a breast",
    ),
    (
      {'model__name': 'many_view', 'data__group': 'exam'},
      "model.metadata=('age', 'view'): data.group=exam: the network knows the "
      'view of each image: leave view out',
    ),
  ],
)
def test_what_does_not_fit_together_is_refused(fields, message):
  with pytest.raises(errors.ConfigError) as found:
    config_lib.validate(tiny.make_config('data', **fields))
  assert message in str(found.value)
  assert '\n' not in str(found.value)
