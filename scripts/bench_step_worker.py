"""One contestant of `bench_step.py`, in a process of its own.

python scripts/bench_step_worker.py NAME TASK HEIGHT WIDTH CHANNELS BATCH

Says on standard output, a line of JSON each: how long the first step took, and
for each line that it reads, the seconds of wall clock and of CPU of one step.
"""

import functools
import json
import os
import resource
import sys
import time

CLASSES = 8


def keras_step(task, shape, batch, network):
  import keras
  import numpy as np

  if network == 'density_cnn':
    model = _keras_density(keras, shape)
  else:
    model = keras.applications.Xception(
      weights=None, input_shape=shape, classes=CLASSES
    )
  x, y = data(shape, batch)
  if task == 'forward':
    return lambda: np.asarray(model.predict_on_batch(x))
  model.compile('adam', 'sparse_categorical_crossentropy')
  return lambda: float(np.asarray(model.train_on_batch(x, y)).ravel()[0])


def _keras_density(keras, shape):
  layers = keras.layers
  conv = functools.partial(
    layers.Conv2D, kernel_size=3, padding='same', activation='relu'
  )
  pool = functools.partial(layers.MaxPooling2D, 2, strides=1)
  return keras.Sequential(
    [
      keras.Input(shape),
      conv(32),
      conv(64),
      layers.BatchNormalization(),
      pool(),
      conv(64),
      layers.BatchNormalization(),
      pool(),
      layers.Flatten(),
      layers.Dense(64, activation='relu'),
      layers.BatchNormalization(),
      layers.Dense(128, activation='relu'),
      layers.BatchNormalization(),
      layers.Dense(CLASSES, activation='softmax'),
    ]
  )


def torch_step(task, shape, batch, network):
  del network
  import timm
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  model = timm.create_model(
    'legacy_xception', num_classes=CLASSES, in_chans=shape[-1]
  ).to(memory_format=torch.channels_last)
  x, y = data(shape, batch)
  # Rows of channels lie together in memory already.
  x, y = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y).long()
  if task == 'forward':
    model.eval()

    def forward():
      with torch.inference_mode():
        return model(x).numpy()

    return forward
  adam = torch.optim.Adam(model.parameters())

  def train():
    adam.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    adam.step()
    return loss.item()

  return train


def onnx_step(task, shape, batch, network):
  del task, network
  import bench_step_onnx
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = len(os.sched_getaffinity(0))
  session = onnxruntime.InferenceSession(
    bench_step_onnx.graph(CLASSES, shape[-1]),
    options,
    providers=['CPUExecutionProvider'],
  )
  x = data(shape, batch)[0].transpose(0, 3, 1, 2).copy()
  return lambda: session.run(None, {'image': x})[0]


def jax_step(task, shape, batch, network, *, forms=None, folded=False):
  """Ours, in the given forms, or stock Flax where they are None."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  import optax

  if forms is None:
    import bench_step_flax

    model = bench_step_flax.Xception(CLASSES)

    def apply(variables, x, train, **more):
      return model.apply(variables, x, train, **more)
  else:
    from rsna_jax.models import density_cnn, xception

    kind = {
      'xception': xception.Xception,
      'density_cnn': density_cnn.DensityCNN,
    }[network]
    model = kind(targets=(('out', CLASSES),), forms=forms)

    def apply(variables, x, train, **more):
      meta = jnp.zeros((x.shape[0], 0))
      found = model.apply(variables, x, meta, train, **more)
      if 'mutable' in more:
        return found[0]['out'], found[1]
      return found['out']

  x, y = data(shape, batch)
  chance = np.random.default_rng(0)

  def value(path, x):
    name = path[-1].key
    if name == 'kernel':
      fan_in = np.prod(x.shape[:-1])
      values = chance.standard_normal(x.shape, np.float32)
      return jnp.asarray(values * np.float32((2 / fan_in) ** 0.5))
    return jnp.full(x.shape, name in ('var', 'scale'), jnp.float32)

  args = (jnp.asarray(x[:1]), jnp.zeros((1, 0)), False)
  if forms is None:
    args = (args[0], False)
  variables = jax.tree_util.tree_map_with_path(
    value, jax.eval_shape(lambda key: model.init(key, *args), jax.random.key(0))
  )
  if task == 'forward':
    if folded:
      from rsna_jax.models import folding

      variables = folding.fold(model, variables, shape[:2], 0, shape[2])
    step = jax.jit(lambda v, x: apply(v, x, False))
    return functools.partial(_forward, step, variables, x)
  tx = optax.adam(1e-3)

  def train(params, stats, opt_state, x, y):
    def loss(params):
      logits, moved = apply(
        {'params': params, 'batch_stats': stats},
        x,
        True,
        mutable=['batch_stats'],
      )
      each = optax.softmax_cross_entropy_with_integer_labels(logits, y)
      return jnp.mean(each), moved['batch_stats']

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = tx.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), stats, opt_state, value

  step = jax.jit(train, donate_argnums=(0, 1, 2))
  state = [variables['params'], variables['batch_stats']]
  state.append(tx.init(state[0]))
  del variables

  def run():
    *state[:], found = step(*state, x, y)
    return float(found)

  return run


def _forward(step, variables, x):
  import numpy as np

  return np.asarray(step(variables, x))


def data(shape, batch):
  import numpy as np

  chance = np.random.default_rng(0)
  x = chance.random((batch, *shape), np.float32)
  return x, chance.integers(0, CLASSES, batch).astype(np.int32)


STEPS = {
  'keras-tf': keras_step,
  'keras-jax': keras_step,
  'torch': torch_step,
  'onnxruntime': onnx_step,
  'flax': jax_step,
  'ours': functools.partial(jax_step, forms='fast'),
  'ours, plain': functools.partial(jax_step, forms='plain'),
  'ours, folded': functools.partial(jax_step, forms='fast', folded=True),
}


def main() -> None:
  name, task, network, *numbers = sys.argv[1:]
  height, width, channels, batch = map(int, numbers)
  out = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print is no answer of ours
  if name.endswith(' without malloc'):
    name = name.removesuffix(' without malloc')
  elif name.startswith('ours'):
    from rsna_jax import heap

    heap.keep()
  if name.startswith('keras'):
    back_end = {'tf': 'tensorflow', 'jax': 'jax'}[name.partition('-')[2]]
    os.environ['KERAS_BACKEND'] = back_end
  step = STEPS[name](task, (height, width, channels), batch, network)

  def timed():
    wall, cpu = time.perf_counter(), time.process_time()
    found = step()
    took = time.perf_counter() - wall, time.process_time() - cpu
    return took, float(abs(found).sum()) if task == 'forward' else found

  first, value = timed()
  say = functools.partial(print, file=out, flush=True)
  say(json.dumps({'first': first, 'value': value}))
  for _ in sys.stdin:
    took, value = timed()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    say(json.dumps({'took': took, 'value': value, 'peak': peak}))


if __name__ == '__main__':
  main()
