"""The people of scripts/load_test.py, and what they have seen."""

import asyncio
import collections
import contextlib
import time

import httpx
import numpy as np

KINDS = ('page', 'predict', 'picture', 'window', 'heat')


class Times:
  """What people have seen."""

  def __init__(self):
    self.seconds = collections.defaultdict(list)
    self.errors = collections.Counter()

  async def ask(self, kind, client, method, path, **more) -> httpx.Response:
    """Asks and notes; an answer that is none raises an `httpx.HTTPError`."""
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
    """Number and milliseconds of each kind."""
    found = {}
    for kind in KINDS:
      seconds = self.seconds.get(kind)
      if seconds:
        found[kind] = {
          'n': len(seconds),
          'p50_ms': 1000 * float(np.percentile(seconds, 50)),
          'p95_ms': 1000 * float(np.percentile(seconds, 95)),
          'max_ms': 1000 * max(seconds),
        }
    return found


def browser(url: str, timeout: float = 60) -> httpx.AsyncClient:
  """A new one, without the certificates that take long to read."""
  return httpx.AsyncClient(base_url=url, timeout=timeout, verify=False)


async def visit(client, times: Times, image: bytes) -> None:
  """What one person does with one image."""
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


async def person(url, times, images, end, think, chance) -> None:
  """Visits until the end; a new browser each time."""
  await asyncio.sleep(chance.random() * think)
  while time.monotonic() < end:
    async with browser(url) as client:
      with contextlib.suppress(httpx.HTTPError):
        await visit(client, times, chance.choice(images))
    await asyncio.sleep(chance.expovariate(1 / max(think, 1e-3)))
