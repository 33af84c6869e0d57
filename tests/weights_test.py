"""From a file of weights to a training that starts with them."""

import json
import pathlib

import h5py
import jax
import keras1
import numpy as np
import pytest
import tiny
import weight_writers

from rsna_jax import (
  checkpoint,
  cli,
  errors,
  models,
  optim,
  run,
  steps,
  train,
  transfer,
  weights,
  weights_folder,
)
from rsna_jax.data import metadata

# All channels are 4, and the middle flow is one block.
TINY = {'width': 0.001, 'depth': 0.1}


def ported(tmp_path, arrays=None, layers=None, **kwargs):
  path = tmp_path / 'x.h5'
  arrays = keras1.xception_arrays(4) if arrays is None else arrays
  keras1.write(path, arrays, layers)
  return weights.convert(path, 'xception', **(TINY | kwargs))


def test_each_array_goes_to_its_own_place_with_its_own_axes(tmp_path):
  arrays = keras1.xception_arrays(4, top=True)
  found = ported(tmp_path, arrays)
  assert len(found.arrays) == 19 * 4 + 2 + 4 + 13 * 2
  np.testing.assert_allclose(
    found.arrays['params/trunk/block1_conv1/kernel'][:, :, 0],
    arrays['block1_conv1'][0].sum(axis=2),
    rtol=1e-6,
  )
  for here, values in arrays.items():
    trunk = f'params/trunk/{here}'
    if here.endswith('_bn'):
      places = [f'{trunk}/norm/scale', f'{trunk}/norm/bias']
      stats = trunk.replace('params', 'batch_stats')
      places += [f'{stats}/norm/mean', f'{stats}/norm/var']
    elif 'sepconv' in here:
      values = [values[0].transpose(0, 1, 3, 2), values[1]]
      places = [f'{trunk}_depthwise/kernel', f'{trunk}_pointwise/kernel']
    elif here in ('predictions', 'block1_conv1'):
      continue
    else:
      places = [f'{trunk}/kernel']
    for place, x in zip(places, values, strict=True):
      np.testing.assert_array_equal(found.arrays[place], x, err_msg=place)
  assert list(found.left) == ['dense_2/dense_2_W:0', 'dense_2/dense_2_b:0']


def test_the_folder_comes_back_as_it_was_and_a_changed_one_is_refused(tmp_path):
  out = tmp_path / 'w'
  found = ported(tmp_path, out=out)
  assert weights_folder.is_folder(out) and not weights_folder.is_folder(
    tmp_path
  )
  again = weights_folder.load(out)
  assert again.fields == found.fields and again.source == found.source
  for key, x in found.arrays.items():
    np.testing.assert_array_equal(again.arrays[key], x)
  about = json.loads((out / 'weights.json').read_text())
  assert about['source']['name'] == 'x.h5' and about['model'] == 'xception'
  for change in (
    {'fields': {'epsilon': 'x'}},
    {'fields': {'dropout': 0.5}},
    {'fields': {'pool_padding': 'two'}},
    {'fields': 3},
    {'model': 'resnet'},
    {'source': {}},
    {'more': 1},
  ):
    (out / 'weights.json').write_text(json.dumps(about | change))
    with pytest.raises(errors.DataError, match='is damaged'):
      weights_folder.load(out)
  (out / 'weights.json').write_text(json.dumps(about))
  data = bytearray((out / 'weights.safetensors').read_bytes())
  data[-1] ^= 1
  (out / 'weights.safetensors').write_bytes(data)
  with pytest.raises(errors.DataError, match='not what was written'):
    weights_folder.load(out)
  (out / 'weights.json').write_text('{}')
  with pytest.raises(errors.DataError, match='is damaged'):
    weights_folder.load(out)


def misshapen(arrays):
  arrays['block1_conv2'] = [np.ones((3, 3, 4, 5), np.float32)]


def not_finite(arrays):
  arrays['block4_sepconv2_bn'][1][2] = np.nan


def negative(arrays):
  arrays['block4_sepconv2_bn'][3][0] = -1


def whole_numbers(arrays):
  arrays['block1_conv2'] = [np.ones((3, 3, 4, 4), np.int32)]


