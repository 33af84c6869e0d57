"""The chain of the audit log: whoever edits or cuts it is found out."""

import threading

import pytest
import sqlalchemy as sa

from rsna_jax.serve.store import audit_log, tables


def _lines(store, n=5):
  for i in range(n):
    with store.db.session() as session:
      audit_log.append(session, 'me', 'try', f'thing {i}', {'value': i})


def _faults(store):
  with store.db.reading() as session:
    return audit_log.verify(session)


def _last(session):
  return session.scalar(sa.select(sa.func.max(tables.Audit.number)))


def test_a_whole_chain_has_no_fault(store):
  _lines(store)
  assert _faults(store) == []


@pytest.mark.parametrize(
  ('column', 'value'),
  [
    ('actor', 'you'),
    ('action', 'other'),
    ('object', 'thing 9'),
    ('details', '{"value": 7}'),
    ('at', '2020-01-01T00:00:00.000000Z'),
    ('sha256', 'f' * 64),
  ],
)
def test_an_edited_line_is_found(store, column, value):
  _lines(store)
  with store.db.session() as session:
    session.execute(
      sa.update(tables.Audit)
      .where(tables.Audit.number == 6)
      .values({column: value})
    )
  assert any('line 6' in fault or 'line 7' in fault for fault in _faults(store))


@pytest.mark.parametrize('number', [1, 6])
def test_a_removed_line_is_found(store, number):
  _lines(store)
  with store.db.session() as session:
    session.execute(
      sa.delete(tables.Audit).where(tables.Audit.number == number)
    )
  assert any('missing' in fault for fault in _faults(store))


def test_lines_cut_off_at_the_end_are_found(store):
  _lines(store)
  with store.db.session() as session:
    last = _last(session)
    session.execute(
      sa.delete(tables.Audit).where(tables.Audit.number > last - 2)
    )
  assert any('missing at its end' in fault for fault in _faults(store))


def test_lines_cut_off_are_found_though_the_head_was_mended(store):
  _lines(store)
  with store.db.session() as session:
    last = _last(session)
    session.execute(
      sa.delete(tables.Audit).where(tables.Audit.number > last - 2)
    )
    line = session.get(tables.Audit, last - 2)
    session.execute(
      sa.update(tables.AuditHead).values(count=line.number, sha256=line.sha256)
    )
  assert any(audit_log.HEAD_FILE in fault for fault in _faults(store))


def test_what_is_rolled_back_leaves_no_line(store):
  _lines(store)
  with pytest.raises(ZeroDivisionError), store.db.session() as session:
    audit_log.append(session, 'me', 'try', 'nothing', {})
    raise ZeroDivisionError
  _lines(store, 1)
  assert _faults(store) == []


def test_fifty_threads_make_one_chain(store):
  with store.db.reading() as session:
    before = _last(session)
  wrong = []

  def write():
    try:
      _lines(store, 4)
    except Exception as error:
      wrong.append(error)

  threads = [threading.Thread(target=write) for _ in range(50)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == []
  assert _faults(store) == []
  with store.db.reading() as session:
    assert _last(session) == before + 200


def test_control_characters_do_not_reach_a_line(store):
  with store.db.session() as session:
    n = audit_log.append(
      session, 'a\nb\0', 'x\r', '\u202eevil', {'note': '\n\0\u202e'}
    )
  with store.db.reading() as session:
    line = session.get(tables.Audit, n)
  assert (line.actor, line.action, line.object) == ('a?b?', 'x?', '?evil')
  assert line.details.isascii() and '\n' not in line.details
