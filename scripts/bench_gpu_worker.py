"""One contestant of `bench_gpu.py`: times a step, and prints a line of JSON.

It compiles, then waits until nobody else is timed. Ours also compiles alone:
XLA chooses among kernels by timing them.
"""

import argparse
import collections
import contextlib
import fcntl
import functools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
import types

# The networks need only its name.
try:
  import ml_collections  # noqa: F401
except ModuleNotFoundError:
  sys.modules['ml_collections'] = types.SimpleNamespace(ConfigDict=dict)
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
# Of matrix products cuBLAS's are the ones chosen; trying others takes minutes.
os.environ.setdefault('XLA_FLAGS', '--xla_gpu_enable_triton_gemm=false')
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

TIMM = {'xception': 'legacy_xception', 'convnext_small': 'convnext_small'}
_GROUP = 5  # steps between two looks at the clock


@contextlib.contextmanager
def alone():
  """Nobody else has the device meanwhile."""
  path = pathlib.Path(tempfile.gettempdir()) / 'bench_gpu.lock'
  with path.open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def ours(name: str, tiny: bool = False, forms: str = 'auto'):
  """The network in bfloat16 with one logit."""
  import jax.numpy as jnp

  from rsna_jax import models

  scale = {'width': 0.05, 'depth': 0.1} if tiny else {}
  return models.MODELS[name](
    targets=(('cancer', 1),), dtype=jnp.bfloat16, forms=forms, **scale
  )


def jax_step(name, task, shape, batch, tiny, forms='auto'):
  """(a step that is started, what waits for it)."""
  import jax
  import jax.numpy as jnp
  import optax

  from rsna_jax.models import folding

  model = ours(name, tiny, forms)
  image = jax.random.uniform(jax.random.key(1), (batch, *shape, 1))
  image = image.astype(jnp.bfloat16)
  meta = jnp.zeros((batch, 0))
  label = jnp.arange(batch) % 2
  variables = jax.jit(ours(name, tiny, 'plain').init, static_argnums=3)(
    jax.random.key(0), image[:1], meta[:1], False
  )

  if task == 'predict':
    variables = folding.fold(model, variables, shape, 0)
    step = jax.jit(lambda v, x: model.apply(v, x, meta, False)['cancer'])
    return lambda: step(variables, image), jax.block_until_ready
  tx = optax.adam(1e-3)

  def train(params, stats, opt_state, image, label):
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
    *state[:], value = step(*state, image, label)
    return value

  return run, jax.block_until_ready


def torch_step(name, task, shape, batch, tiny):
  """Likewise: channels last, autocast to bfloat16, torch.compile."""
  import timm
  import torch

  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision('high')
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = timm.create_model(TIMM[name], num_classes=1, in_chans=1)
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


def seconds(run, wait, least: float) -> tuple[float, float]:
  """(median, range from the 10th to the 90th percentile) of a step."""
  wait(run())
  found, started = [], time.perf_counter()
  while len(found) < 3 or time.perf_counter() - started < least:
    before = time.perf_counter()
    for _ in range(_GROUP):
      last = run()
    wait(last)
    found.append((time.perf_counter() - before) / _GROUP)
  tenths = statistics.quantiles(found, n=10)
  return statistics.median(found), tenths[-1] - tenths[0]


def kernels(run, wait) -> dict[str, float]:
  """ms of a step by kind of kernel, of ours on a GPU."""
  import jax

  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      wait(run())
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    profile = jax.profiler.ProfileData.from_file(str(path))
  total = collections.Counter()
  for plane in profile.planes:
    for line in plane.lines if 'GPU' in plane.name else ():
      for event in line.events if line.name.startswith('Stream') else ():
        total[event.name.rstrip('_0123456789')] += event.duration_ns / 1e6
  return dict(total.most_common(25))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('side', choices=('ours', 'timm'))
  parser.add_argument('network', choices=tuple(TIMM))
  parser.add_argument('task', choices=('predict', 'train'))
  parser.add_argument('size', help='rows x columns')
  parser.add_argument('batch', type=int)
  parser.add_argument('--tiny', action='store_true')
  parser.add_argument('--forms', default='auto')
  parser.add_argument('--profile', action='store_true')
  parser.add_argument('--seconds', type=float, default=1.5)
  options = parser.parse_args()
  shape = tuple(map(int, options.size.split('x')))
  setting = options.network, options.task, shape, options.batch, options.tiny
  if options.side == 'ours':
    run, wait = jax_step(*setting, options.forms)
  else:
    run, wait = torch_step(*setting)
  least = 0.0 if options.tiny else options.seconds
  started = time.perf_counter()
  if options.side == 'timm':
    for _ in range(2):
      wait(run())
    first = time.perf_counter() - started
  with alone():
    if options.side == 'ours':
      started = time.perf_counter()
      wait(run())
      first = time.perf_counter() - started
    took, spread = seconds(run, wait, least)
    line = {
      'speed': options.batch / took,
      'spread': spread / took,
      'first_s': first,
      'peak': peak_bytes(options.side),
    }
    if options.profile and options.side == 'ours':
      line['kernels'] = kernels(run, wait)
  print(json.dumps(line), flush=True)


if __name__ == '__main__':
  main()