@pytest.mark.parametrize(
  ('harm', 'match'),
  [
    (misshapen, 'convolution2d_2_W:0 has the shape 3x3x4x5, for 3x3x4x4'),
    (not_finite, 'batchnormalization_11_beta:0 has values that are not finite'),
    (negative, 'batchnormalization_11_running_std:0 has negative variances'),
    (whole_numbers, 'convolution2d_2_W:0 is int32, floats wanted'),
  ],
)
def test_an_array_that_cannot_be_is_named(tmp_path, harm, match):
  arrays = keras1.xception_arrays(4)
  harm(arrays)
  with pytest.raises(errors.DataError, match=match) as caught:
    ported(tmp_path, arrays)
  assert len(caught.value.problems) == 1


def test_all_problems_are_raised_together(tmp_path):
  arrays = keras1.xception_arrays(4)
  for harm in (misshapen, not_finite, negative):
    harm(arrays)
  with pytest.raises(errors.DataError) as caught:
    ported(tmp_path, arrays)
  assert len(caught.value.problems) == 3


def test_a_missing_and_an_additional_layer_are_refused(tmp_path):
  arrays = keras1.xception_arrays(4)
  layers = keras1.names(1)
  gone = [pair for pair in layers if pair[1] != 'block3_sepconv1_bn']
  with pytest.raises(
    errors.DataError, match='37 layers with weights, xception has 39, or 38'
  ):
    ported(tmp_path, arrays, gone)
  more = [*layers, ('dense_1', 'x'), ('dense_2', 'y')]
  arrays |= {name: [np.ones((4, 4)), np.ones(4)] for name in 'xy'}
  with pytest.raises(errors.DataError, match='40 layers with weights'):
    ported(tmp_path, arrays, more)


def test_two_normalisations_of_one_shape_that_are_swapped_are_refused(tmp_path):
  # As a public loader has them: the shortcut's for that of the second part.
  layers = keras1.names(1)
  places = {here: i for i, (_, here) in enumerate(layers)}
  a, b = places['block6_sepconv2_bn'], places['block6_shortcut_bn']
  (name, _), (other, _) = layers[a], layers[b]
  layers[a], layers[b] = (other, layers[a][1]), (name, layers[b][1])
  with pytest.raises(errors.DataError, match='stands out of order'):
    ported(tmp_path, layers=layers)


def test_weights_of_a_layer_in_another_order_are_refused(tmp_path):
  path = tmp_path / 'x.h5'
  keras1.write(path, keras1.xception_arrays(4))
  with h5py.File(path, 'r+') as file:
    group = file['batchnormalization_5']
    group.attrs['weight_names'] = list(group.attrs['weight_names'])[::-1]
  with pytest.raises(errors.DataError, match='stands where gamma is wanted'):
    weights.convert(path, 'xception', **TINY)


def test_several_epsilons_are_refused_and_one_is_taken(tmp_path):
  path = tmp_path / 'x.h5'
  keras1.write(path, keras1.xception_arrays(4))

  def describe(*epsilons):
    with h5py.File(path, 'r+') as file:
      file.attrs['model_config'] = json.dumps(
        [
          {'class_name': 'BatchNormalization', 'config': {'epsilon': e}}
          for e in epsilons
        ]
      )

  describe(2e-3, 2e-3)
  found = weights.convert(path, 'xception', **TINY)
  assert found.fields['epsilon'] == 2e-3
  describe(1e-3, 1e-5)
  with pytest.raises(errors.DataError, match='several epsilons: 1e-05'):
    weights.convert(path, 'xception', **TINY)


def fails(*arguments) -> None:
  with pytest.raises(SystemExit) as caught:
    cli.main(['weights', *map(str, arguments)])
  assert caught.value.code == 2


