#!/usr/bin/env python3
"""Many people at once against a real server on this machine.

    python scripts/load_test.py RUN [--people 50] [--seconds 180]

Each of them opens the page, uploads a mammogram, looks at its picture, at two
windows and at the heat map, thinks, and begins again. Told are errors, times by
kind beside the model's own, and the server's memory at the start, in the middle
and at the end. Then a server with a short queue is asked more than it can take:
every answer has to be 200, or 503 with Retry-After, and none may hang.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import httpx
import numpy as np

# All of these people come from one address.
_SETTINGS = ('requests_per_minute=999999', 'uploads_per_minute=999999')
_KINDS = ('page', 'predict', 'picture', 'window', 'heat')
_START_S = 180
_SETTLED = 0.25  # of the time, after which memory has to be flat
_FLAT_BYTES = 64 << 20


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('run', type=pathlib.Path, help='a trained run')
  parser.add_argument('--people', type=int, default=50)
  parser.add_argument('--seconds', type=float, default=180)
  parser.add_argument('--think', type=float, default=1.0, help='seconds, mean')
  parser.add_argument('--json', type=pathlib.Path, help='figures, as a file')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    images = _images(folder)
    figures = {'people': options.people, 'seconds': options.seconds}
    with _server(options.run, folder / 'a') as (url, process):
      figures |= asyncio.run(_load(options, url, process, images))
    with _server(options.run, folder / 'b', 'queue=4') as (url, _):
      figures['queue_of_4'] = asyncio.run(_flood(url, images))
  print(_text(figures))
  if options.json:
    options.json.write_text(json.dumps(figures, indent=2))
  return 0 if _passed(figures) else 1


def _images(folder: pathlib.Path) -> list[bytes]:
  """DICOM files of phantoms."""
  out = folder / 'phantom'
  command = [sys.executable, '-m', 'rsna_jax.cli', 'phantom', str(out)]
  subprocess.run(
    [*command, '--patients', '6'], check=True, stdout=subprocess.DEVNULL
  )
  return [path.read_bytes() for path in sorted(out.rglob('*.dcm'))]


@contextlib.contextmanager
def _server(run: pathlib.Path, folder: pathlib.Path, *pairs: str):
  """A server that is ready: its URL and process."""
  folder.mkdir()
  command = [sys.executable, '-m', 'rsna_jax.cli', 'serve']
  command += ['--workdir', str(run), '--store', str(folder / 'store')]
  command += ['--port', '0']
  for pair in (*_SETTINGS, *pairs):
    command += ['--set', pair]
  with (
    (folder / 'log').open('w') as log,
    subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process,
  ):
    try:
      line = process.stdout.readline()
      if not line.startswith('http://'):
        raise SystemExit((folder / 'log').read_text())
      url = line.split()[0].rstrip('/')
      end = time.monotonic() + _START_S
      while httpx.get(f'{url}/ready').status_code != 200:
        if time.monotonic() > end:
          raise SystemExit('the server did not get ready')
        time.sleep(0.2)
      yield url, process
    finally:
      process.send_signal(signal.SIGTERM)
      try:
        process.wait(60)
      except subprocess.TimeoutExpired:
        process.kill()


class _Times:
  """What people have seen."""

  def __init__(self):
    self.seconds = collections.defaultdict(list)
    self.errors = collections.Counter()

  async def ask(self, kind, client, method, path, **more) -> httpx.Response:
    start = time.monotonic()
    try:
      answer = await client.request(method, path, **more)
    except httpx.HTTPError as error:
      self.errors[f'{kind} {type(error).__name__}'] += 1
      raise
    self.seconds[kind].append(time.monotonic() - start)
    if answer.status_code != 200:
      self.errors[f'{kind} {answer.status_code}'] += 1
      raise httpx.HTTPError(answer.text)
    return answer

  def told(self) -> dict:
    found = {}
    for kind in _KINDS:
      seconds = self.seconds.get(kind)
      if seconds:
        found[kind] = {
          'n': len(seconds),
          'p50_ms': 1000 * float(np.percentile(seconds, 50)),
          'p95_ms': 1000 * float(np.percentile(seconds, 95)),
          'max_ms': 1000 * max(seconds),
        }
    return found


def _browser(url: str, timeout: float = 60) -> httpx.AsyncClient:
  """A new one, without the certificates that take long to read."""
  return httpx.AsyncClient(base_url=url, timeout=timeout, verify=False)


async def _visit(client, times: _Times, image: bytes) -> None:
  await times.ask('page', client, 'GET', '/')
  answer = await times.ask(
    'predict',
    client,
    'POST',
    '/api/v1/predict',
    files={'files': ('a.dcm', image)},
  )
  place = f'/api/v1/uploads/{answer.json()["images"][0]["id"]}'
  await times.ask('picture', client, 'GET', f'{place}/picture.png')
  for center in (0.4, 0.6):
    path = f'{place}/window.png?center={center}&width=0.5'
    await times.ask('window', client, 'GET', path)
  await times.ask('heat', client, 'GET', f'{place}/heat.png')


async def _person(options, url, times, images, end, chance) -> None:
  """Visits until the end; a new browser each time."""
  await asyncio.sleep(chance.random() * options.think)
  while time.monotonic() < end:
    async with _browser(url) as client:
      with contextlib.suppress(httpx.HTTPError):
        await _visit(client, times, chance.choice(images))
    await asyncio.sleep(chance.expovariate(1 / max(options.think, 1e-3)))


async def _load(options, url, process, images) -> dict:
  alone = _Times()
  async with _browser(url) as client:
    for image in images[:5]:  # the first heat map is compiled here
      await _visit(client, alone, image)
    alone = _Times()
    for image in images[:10]:
      await _visit(client, alone, image)
  before = await _stages(url)
  memory = [_resident(process.pid)]
  times, start = _Times(), time.monotonic()
  end = start + options.seconds
  people = [
    asyncio.create_task(
      _person(options, url, times, images, end, random.Random(i))
    )
    for i in range(options.people)
  ]
  while time.monotonic() < end:
    await asyncio.sleep(min(1, options.seconds / 20))
    memory.append(_resident(process.pid))
  await asyncio.gather(*people)
  memory.append(_resident(process.pid))
  settled = memory[int(len(memory) * _SETTLED) :]
  after = await _stages(url)
  return {
    'errors': dict(times.errors),
    'alone': alone.told(),
    'together': times.told(),
    'per_second': sum(map(len, times.seconds.values())) / options.seconds,
    'server_mean_ms': {
      stage: 1000
      * (after[stage][0] - before[stage][0])
      / max(1, after[stage][1] - before[stage][1])
      for stage in after
    },
    'model_image_ms': 1000 * after['image'][0],
    'resident_mib': {
      'start': memory[0] / 2**20,
      'settled': settled[0] / 2**20,
      'middle': memory[len(memory) // 2] / 2**20,
      'end': memory[-1] / 2**20,
      'most': max(memory) / 2**20,
    },
    'grown_mib': (memory[-1] - settled[0]) / 2**20,
  }


async def _stages(url: str) -> dict[str, tuple[float, float]]:
  """Seconds and number of each stage so far, as /metrics tells them."""
  async with _browser(url) as client:
    lines = (await client.get('/metrics')).text.splitlines()
  found = {}
  for line in lines:
    name, _, value = line.rpartition(' ')
    for stage in ('read', 'model', 'explain'):
      if name == f'rsna_stage_seconds_sum{{stage="{stage}"}}':
        found[stage] = float(value), found.get(stage, (0, 0))[1]
      if name == f'rsna_stage_seconds_count{{stage="{stage}"}}':
        found[stage] = found.get(stage, (0, 0))[0], float(value)
    if name == 'rsna_model_seconds':
      found['image'] = float(value), 0.0
  return found


async def _flood(url: str, images: list[bytes], people: int = 60) -> dict:
  """All at once, to a queue of 4."""
  times: list[float] = []
  statuses, waits, hangs = collections.Counter(), 0, 0

  async def one(image):
    nonlocal waits, hangs
    start = time.monotonic()
    async with _browser(url, 40) as client:
      try:
        answer = await client.post(
          '/api/v1/predict', files={'files': ('a.dcm', image)}
        )
      except httpx.TimeoutException:
        hangs += 1
        return
    times.append(time.monotonic() - start)
    statuses[answer.status_code] += 1
    waits += answer.status_code == 503 and 'retry-after' in answer.headers

  chosen = [images[i % len(images)] for i in range(people)]
  await asyncio.gather(*map(one, chosen))
  return {
    'asked': people,
    'statuses': dict(statuses),
    'with_retry_after': waits,
    'hangs': hangs,
    'max_ms': 1000 * max(times, default=0),
  }


def _resident(pid: int) -> int:
  text = pathlib.Path(f'/proc/{pid}/status').read_text()
  line = next(line for line in text.splitlines() if line.startswith('VmRSS'))
  return int(line.split()[1]) * 1024


def _passed(figures: dict) -> bool:
  queue = figures['queue_of_4']
  refused = queue['statuses'].get(503, 0)
  return (
    not figures['errors']
    and figures['grown_mib'] * 2**20 < _FLAT_BYTES
    and set(queue['statuses']) <= {200, 503}
    and refused == queue['with_retry_after'] > 0
    and not queue['hangs']
  )


def _text(figures: dict) -> str:
  memory, queue = figures['resident_mib'], figures['queue_of_4']
  lines = [
    f'{figures["people"]} people, {figures["seconds"]:g} s, '
    f'{os.cpu_count()} cores, clients on them as well: '
    f'{figures["per_second"]:.1f} requests a second, errors: '
    f'{figures["errors"] or "none"}',
    f'{"kind":10}{"n":>7}{"p50 ms":>9}{"p95 ms":>9}{"alone p50":>11}',
  ]
  for kind, one in figures['together'].items():
    lines.append(
      f'{kind:10}{one["n"]:7}{one["p50_ms"]:9.0f}{one["p95_ms"]:9.0f}'
      f'{figures["alone"][kind]["p50_ms"]:11.0f}'
    )
  stages = figures['server_mean_ms']
  lines += [
    f'the model itself: {figures["model_image_ms"]:.1f} ms an image in its '
    f'batch; in the server, waiting included: reading {stages["read"]:.0f} ms, '
    f'model {stages["model"]:.0f} ms, explaining {stages["explain"]:.0f} ms',
    'memory of the server, MiB: '
    + ', '.join(f'{name} {value:.0f}' for name, value in memory.items())
    + f'; grown since it settled: {figures["grown_mib"]:.0f}',
    f'a queue of 4, {queue["asked"]} at once: '
    + ', '.join(f'{n} x {s}' for s, n in sorted(queue['statuses'].items()))
    + f', {queue["with_retry_after"]} with Retry-After, {queue["hangs"]} '
    f'hang, the slowest answer {queue["max_ms"]:.0f} ms',
    'passed' if _passed(figures) else 'FAILED',
  ]
  return '\n'.join(lines)


if __name__ == '__main__':
  sys.exit(main())
