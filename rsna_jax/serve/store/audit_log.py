"""Who did what, in a chain: each line's hash covers the one before.

An edited, inserted or removed line breaks the chain; lines that are cut off at
its end are missed by the head, which stands in a row of its own and, against
whoever mends both, in the file `audit.head` of the store.
"""

import hashlib
import json
import logging
import pathlib
import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax import files
from rsna_jax.serve.store import tables

HEAD_FILE = 'audit.head'
_START = '0' * 64
_DETAILS_LENGTH = 8_000
_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]')
_LOG = logging.getLogger('rsna_jax')


def append(
  session: orm.Session,
  actor: str,
  action: str,
  object: str,
  details: dict[str, Any],
) -> int:
  """Adds a line; it is there if the session is committed.

  Args:
    session: one that writes (`Database.session`), so that no two lines can get
      the same number.
    actor: name of the person, or of the program.
    action: as in 'submission.accept'.
    object: what it was done to, as an id.
    details: values for JSON. Nothing of a patient.

  Returns:
    The line's number, from 1.
  """
  head = session.get(tables.AuditHead, 1, populate_existing=True)
  if head is None:
    head = tables.AuditHead(id=1, count=0, sha256=_START)
    session.add(head)
  text = json.dumps(details, sort_keys=True, allow_nan=False)
  if len(text) > _DETAILS_LENGTH:
    text = json.dumps({'shortened': text[: _DETAILS_LENGTH // 2]})
  line = tables.Audit(
    number=head.count + 1,
    at=tables.now(),
    actor=_plain(actor, 80),
    action=_plain(action, 64),
    object=_plain(object, 128),
    details=text,
    previous=head.sha256,
  )
  line.sha256 = _digest(line)
  session.add(line)
  head.count, head.sha256 = line.number, line.sha256
  session.flush()
  if not session.info.get('audit'):
    session.info['audit'] = True
    sa.event.listen(session, 'after_commit', _write_head)
  session.info['head'] = {'count': head.count, 'sha256': head.sha256}
  return line.number


def verify(session: orm.Session) -> list[str]:
  """What is wrong with the chain, a sentence each; nothing, if it is whole."""
  faults = []
  previous, expected = _START, 1
  kept = _kept(session)
  lines = sa.select(tables.Audit).order_by(tables.Audit.number)
  for line in session.scalars(lines.execution_options(yield_per=500)):
    if line.number != expected:
      faults.append(
        f'audit log: line {line.number} follows line {expected - 1}: '
        'lines are missing'
      )
    elif line.previous != previous:
      faults.append(
        f'audit log: line {line.number} does not continue the line before: '
        'a line was changed, or put in'
      )
    if _digest(line) != line.sha256:
      faults.append(f'audit log: line {line.number} was changed')
    if line.number == kept.get('count') and line.sha256 != kept['sha256']:
      faults.append(
        f'audit log: line {line.number} is not the one that {HEAD_FILE} knows'
      )
    previous, expected = line.sha256, line.number + 1
  head = session.get(tables.AuditHead, 1, populate_existing=True)
  count, sha256 = (0, _START) if head is None else (head.count, head.sha256)
  if (count, sha256) != (expected - 1, previous):
    faults.append(
      f'audit log: it ends with line {expected - 1}, its head knows '
      f'{count}: lines are missing at its end, or its head was changed'
    )
  # The file may lag behind, as a process may die after its commit.
  if kept.get('count', 0) > expected - 1:
    faults.append(
      f'audit log: it ends with line {expected - 1}, {HEAD_FILE} knows '
      f'{kept["count"]}: lines are missing at its end'
    )
  if 'fault' in kept:
    faults.append(kept['fault'])
  return faults


def write_head(session: orm.Session) -> None:
  """Brings `audit.head` up to the head that the rows have."""
  head = session.get(tables.AuditHead, 1, populate_existing=True)
  if head is not None:
    session.info['head'] = {'count': head.count, 'sha256': head.sha256}
    _write_head(session)


def _digest(line: tables.Audit) -> str:
  text = json.dumps(
    [
      line.number,
      line.at,
      line.actor,
      line.action,
      line.object,
      line.details,
      line.previous,
    ]
  )
  return hashlib.sha256(text.encode('ascii')).hexdigest()


def _plain(text: str, length: int) -> str:
  return _CONTROL.sub('?', text)[:length]


def _write_head(session: orm.Session) -> None:
  store = session.info.get('store')
  if store is None:
    return
  try:
    files.write_json(pathlib.Path(store) / HEAD_FILE, session.info['head'])
  except OSError as error:
    # What was done is done; the next line brings the file up to date.
    _LOG.warning('%s: not written: %s', HEAD_FILE, error.strerror)


def _kept(session: orm.Session) -> dict[str, Any]:
  store = session.info.get('store')
  path = None if store is None else pathlib.Path(store) / HEAD_FILE
  if path is None or not path.is_file():
    return {}
  try:
    found = json.loads(path.read_text(encoding='ascii'))
    return {'count': int(found['count']), 'sha256': str(found['sha256'])}
  except (ValueError, KeyError, TypeError):
    return {'fault': f'audit log: {HEAD_FILE} is damaged'}