def test_the_verb_answers_bad_files_with_one_line_and_code_2(tmp_path, capsys):
  out = ('--model', 'xception', '--out', tmp_path / 'out')
  path = tmp_path / 'x.h5'
  keras1.write(path, keras1.xception_arrays(4, middle=8))
  torch = tmp_path / 'x.pth'
  weight_writers.torch_zip(torch, {'fc.weight': np.ones((2, 2), np.float32)})
  hostile = tmp_path / 'hostile.h5'
  keras1.write(hostile, keras1.xception_arrays(4, middle=8))
  with h5py.File(hostile, 'r+') as file:
    file['y'] = h5py.ExternalLink('/etc/passwd', '/')
  for source, told in (
    (path, 'has the shape 3x3x3x4, for 3x3x1x32'),
    (torch, '0 of the 234 arrays of the network are in it'),
    (hostile, 'y is a link that may lead out'),
    (tmp_path / 'none.h5', 'no such file'),
    (pathlib.Path(__file__), 'files that end in .h5'),
  ):
    fails(source, *out)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and told in lines[0], lines
  fails(path, '--model', 'resnet', '--out', tmp_path / 'out')
  assert 'choose' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def make_config(data, folder, **changes):
  return tiny.make_config(
    data,
    model__name='xception',
    model__width=TINY['width'],
    model__depth=TINY['depth'],
    model__init_from=str(folder),
    train__steps=1,
    train__checkpoint_every=1,
    train__eval_every=1,
    data__size=(64, 32),
    **changes,
  )


def test_a_run_starts_from_a_folder_and_keeps_its_fields(
  tiny_data, tmp_path, capsys
):
  folder = tmp_path / 'w'
  found = ported(tmp_path, out=folder)
  about = json.loads((folder / 'weights.json').read_text())
  about['fields'] = {'epsilon': 1e-5, 'pool_padding': 'one'}
  (folder / 'weights.json').write_text(json.dumps(about))
  c = make_config(tiny_data, folder)
  workdir = tmp_path / 'run'
  train.train_and_evaluate(c, workdir)
  out = capsys.readouterr().out
  assert f'starting from {found.model} of x.h5 (model.epsilon=1e-05' in out
  assert f': {len(found.arrays)} arrays loaded' in out
  kept = run.load(workdir).config.model
  assert (kept.epsilon, kept.pool_padding) == (1e-5, 'one')
  model = models.create(run.load(workdir).config)
  assert (model.epsilon, model.pool_padding) == (1e-5, (1, 1))
  # It goes on without the folder, and another run has them from this one.
  (folder / 'weights.json').unlink()
  c.train.steps = 2
  c.optim.schedule = 'constant'
  transfer.inherit(c, workdir)
  assert (c.model.epsilon, c.model.pool_padding) == (1e-5, 'one')
  other = make_config(tiny_data, workdir)
  transfer.inherit(other, tmp_path / 'other')
  assert (other.model.epsilon, other.model.pool_padding) == (1e-5, 'one')
  assert checkpoint.finished_steps(workdir)


def first_state(c):
  return steps.create_state(
    models.create(c), optim.create(c), c, jax.random.key(0), meta_width=2
  )


def fresh_run(c, tmp_path):
  return run.Run(
    workdir=tmp_path / 'new',
    config=c,
    spec=None,
    encoder=metadata.Encoder(()),
    fingerprint='x',
  )


def test_every_array_of_a_folder_is_in_the_first_state(tiny_data, tmp_path):
  folder = tmp_path / 'w'
  found = ported(tmp_path, out=folder)
  c = make_config(tiny_data, folder)
  before = first_state(c)
  state, _ = transfer.begin(before, fresh_run(c, tmp_path))
  for room, tree in (
    ('params', state.params),
    ('batch_stats', state.batch_stats),
    ('params', state.ema_params),
  ):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree['trunk']):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      np.testing.assert_array_equal(leaf, found.arrays[f'{room}/trunk/{name}'])
  assert jax.tree.all(
    jax.tree.map(np.array_equal, state.params['head'], before.params['head'])
  )


def _rows(report):
  """Module -> arrays that were loaded, of how many, and why not all."""
  return {
    row['module']: (row['loaded'], row['arrays'], ' '.join(row['left']))
    for row in report.rows()
  }


def test_a_network_of_many_views_has_the_folder_in_its_trunk(
  tiny_data, tmp_path, capsys
):
  folder = tmp_path / 'w'
  found = ported(tmp_path, out=folder)
  c = make_config(tiny_data, folder, data__group='exam', model__metadata=())
  c.model.name, c.model.trunk = 'many_view', 'xception'
  transfer.inherit(c, tmp_path / 'new')
  assert c.model.epsilon == 1e-3
  state, report = transfer.begin(first_state(c), fresh_run(c, tmp_path))
  count = len(found.arrays)
  none = 'the weights have none'
  assert _rows(report) == {'trunk': (count, count, ''), 'head': (0, 8, none)}
  assert report.text() in capsys.readouterr().out
  for room, tree in (
    ('params', state.params),
    ('batch_stats', state.batch_stats),
  ):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree['trunk']):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      np.testing.assert_array_equal(leaf, found.arrays[f'{room}/trunk/{name}'])


