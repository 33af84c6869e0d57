import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import tiny

from rsna_jax import (
  errors,
  evaluate,
  models,
  optim,
  run,
  steps,
  transfer,
  transfer_report,
)
from rsna_jax.data import metadata


def _state(c, meta_width):
  return steps.create_state(
    models.create(c),
    optim.create(c),
    c,
    jax.random.key(5),
    meta_width=meta_width,
  )


def _run(c, tiny_run, init_from, fingerprint='other', columns=()):
  c.model.init_from = str(init_from)
  there = run.load(tiny_run)
  return run.Run(
    workdir=there.workdir / 'new',
    config=c,
    spec=there.spec,
    encoder=metadata.Encoder(columns),
    fingerprint=fingerprint,
  )


def test_everything_that_fits_is_loaded_and_the_rest_is_named(
  tiny_run, tiny_data, capsys
):
  c = tiny.make_config(tiny_data)
  state = _state(c, 0)
  found, _ = transfer.begin(state, _run(c, tiny_run, tiny_run))
  out = capsys.readouterr().out
  theirs, _ = evaluate.restore(run.load(tiny_run))
  trunk = jax.tree.leaves(theirs.ema_params['trunk'])
  for ours, other in zip(
    jax.tree.leaves(found.params['trunk']), trunk, strict=True
  ):
    np.testing.assert_array_equal(ours, other)
  # The last layer has no rows of metadata here: the others come along.
  kernel = found.params['head']['logits']['cancer']['kernel']
  np.testing.assert_array_equal(
    kernel,
    theirs.ema_params['head']['logits']['cancer']['kernel'][: len(kernel)],
  )
  assert re.search(r'trunk +(\d+) of \1 ', out)
  assert 'cancer/kernel: the rows behind the features, which differ' in out
  assert int(found.step) == 0
  np.testing.assert_array_equal(
    jax.tree.leaves(found.ema_params)[0], jax.tree.leaves(found.params)[0]
  )


@pytest.mark.parametrize('column', ['laterality', 'view'])
def test_rows_of_metadata_are_taken_for_the_same_columns_alone(
  tiny_run, tiny_data, column
):
  there = run.load(tiny_run).encoder
  assert there.columns == ('age', 'view')
  encoder = metadata.Encoder(
    ('age', column),
    age_knots=[knot + 1 for knot in there.age_knots],
    categories={'laterality': ('L', 'R'), 'view': ('CC', 'MLO')},
  )
  c = tiny.make_config(tiny_data, model__metadata=('age', column))
  state = _state(c, there.width)
  one = dataclasses.replace(_run(c, tiny_run, tiny_run), encoder=encoder)
  found = transfer.begin(state, one)[0].params
  theirs = evaluate.restore(run.load(tiny_run))[0].ema_params
  ours, theirs = (
    x['head']['logits']['cancer']['kernel'] for x in (found, theirs)
  )
  assert encoder.width == there.width and ours.shape == theirs.shape
  pixels = len(ours) - there.width
  np.testing.assert_array_equal(ours[:pixels], theirs[:pixels])
  assert np.any(theirs[pixels:])
  wanted = theirs[pixels:] if column == 'view' else 0
  np.testing.assert_array_equal(ours[pixels:], wanted)


def test_a_run_of_which_nothing_fits_is_refused(tiny_run, tiny_data):
  c = tiny.make_config(tiny_data, model__name='meta')
  state = _state(c, 3)
  with pytest.raises(errors.RunError, match='choose a run of the same model'):
    transfer.begin(state, _run(c, tiny_run, tiny_run))
  with pytest.raises(errors.RunError, match=r'no config\.json'):
    transfer.begin(state, _run(c, tiny_run, tiny_data))


def test_a_run_of_another_network_that_gives_its_bias_alone_is_refused(
  tiny_run, tiny_data
):
  c = tiny.make_config(tiny_data, model__name='density_cnn')
  with pytest.raises(errors.RunError, match='none of its arrays fits the trun'):
    transfer.begin(_state(c, 0), _run(c, tiny_run, tiny_run))


def test_a_run_that_has_seen_what_is_held_out_here_is_refused(
  tiny_run, tiny_data
):
  c = tiny.make_config(tiny_data, data__fold=1)
  same = run.load(tiny_run).fingerprint
  with pytest.raises(errors.RunError, match=r'data\.fold=0, here 1'):
    transfer.begin(_state(c, 0), _run(c, tiny_run, tiny_run, same))
  c.data.fold = 0
  transfer.begin(_state(c, 0), _run(c, tiny_run, tiny_run, same))


def test_the_table_has_a_row_a_module_and_is_kept_with_the_run(tmp_path):
  report = transfer_report.Report(
    source='step 8 of runs/a (cnn, 64x32)',
    loaded={'trunk/a/kernel': 6, 'trunk/b/kernel': 1200, 'head/pool/x': 1},
    left={
      'head/logits/x/kernel': '(3, 1) there, (3, 4) here',
      'head/pool/x': 'the rows behind the features, which differ',
      'head/norm/scale': 'the other run has none',
      'head/norm/bias': 'the other run has none',
    },
    unused=('head/codes/view', 'head/codes/side'),
  )
  assert report.text().splitlines() == [
    'starting from step 8 of runs/a (cnn, 64x32): 3 arrays loaded',
    '  module       loaded  values  left as made, and why',
    '  head/logits  0 of 1       0  (3, 1) there, (3, 4) here',
    '  head/norm    0 of 2       0  the other run has none',
    '  head/pool    1 of 1       1  the rows behind the features, which differ',
    '  trunk        2 of 2   1,206',
    '  not used: 2 of their head/codes',
  ]
  report.write(tmp_path)
  assert (tmp_path / 'transfer.txt').read_text() == report.text() + '\n'
  kept = json.loads((tmp_path / 'transfer.json').read_text())
  assert kept['modules'] == report.rows()
  assert kept['unused'] == ['head/codes/side', 'head/codes/view']


def test_slow_weights_start_where_the_loaded_ones_do(tiny_run, tiny_data):
  c = tiny.make_config(tiny_data, optim__lookahead=2, optim__ema=0.0)
  found, _ = transfer.begin(_state(c, 0), _run(c, tiny_run, tiny_run))
  jax.tree.map(
    np.testing.assert_array_equal,
    optim.slow_weights(found.opt_state),
    found.params,
  )
  assert steps.variables(found)['params'] is not found.params
