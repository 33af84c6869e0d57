"""Xception and ConvNeXt-small against PyTorch on one accelerator, in bfloat16.

python scripts/bench_gpu.py [--models xception,convnext_small] [--sizes 299x299]
python scripts/bench_gpu.py --check      tiny sizes, on any machine

Needs jax, flax, optax, torch and timm alone. Ours and timm's networks get the
same weights, and their answers are compared before anything is timed. Then each
size is timed in a process of its own for either, with batches that double until
memory ends; timm's with channels_last, autocast to bfloat16 and torch.compile.
Data lie on the device. The last column is the share of what the memory's
bandwidth allows (an estimate for an H200; see docs/benchmarks.md).
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
import types

# The networks need only its name.
try:
  import ml_collections  # noqa: F401
except ModuleNotFoundError:
  sys.modules['ml_collections'] = types.SimpleNamespace(ConfigDict=dict)
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

MODELS = {'xception': 'legacy_xception', 'convnext_small': 'convnext_small'}
SIZES = ('299x299', '512x256', '1024x512', '2048x1024')
# images/s that 4.3 TB/s allow Xception: predicting with an operation a pass,
# training with normalisation and ReLU in their neighbours' passes (estimates).
FLOORS = {
  ('xception', 'predict', '299x299'): 27_800,
  ('xception', 'predict', '512x256'): 19_300,
  ('xception', 'predict', '1024x512'): 4_790,
  ('xception', 'train', '299x299'): 8_490,
  ('xception', 'train', '512x256'): 5_890,
  ('xception', 'train', '1024x512'): 1_460,
}
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def ours(name: str, tiny: bool = False):
  """The network in bfloat16 with one logit, in the forms for its platform."""
  import jax.numpy as jnp

  from rsna_jax import models

  scale = {'width': 0.05, 'depth': 0.1} if tiny else {}
  return models.MODELS[name](
    targets=(('cancer', 1),), dtype=jnp.bfloat16, **scale
  )


def check(name: str) -> float:
  """The relative difference of the pooled features, in float32."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  import timm
  import torch

  from rsna_jax import models
  from rsna_jax.models import convnext_port, port, xception_port

  torch.manual_seed(0)
  theirs = timm.create_model(MODELS[name]).eval()
  arrays = {}
  for key, x in theirs.state_dict().items():
    if key.endswith(('gamma', 'running_var')):
      x.uniform_(0.5, 1.5)
    arrays[key] = x.numpy()
  make = {'xception': xception_port, 'convnext_small': convnext_port}[name]
  plan = make.plan(port.Stored(form='names', arrays=arrays))
  fields = {'epsilon': plan.fields['epsilon']}
  if name == 'xception':
    fields['pool_padding'] = (1, 1)
  model = models.MODELS[name](**fields)
  image = np.random.default_rng(0).random((2, 96, 64, 1), np.float32)
  tree = jax.eval_shape(
    functools.partial(model.init, train=False),
    jax.random.key(0),
    jnp.asarray(image),
    jnp.zeros((2, 0)),
  )
  shapes = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    if 'logits' not in jax.tree_util.keystr(path)
  }
  filled = port.fill(plan, arrays, shapes, name)
  variables = {'params': {}, 'batch_stats': {}}
  for key, value in filled.items():
    *rooms, last = key.split('/')
    at = variables
    for room in rooms:
      at = at.setdefault(room, {})
    at[last] = value
  with jax.default_matmul_precision('highest'):
    found = jax.jit(lambda v, x: model.apply(v, x, method=model.features))(
      variables, image
    )
  mean, deviation = (
    _IMAGENET if name == 'convnext_small' else ((0.5,) * 3, (0.5,) * 3)
  )
  seen = (np.repeat(image, 3, 3) - np.float32(mean)) / np.float32(deviation)
  with torch.inference_mode():
    expected = theirs.forward_features(
      torch.from_numpy(seen).permute(0, 3, 1, 2)
    ).numpy()
  expected = expected.transpose(0, 2, 3, 1)
  found = np.maximum(found, 0) if (expected >= 0).all() else np.asarray(found)
  return float(np.abs(found - expected).max() / np.abs(expected).max())


