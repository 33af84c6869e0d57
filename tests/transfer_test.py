import jax
import numpy as np
import pytest
import tiny

from rsna_jax import errors, evaluate, models, optim, run, steps, transfer


def _state(c, meta_width):
  return steps.create_state(
    models.create(c),
    optim.create(c),
    c,
    jax.random.key(5),
    meta_width=meta_width,
  )


def test_everything_that_fits_is_loaded_and_the_rest_is_named(
  tiny_run, tiny_data, capsys
):
  state = _state(tiny.make_config(tiny_data), 0)
  found = transfer.start_from(state, tiny_run, 0)
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
  assert 'head/logits/cancer/kernel: the rows of the metadata' in out
  assert int(found.step) == 0
  np.testing.assert_array_equal(
    jax.tree.leaves(found.ema_params)[0], jax.tree.leaves(found.params)[0]
  )


def test_a_run_of_which_nothing_fits_is_refused(tiny_run, tiny_data):
  c = tiny.make_config(tiny_data, model__name='meta')
  with pytest.raises(errors.RunError, match='choose a run of the same model'):
    transfer.start_from(_state(c, 3), tiny_run, 3)
  with pytest.raises(errors.RunError, match=r'no config\.json'):
    transfer.start_from(_state(c, 3), tiny_data, 3)
