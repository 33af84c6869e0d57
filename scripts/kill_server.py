"""Kills a server again and again while people submit, and counts what is lost.

Usage: python scripts/kill_server.py RUN IMAGES OUT [--kills 20] [--people 4]
RUN is a trained run, IMAGES a folder of mammograms (as many as will do: each is
submitted once), OUT a new folder for the store. Each person reads an image by
HTTP and submits it with labels; the server gets SIGKILL at a random moment and
is started again. At the end every submission that was acknowledged has to be
there with its picture, `store check` has to find nothing wrong, and after a
sweep no picture may be without a row. Prints one JSON object; the exit code is
1 where it is not so.
"""

import argparse
import json
import pathlib
import queue
import random
import signal
import subprocess
import sys
import threading
import time

import httpx
import sqlalchemy as sa

from rsna_jax import inference, shell
from rsna_jax.serve.store import accounts, blobs, database, tables, upkeep

_PASSWORD = 'correct horse 7'
_LABELS = {'evidence': 'opinion', 'confidence': 3, 'text_checked': True}
_SETTINGS = ('submissions_per_day=100000', 'requests_per_minute=100000')
_SETTINGS += ('uploads_per_minute=100000', 'logins_per_minute=100000')


class Submitting:
  """People who go on submitting until they are told to stop."""

  def __init__(self, url: str, images: queue.Queue, people: int):
    self.acknowledged: list[str] = []
    self.refused: list[str] = []
    self._url, self._images = url, images
    self._stop = threading.Event()
    self._threads = [
      threading.Thread(target=self._run, args=(f'person{i}',), daemon=True)
      for i in range(people)
    ]
    for thread in self._threads:
      thread.start()

  def stop(self) -> None:
    self._stop.set()
    for thread in self._threads:
      thread.join(60)

  def _run(self, name: str) -> None:
    try:
      with httpx.Client(
        base_url=self._url, headers={'Origin': self._url}, timeout=60
      ) as client:
        said = client.post(
          '/api/v1/login', json={'name': name, 'password': _PASSWORD}
        )
        client.headers['X-CSRF-Token'] = said.json()['csrf']
        while not self._stop.is_set():
          self._submit(client, self._images.get_nowait())
    except (httpx.HTTPError, queue.Empty):
      return  # the server was killed, or all images have been submitted

  def _submit(self, client: httpx.Client, path: pathlib.Path) -> None:
    said = client.post(
      '/api/v1/predict', files={'files': (path.name, path.read_bytes())}
    )
    if said.status_code != 200:
      self.refused.append(said.json()['code'])
      return
    upload = said.json()['images'][0]['id']
    said = client.post(
      '/api/v1/submissions',
      json={'upload': upload, 'cancer': 'benign', **_LABELS},
    )
    if said.status_code == 201:
      self.acknowledged.append(said.json()['submission']['id'])
    else:
      self.refused.append(said.json()['code'])


def start(run: str, store: pathlib.Path, log) -> tuple[subprocess.Popen, str]:
  """A server that is ready, and its address."""
  command = [sys.executable, '-m', 'rsna_jax.cli', 'serve', '--workdir', run]
  command += ['--store', str(store), '--port', '0']
  for pair in _SETTINGS:
    command += ['--set', pair]
  process = subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=log, text=True
  )
  url = process.stdout.readline().split()[0].rstrip('/')
  while httpx.get(f'{url}/ready').status_code != 200:
    time.sleep(0.1)
  return process, url


def run(options) -> dict:
  """Kills, and counts."""
  out = pathlib.Path(options.out)
  store = out / 'store'
  store.mkdir(parents=True)
  db = database.Database(None, store)
  db.migrate()
  with db.session() as session:
    for i in range(options.people):
      accounts.create(session, f'person{i}', _PASSWORD, 'reviewer')
  images: queue.Queue = queue.Queue()
  for path in inference.find_files(options.images):
    images.put(path)
  chance = random.Random(options.seed)
  acknowledged, refused, recovery = [], [], []
  with (out / 'server.log').open('w') as log:
    for _ in range(options.kills):
      began = time.monotonic()
      process, url = start(options.run, store, log)
      recovery.append(time.monotonic() - began)
      people = Submitting(url, images, options.people)
      time.sleep(chance.uniform(0.5, options.most_s))
      process.send_signal(signal.SIGKILL)
      process.wait()
      people.stop()
      acknowledged += people.acknowledged
      refused += people.refused
    # What the next start clears, and what it answers.
    process, url = start(options.run, store, log)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
  pictures = blobs.Blobs(store / 'blobs')
  with db.reading() as session:
    there = {
      row.id: row.image_sha256
      for row in session.scalars(sa.select(tables.Submission))
    }
  swept = blobs.sweep(db, pictures, older_than_s=0)
  found = {
    'kills': options.kills,
    'acknowledged': len(acknowledged),
    'lost': len(set(acknowledged) - set(there)),
    'rows': len(there),
    'rows without a picture': len(swept.missing),
    'pictures swept': len(swept.removed),
    'pictures without a row': len(set(pictures.all()) - set(there.values())),
    'faults': upkeep.check(db, pictures),
    'refused': sorted(set(refused)),
    'seconds to be ready, median': round(
      sorted(recovery)[len(recovery) // 2], 1
    ),
  }
  db.close()
  return found


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('run')
  parser.add_argument('images')
  parser.add_argument('out')
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--people', type=int, default=4)
  parser.add_argument('--most-s', type=float, default=3.0)
  parser.add_argument('--seed', type=int, default=0)
  found = run(parser.parse_args())
  print(json.dumps(found, indent=2))
  wrong = ('lost', 'rows without a picture', 'pictures without a row', 'faults')
  return int(any(found[name] for name in wrong))


if __name__ == '__main__':
  shell.set_up_logging()
  sys.exit(shell.run(main))