def jax_step(name, task, shape, batch, tiny):
  import jax
  import jax.numpy as jnp
  import optax

  from rsna_jax.models import folding

  model = ours(name, tiny)
  image = jax.random.uniform(jax.random.key(1), (batch, *shape, 1))
  image = image.astype(jnp.bfloat16)
  meta = jnp.zeros((batch, 0))
  label = jnp.arange(batch) % 2
  variables = jax.jit(model.init, static_argnums=3)(
    jax.random.key(0), image[:1], meta[:1], False
  )

  if task == 'predict':
    variables = folding.fold(model, variables, shape, 0)
    step = jax.jit(lambda v, x: model.apply(v, x, meta, False)['cancer'])
    return lambda: step(variables, image), jax.block_until_ready
  tx = optax.adam(1e-3)

  def train(params, stats, opt_state):
    def loss(params):
      found, moved = model.apply(
        {'params': params, 'batch_stats': stats},
        image,
        meta,
        True,
        mutable=['batch_stats'],
      )
      each = optax.sigmoid_binary_cross_entropy(found['cancer'][:, 0], label)
      return jnp.mean(each), moved.get('batch_stats', {})

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = tx.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), stats, opt_state, value

  step = jax.jit(train, donate_argnums=(0, 1, 2))
  state = [variables['params'], variables.get('batch_stats', {})]
  state.append(tx.init(state[0]))

  def run():
    *state[:], value = step(*state)
    return value

  return run, jax.block_until_ready


def torch_step(name, task, shape, batch, tiny):
  import timm
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = timm.create_model(MODELS[name], num_classes=1, in_chans=1)
  model = model.to(device, memory_format=torch.channels_last)
  image = torch.rand((batch, 1, *shape), device=device)
  image = image.contiguous(memory_format=torch.channels_last)
  label = torch.arange(batch, device=device) % 2
  cast = functools.partial(torch.autocast, device, torch.bfloat16)
  # torch.compile takes minutes on a CPU, and tells nothing of a GPU there.
  call = model if tiny else torch.compile(model)

  def wait(_):
    if device == 'cuda':
      torch.cuda.synchronize()

  if task == 'predict':
    model.eval()

    def predict():
      with torch.inference_mode(), cast():
        return call(image)

    return predict, wait
  adam = torch.optim.Adam(model.parameters(), fused=device == 'cuda')

  def train():
    adam.zero_grad(set_to_none=True)
    with cast():
      found = call(image)[:, 0]
    torch.nn.functional.binary_cross_entropy_with_logits(
      found.float(), label.float()
    ).backward()
    adam.step()

  return train, wait


def peak_bytes(side: str) -> int:
  """Of the device; 0 where it does not say."""
  if side == 'timm':
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
  import jax

  return (jax.local_devices()[0].memory_stats() or {}).get(
    'peak_bytes_in_use', 0
  )


def worker(side, name, task, size, tiny) -> None:
  """Prints a line of JSON for each batch that fits."""
  shape = tuple(map(int, size.split('x')))
  batch, least_s = (2, 0.0) if tiny else (8, 3.0)
  make = {'ours': jax_step, 'timm': torch_step}[side]
  while True:
    run, wait = make(name, task, shape, batch, tiny)
    for _ in range(2):
      wait(run())
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < least_s:
      found = run()
      count += 1
      if count % 8 == 0:
        wait(found)
    wait(found)
    took = (time.perf_counter() - started) / count
    speed = batch / took
    line = {'batch': batch, 'speed': speed, 'peak': peak_bytes(side)}
    print(json.dumps(line), flush=True)
    if tiny:
      return
    del run, found
    batch *= 2


