"""Xception and ConvNeXt-small against PyTorch on one accelerator, in bfloat16.

python scripts/bench_gpu.py [--models xception,convnext_small] [--sizes 299x299]
python scripts/bench_gpu.py --check      tiny sizes, on any machine

Needs jax, flax, optax, torch and timm alone. Ours and timm's networks get the
same weights, and their answers are compared before anything is timed. Each
setting runs in a process of its own (`bench_gpu_worker.py`), timm's with
channels_last, autocast to bfloat16 and torch.compile. Data lie on the device.
The last column is the share of what the memory's bandwidth allows (an estimate
for an H200; see docs/benchmarks.md).
"""

import argparse
import concurrent.futures
import functools
import json
import pathlib
import subprocess
import sys
import time

from bench_gpu_worker import TIMM

_WORKER = pathlib.Path(__file__).with_name('bench_gpu_worker.py')
# About as many pixels each.
SIZES = {'299x299': 256, '512x256': 128, '1024x512': 32, '2048x1024': 8}
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
  theirs = timm.create_model(TIMM[name]).eval()
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


def depthwise_forms(tiny: bool) -> None:
  """Prints the time of each form of the 3x3 depthwise convolution, alone."""
  import jax
  import jax.numpy as jnp

  from rsna_jax.models import depthwise

  forms = {
    form: functools.partial(depthwise.depthwise3x3, form=form)
    for form in ('lax', 'shift', 'edge', 'pallas')
  }
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


def measure(side, name, task, size, batch, options) -> dict | None:
  """What the worker said; None: it failed, and why is on standard error."""
  done = subprocess.run(
    [sys.executable, str(_WORKER), side, name, task, size, str(batch)]
    + ['--tiny'] * options.check
    + ['--profile'] * options.profile,
    capture_output=True,
    text=True,
    check=False,
  )
  for line in done.stdout.splitlines():
    if line.startswith('{'):
      return json.loads(line)
  print(done.stderr[-2000:], file=sys.stderr)
  return None


def row(setting, found, base, options) -> str:
  """Of the table."""
  name, task, size, batch, side = setting
  if not found:
    return f'| {name} | {task} | {size} | {batch} | {side} | failed |||||'
  floor = FLOORS.get((name, task, size))
  speed = 'runs' if options.check else f'{found["speed"]:,.0f}'
  spread = '' if options.check else f'{100 * found["spread"]:.1f} %'
  ratio = f'{found["speed"] / base["speed"]:.2f}' if base else ''
  share = f'{found["speed"] / floor:.2f}' if floor else ''
  return (
    f'| {name} | {task} | {size} | {batch} | {side} | {speed} | {spread} '
    f'| {"" if options.check else ratio} | {found["peak"] / 2**30:.1f} '
    f'| {found["first_s"]:.0f} | {"" if options.check else share} |'
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--models', default=','.join(TIMM))
  parser.add_argument('--sizes', default=','.join(SIZES))
  parser.add_argument('--tasks', default='train,predict')
  parser.add_argument(
    '--jobs', type=int, default=3, help='that compile at once'
  )
  parser.add_argument('--check', action='store_true', help='tiny sizes')
  parser.add_argument('--profile', action='store_true', help='ours by kernel')
  parser.add_argument(
    '--depthwise', action='store_true', help='its forms, each alone'
  )
  options = parser.parse_args()
  if options.depthwise:
    depthwise_forms(options.check)
    return
  names = options.models.split(',')
  for name in names:
    difference = check(name)
    print(
      f'{name}: differs from timm by {difference:.1e} of the greatest',
      flush=True,
    )
    if not difference < 1e-4:
      raise SystemExit(f'{name}: not the same network; nothing is timed')
  print(
    '\n| network | task | image | batch | side | images/s | spread | to timm '
    '| peak GiB | first step, s | share of the floor |\n'
    '| --- | --- | --- | ---: | --- ' + '| ---: ' * 6 + '|',
    flush=True,
  )
  sizes = ['64x64'] if options.check else options.sizes.split(',')
  settings = [
    (name, task, size, SIZES.get(size, 2), side)
    for size in sizes
    for name in names
    for task in options.tasks.split(',')
    for side in ('timm', 'ours')
  ]
  started, profiles = time.perf_counter(), []
  with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
    waiting = [
      pool.submit(measure, side, name, task, size, batch, options)
      for name, task, size, batch, side in settings
    ]
    base = None
    for setting, future in zip(settings, waiting, strict=True):
      found = future.result()
      base = found if setting[-1] == 'timm' else base
      print(row(setting, found, base, options), flush=True)
      if found and 'kernels' in found:
        profiles.append((setting, found['kernels']))
  print(f'\n{time.perf_counter() - started:.0f} s in all')
  for setting, found in profiles:
    print('\n' + ' '.join(map(str, setting)) + ': ms of a step by kernel')
    for kernel, ms in found.items():
      print(f'  {ms:8.3f}  {kernel[:70]}')


if __name__ == '__main__':
  main()