@pytest.mark.parametrize(
  ('widths', 'fits'),
  [
    ((TINY['width'], 0.0), ('trunk', 'local_network')),
    ((0.02, TINY['width']), ('local_network',)),
    ((0.02, 0.0), ()),
  ],
)
def test_both_trunks_that_look_twice_take_a_folder_where_it_fits(
  tiny_data, tmp_path, widths, fits
):
  folder = tmp_path / 'w'
  found = ported(tmp_path, out=folder)
  c = make_config(tiny_data, folder)
  c.data.size = (64, 64)
  c.model.name, c.model.trunk = 'global_local', 'xception'
  c.model.patches, c.model.patch_size = 2, 48
  c.model.width, c.model.local_width = widths
  before = first_state(c)
  if not fits:
    with pytest.raises(errors.RunError, match=r'here; leave model\.width at 1'):
      transfer.begin(before, fresh_run(c, tmp_path))
    return
  state, report = transfer.begin(before, fresh_run(c, tmp_path))
  count, rows = len(found.arrays), _rows(report)
  for trunk in ('trunk', 'local_network'):
    inner = [(state.params, before.params, 'params')]
    inner.append((state.batch_stats, before.batch_stats, 'batch_stats'))
    for now, then, room in inner:
      now, then = now[trunk], then[trunk]
      if trunk == 'local_network':
        now, then = now['trunk'], then['trunk']
      for path, leaf in jax.tree_util.tree_leaves_with_path(now):
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        given = found.arrays[f'{room}/trunk/{name}']
        if trunk in fits:
          np.testing.assert_array_equal(leaf, given)
      if trunk not in fits:
        jax.tree.map(np.testing.assert_array_equal, now, then)
    assert rows[trunk][:2] == (count if trunk in fits else 0, count)
    field = 'width' if trunk == 'trunk' else 'local_width'
    assert (f'here; leave model.{field} at 1' in rows[trunk][2]) == (
      trunk not in fits
    )


def test_weights_of_another_network_or_size_or_fields_are_refused(
  tiny_data, tmp_path
):
  folder = tmp_path / 'w'
  ported(tmp_path, out=folder)
  c = make_config(tiny_data, folder)
  c.model.name = 'cnn'
  with pytest.raises(errors.ConfigError, match=r'weights of xception, and'):
    transfer.inherit(c, tmp_path)
  c = make_config(tiny_data, folder)
  c.model.epsilon = 1e-5
  with pytest.raises(errors.ConfigError, match=r'trained with 0\.001'):
    transfer.inherit(c, tmp_path)
  c = make_config(tiny_data, folder)
  c.model.width = 0.02
  with pytest.raises(errors.RunError, match=r'leave model\.width'):
    transfer.begin(first_state(c), fresh_run(c, tmp_path))
  c = make_config(tiny_data, folder)
  c.model.depth = 0.3
  with pytest.raises(errors.RunError, match=r'holds none of'):
    transfer.begin(first_state(c), fresh_run(c, tmp_path))


def test_a_network_without_a_field_refuses_it(tiny_data):
  c = tiny.make_config(tiny_data)
  c.model.pool_padding = 'one'
  with pytest.raises(errors.ConfigError, match='no such field'):
    models.create(c)


def test_what_a_trunk_that_does_not_fit_leaves_outside_is_not_loaded():
  def tree(width):
    return {'a': {'kernel': np.zeros((width,), np.float32)}}

  variables = {
    'params': {
      'head': {'norm': {'scale': np.zeros((3,), np.float32)}},
      'local_network': {'trunk': tree(3)},
      'trunk': tree(2),
    }
  }
  found = weights_folder.Weights(
    model='convnext_small',
    fields={},
    arrays={
      'params/head/norm/scale': np.ones((3,), np.float32),
      'params/trunk/a/kernel': np.ones((3,), np.float32),
    },
    left={},
    source={},
  )
  merged, why = weights_folder.merge(variables, found, 'w')
  params = merged['params']
  assert params['local_network']['trunk']['a']['kernel'].all()
  assert not params['head']['norm']['scale'].any()
  assert set(why) == {'trunk/a/kernel', 'head/norm/scale'}
