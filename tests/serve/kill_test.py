"""F23 of the store: a process that submits is killed, and nothing is lost."""

import os
import random
import signal
import subprocess
import sys
import time

import serve_store
import sqlalchemy as sa

from rsna_jax.serve.store import audit_log, blobs, tables, upkeep

_KILLS = 20
# Says an id only after `add` has returned.
_CODE = """
import pathlib, random, sys
sys.path.insert(0, {tests!r})
import serve_store
from rsna_jax.serve.store import near, submissions
store = serve_store.open_there(pathlib.Path({folder!r}), {url!r})
chance = random.Random({seed})
print('ready', flush=True)
while True:
  png = b'PNG ' + chance.randbytes(200_000)
  prints = near.Fingerprints(*(chance.randbytes(32).hex() for _ in range(2)))
  kept = submissions.Kept(png=png, fingerprints=prints, rows=1, columns=1)
  row = submissions.add(store.db, store.blobs, kept, serve_store.labels(), {{}},
                        store.contributor, {{}})
  print(row['id'], flush=True)
  if chance.random() < 0.2:
    submissions.delete(store.db, store.blobs, row['id'], store.contributor)
    print('-' + row['id'], flush=True)
"""


def _run_and_kill(store, seed: int, after_s: float) -> tuple[set, set]:
  """Ids that were acknowledged, and those of them that were deleted."""
  url = None
  if not store.db.is_sqlite:
    url = store.db.url.set(drivername='postgresql').render_as_string(False)
  code = _CODE.format(
    tests=os.path.dirname(serve_store.__file__),
    folder=str(store.folder),
    url=url,
    seed=seed,
  )
  running = subprocess.Popen(
    [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True
  )
  assert running.stdout.readline() == 'ready\n'
  time.sleep(after_s)
  running.send_signal(signal.SIGKILL)
  text, _ = running.communicate()
  # A line that was cut off was not acknowledged.
  lines = text.split('\n')[:-1]
  deleted = {line[1:] for line in lines if line.startswith('-')}
  return {line for line in lines if not line.startswith('-')}, deleted


def test_twenty_kills_lose_no_acknowledged_submission(store):
  chance = random.Random(0)
  kills = _KILLS if store.db.is_sqlite else 3
  acknowledged, deleted = set(), set()
  for seed in range(kills):
    found = _run_and_kill(store, seed, chance.uniform(0.05, 0.8))
    acknowledged |= found[0]
    deleted |= found[1]
  assert len(acknowledged) > kills
  with store.db.reading() as session:
    rows = {
      row.id: row.image_sha256
      for row in session.scalars(sa.select(tables.Submission))
    }
    assert audit_log.verify(session) == []
    gone = set(
      session.scalars(
        sa.select(tables.Audit.object).where(
          tables.Audit.action == 'submission.delete'
        )
      )
    )
  assert acknowledged - gone <= rows.keys()
  assert deleted <= gone and not gone & rows.keys()
  # A row is never without its file; a file may be without a row, and is swept.
  there = set(store.blobs.all())
  assert set(rows.values()) <= there
  orphans = len(there - set(rows.values())) + len(list(store.blobs.strays()))
  removed = upkeep.sweep(store.db, store.blobs, older_than_s=-1)
  assert len(removed) == orphans
  assert set(store.blobs.all()) == set(rows.values())
  assert list(store.blobs.strays()) == []
  assert blobs.sweep(store.db, store.blobs).missing == []
  assert store.db.check() == []
  print(
    f'{kills} kills, {len(acknowledged)} acknowledged, '
    f'{len(deleted)} deleted, {orphans} orphans swept'
  )
