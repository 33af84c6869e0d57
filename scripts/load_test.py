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
import load_people

# All of these people come from one address.
_SETTINGS = ('requests_per_minute=999999', 'uploads_per_minute=999999')
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


async def _load(options, url, process, images) -> dict:
  alone = load_people.Times()
  async with load_people.browser(url) as client:
    for image in images[:5]:  # the first heat map is compiled here
      await load_people.visit(client, alone, image)
    alone = load_people.Times()
    for image in images[:10]:
      await load_people.visit(client, alone, image)
  before = await _metrics(url)
  memory = [_resident(process.pid)]
  settled = None
  times, start = load_people.Times(), time.monotonic()
  end = start + options.seconds
  people = [
    asyncio.create_task(
      load_people.person(
        url, times, images, end, options.think, random.Random(i)
      )
    )
    for i in range(options.people)
  ]
  while time.monotonic() < end:
    await asyncio.sleep(min(1, options.seconds / 20))
    memory.append(_resident(process.pid))
    if (
      settled is None and time.monotonic() > start + options.seconds * _SETTLED
    ):
      settled = await _metrics(url)
  await asyncio.gather(*people)
  memory.append(_resident(process.pid))
  after = await _metrics(url)
  return {
    'errors': dict(times.errors),
    'alone': alone.told(),
    'together': times.told(),
    'per_second': sum(map(len, times.seconds.values())) / options.seconds,
    'server_mean_ms': _stages(before, after),
    'model_image_ms': 1000 * after['rsna_model_seconds'],
    'resident_mib': {
      'start': memory[0] / 2**20,
      'middle': memory[len(memory) // 2] / 2**20,
      'end': memory[-1] / 2**20,
      'most': max(memory) / 2**20,
    },
    'kept_mib': after['rsna_uploads_bytes'] / 2**20,
    'grown_mib': (_beside_uploads(after) - _beside_uploads(settled)) / 2**20,
  }


async def _metrics(url: str) -> dict[str, float]:
  """Figures of /metrics, by name and labels."""
  async with load_people.browser(url) as client:
    lines = (await client.get('/metrics')).text.splitlines()
  rows = (line.rpartition(' ') for line in lines if not line.startswith('#'))
  return {name: float(value) for name, _, value in rows}


def _beside_uploads(figures: dict) -> float:
  """Memory of the server without the uploads, whose room is bounded."""
  return figures['rsna_resident_bytes'] - figures['rsna_uploads_bytes']


def _stages(before: dict, after: dict) -> dict[str, float]:
  """Mean milliseconds of each stage between two looks at /metrics."""
  found = {}
  for stage in ('read', 'model', 'explain'):
    seconds, n = (
      after.get(name, 0) - before.get(name, 0)
      for name in (
        f'rsna_stage_seconds_{kind}{{stage="{stage}"}}'
        for kind in ('sum', 'count')
      )
    )
    found[stage] = 1000 * seconds / max(1, n)
  return found


async def _flood(url: str, images: list[bytes], people: int = 60) -> dict:
  """All at once, to a queue of 4."""
  times: list[float] = []
  statuses, waits, hangs = collections.Counter(), 0, 0

  async def one(image):
    """Asks once."""
    nonlocal waits, hangs
    start = time.monotonic()
    async with load_people.browser(url, 40) as client:
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
    + f'; of uploads {figures["kept_mib"]:.0f}; without these it has grown by '
    f'{figures["grown_mib"]:.0f} since a quarter of the time',
    f'a queue of 4, {queue["asked"]} at once: '
    + ', '.join(f'{n} x {s}' for s, n in sorted(queue['statuses'].items()))
    + f', {queue["with_retry_after"]} with Retry-After, {queue["hangs"]} '
    f'hang, the slowest answer {queue["max_ms"]:.0f} ms',
    'passed' if _passed(figures) else 'FAILED',
  ]
  return '\n'.join(lines)


if __name__ == '__main__':
  sys.exit(main())