def depthwise_forms(tiny: bool) -> None:
  """Prints the time of each form of the 3x3 depthwise convolution, alone."""
  import jax
  import jax.numpy as jnp

  from rsna_jax.models import depthwise, depthwise_pallas

  forms = {
    form: functools.partial(depthwise.depthwise3x3, form=form)
    for form in ('lax', 'shift', 'edge')
  }
  forms['pallas'] = lambda x, kernel: depthwise_pallas.convolve(
    x, kernel[:, :, 0].astype(x.dtype), tiny
  )
  print('\n| depthwise, bfloat16 | form | forward ms | and backward ms |')
  print('| --- | --- | ---: | ---: |')
  for side, channels in (
    [(5, 8)] if tiny else [(147, 128), (37, 728), (19, 728)]
  ):
    shape = (2 if tiny else 64, side, side, channels)
    x = jax.random.normal(jax.random.key(0), shape, jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, channels))
    for form, convolve in forms.items():
      forward = jax.jit(convolve)
      both = jax.jit(lambda x, k, f=convolve: jax.vjp(f, x, k)[1](x))
      times = []
      for run in (forward, both):
        jax.block_until_ready(run(x, kernel))
        count, started = 1 if tiny else 50, time.perf_counter()
        for _ in range(count):
          found = run(x, kernel)
        jax.block_until_ready(found)
        times.append((time.perf_counter() - started) / count * 1e3)
      shown = ['runs'] * 2 if tiny else [f'{ms:.3f}' for ms in times]
      what = 'x'.join(map(str, shape))
      print(f'| {what} | {form} | {" | ".join(shown)} |', flush=True)


def measure(side, name, task, size, tiny) -> list[dict]:
  """What the worker said until memory ended."""
  done = subprocess.run(
    [sys.executable, __file__, '--worker', side, name, task, size]
    + ['--check'] * tiny,
    capture_output=True,
    text=True,
    check=False,
  )
  found = [
    json.loads(line) for line in done.stdout.splitlines() if line[:1] == '{'
  ]
  if not found:
    print(done.stderr[-2000:], file=sys.stderr)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--models', default=','.join(MODELS))
  parser.add_argument('--sizes', default=','.join(SIZES))
  parser.add_argument('--tasks', default='predict,train')
  parser.add_argument('--check', action='store_true', help='tiny sizes')
  parser.add_argument(
    '--depthwise', action='store_true', help='its forms, each alone'
  )
  parser.add_argument('--worker', nargs=4, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.worker:
    worker(*options.worker, options.check)
    return
  if options.depthwise:
    depthwise_forms(options.check)
    return
  names = options.models.split(',')
  for name in names:
    difference = check(name)
    print(f'{name}: differs from timm by {difference:.1e} of the greatest')
    if not difference < 1e-4:
      raise SystemExit(f'{name}: not the same network; nothing is timed')
  print(
    '\n| network | task | image | side | best batch | images/s | to timm '
    '| largest batch | its peak GiB | share of the floor |\n'
    '| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |'
  )
  sizes = ['64x64'] if options.check else options.sizes.split(',')
  for name in names:
    for task in options.tasks.split(','):
      for size in sizes:
        base = None
        for side in ('timm', 'ours'):
          found = measure(side, name, task, size, options.check)
          if not found:
            print(f'| {name} | {task} | {size} | {side} | failed |||||')
            continue
          best = max(found, key=lambda one: one['speed'])
          base = base or best['speed']
          floor = FLOORS.get((name, task, size))
          speed = 'runs' if options.check else f'{best["speed"]:,.0f}'
          ratio = '' if options.check else f'{best["speed"] / base:.2f}'
          share = f'{best["speed"] / floor:.2f}' if floor else ''
          print(
            f'| {name} | {task} | {size} | {side} | {best["batch"]} | {speed} '
            f'| {ratio} | {found[-1]["batch"]} '
            f'| {found[-1]["peak"] / 2**30:.1f} '
            f'| {share} |',
            flush=True,
          )


if __name__ == '__main__':
  main()
