"""The database: migrations, transactions, checks that code cannot bypass."""

import errno
import subprocess
import sys
import threading

import pytest
import serve_store
import sqlalchemy as sa
from alembic import autogenerate
from alembic.runtime import migration

from rsna_jax import errors
from rsna_jax.serve.store import database, tables


def test_the_migrations_make_the_tables_of_the_code(store):
  with store.db.reading() as session:
    context = migration.MigrationContext.configure(
      session.connection(), opts={'compare_type': True}
    )
    found = autogenerate.compare_metadata(context, tables.Base.metadata)
    assert found == []
    inspector = sa.inspect(session.connection())
    for table in tables.Base.metadata.sorted_tables:
      expected = {
        c.name for c in table.constraints if isinstance(c, sa.CheckConstraint)
      }
      there = {c['name'] for c in inspector.get_check_constraints(table.name)}
      assert there == expected, table.name


def test_migrating_again_changes_nothing(store):
  store.db.migrate()
  assert store.db.check() == []


def test_tables_of_a_later_version_are_refused(store):
  with store.db.session() as session:
    session.execute(sa.text("UPDATE alembic_version SET version_num = 'later'"))
  with pytest.raises(errors.DataError, match='later'):
    store.db.migrate()


def test_many_that_start_at_once_migrate_once(tmp_path, database_url):
  wrong = []

  def start():
    try:
      db = database.Database(database_url, tmp_path / 'store')
      db.migrate()
      db.close()
    except Exception as error:
      wrong.append(error)

  threads = [threading.Thread(target=start) for _ in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == []
  db = database.Database(database_url, tmp_path / 'store')
  assert db.check() == []
  db.close()


def test_sqlite_is_set_up_to_survive(sqlite_store):
  with sqlite_store.db.reading() as session:
    found = {
      name: session.execute(sa.text(f'PRAGMA {name}')).scalar()
      for name in ('journal_mode', 'synchronous', 'foreign_keys')
    }
  assert found == {'journal_mode': 'wal', 'synchronous': 2, 'foreign_keys': 1}


@pytest.mark.parametrize(
  'url',
  ['mysql://x', 'sqlite:///x', 'no url', 'postgresql+psycopg2://x', 'http://x'],
)
def test_other_databases_are_refused(tmp_path, url):
  with pytest.raises(errors.ConfigError, match='postgresql://'):
    database.Database(url, tmp_path)


def test_a_password_in_the_url_is_not_shown(tmp_path):
  db = database.Database('postgresql://me:secret@localhost/x', tmp_path)
  assert 'secret' not in repr(db.url)


def test_what_fails_is_undone(store):
  with pytest.raises(ZeroDivisionError), store.db.session() as session:
    session.execute(sa.update(tables.User).values(disabled=True))
    raise ZeroDivisionError
  with store.db.reading() as session:
    assert not any(session.scalars(sa.select(tables.User.disabled)))


def test_a_writer_within_a_writer_is_refused(store):
  def nested():
    with store.db.session():
      pass

  with store.db.session(), pytest.raises(RuntimeError, match='within'):
    nested()
  with store.db.session():
    pass


def test_a_reader_sees_one_state_beside_a_writer(store):
  count = sa.select(sa.func.count()).select_from(tables.User)
  with store.db.reading() as reader:
    assert reader.scalar(count) == 4
    with store.db.session() as writer:
      writer.add(tables.User(name='x', password_hash='x', role='reviewer'))
    assert reader.scalar(count) == 4
  with store.db.reading() as reader:
    assert reader.scalar(count) == 5


def test_fifty_threads_read_and_write(store):
  """Each adds to a number that it has read: none may be lost."""
  with store.db.session() as session:
    session.add(tables.Dataset(number=1, sha256='0', counts={'n': 0}))
  wrong = []

  def work():
    try:
      for _ in range(3):
        with store.db.reading() as session:
          session.scalars(sa.select(tables.User)).all()
        with store.db.session() as session:
          row = session.get(tables.Dataset, 1)
          row.counts = {'n': row.counts['n'] + 1}
    except Exception as error:
      wrong.append(error)

  threads = [threading.Thread(target=work) for _ in range(50)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == []
  with store.db.reading() as session:
    assert session.get(tables.Dataset, 1).counts == {'n': 150}


def test_processes_wait_for_each_other(store):
  code = f"""
import sqlalchemy as sa
from rsna_jax.serve.store import audit_log, database
db = database.Database({store.db.url.render_as_string(False)!r}
  if {not store.db.is_sqlite} else None, {str(store.folder)!r})
for i in range(25):
  with db.session() as session:
    audit_log.append(session, 'me', 'try', str(i), {{}})
"""
  running = [
    subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE)
    for _ in range(3)
  ]
  for one in running:
    _, text = one.communicate(timeout=120)
    assert one.returncode == 0, text.decode()
  from rsna_jax.serve.store import audit_log

  with store.db.reading() as session:
    assert audit_log.verify(session) == []
    last = session.scalar(sa.select(sa.func.max(tables.Audit.number)))
  assert last == 4 + 75


_ROW = {
  'user_id': 1,
  'patient': 'p',
  'laterality': 'L',
  'view': 'CC',
  'age': 50,
  'implant': 0,
  'density': 2,
  'cancer': 1,
  'evidence': 'biopsy',
  'confidence': 3,
  'text_checked': True,
  'note': '',
  'disagreement': 0.5,
  'status': 'pending',
  'reason': '',
  'created_at': 'now',
}


@pytest.mark.parametrize(
  'change',
  [
    {'density': 0},
    {'density': 5},
    {'density': 2.5},
    {'density': '2 OR 1=1'},
    {'density': None, 'cancer': None},
    {'cancer': 2},
    {'cancer': -1},
    {'cancer': 'maybe'},
    {'evidence': 'hearsay'},
    {'evidence': None},
    {'confidence': 0},
    {'confidence': 6},
    {'confidence': None},
    {'age': -1},
    {'age': 121},
    {'implant': 2},
    {'laterality': 'X'},
    {'view': 'XX'},
    {'patient': 'p' * 65},
    {'note': 'n' * 501},
    {'model_cancer': 1.5},
    {'model_cancer': float('inf')},
    {'disagreement': -0.1},
    {'disagreement': 1.1},
    {'status': 'lost'},
    {'status': 'accepted'},
    {
      'status': 'accepted',
      'side': 'train',
      'reviewer_id': 1,
      'reviewed_at': 'now',
    },
    {
      'status': 'accepted',
      'side': 'train',
      'reviewer_id': 1,
      'reviewed_at': 'now',
      'final_cancer': 1,
      'text_checked': False,
    },
    {'side': 'both'},
    {'final_density': 7},
    {'final_cancer': 7},
    {'user_id': 99},
    {'image_sha256': 'f' * 64},
    {'near_id': 'nobody'},
    {'model_number': 99},
  ],
  ids=lambda change: ','.join(f'{k}={v}'[:24] for k, v in change.items()),
)
def test_the_database_refuses_what_code_would_have(store, change):
  """Written past every line of code that checks."""
  row = store.add(serve_store.picture(0))
  values = _ROW | {'id': 'x', 'image_sha256': row['image_sha256']} | change
  text = sa.text(
    f'INSERT INTO submissions ({", ".join(values)}) VALUES '
    f'({", ".join(":" + name for name in values)})'
  )
  with store.db.session() as session:
    # Else the picture itself would be a second vote.
    session.execute(sa.text("UPDATE submissions SET status = 'rejected'"))
  with pytest.raises(sa.exc.DBAPIError), store.db.session() as session:
    session.execute(text, values)
  with store.db.session() as session:
    good = _ROW | {'id': 'x', 'image_sha256': row['image_sha256']}
    session.execute(
      sa.text(
        f'INSERT INTO submissions ({", ".join(good)}) VALUES '
        f'({", ".join(":" + name for name in good)})'
      ),
      good,
    )


def test_the_database_refuses_a_second_vote(store):
  row = store.add(serve_store.picture(0))
  values = _ROW | {'id': 'x', 'image_sha256': row['image_sha256']}
  with pytest.raises(sa.exc.DBAPIError), store.db.session() as session:
    session.execute(sa.insert(tables.Submission), values)


@pytest.mark.parametrize('role', ['king', '', None])
def test_the_database_refuses_other_roles(store, role):
  with pytest.raises(sa.exc.DBAPIError), store.db.session() as session:
    session.execute(sa.update(tables.User).values(role=role))


def test_a_full_disk_is_said_as_one(sqlite_store):
  """SQLite is told that it may not have another page."""
  with pytest.raises(OSError) as caught, sqlite_store.db.session() as session:
    pages = session.execute(sa.text('PRAGMA page_count')).scalar()
    session.execute(sa.text(f'PRAGMA max_page_count = {pages}'))
    session.add_all(
      tables.Audit(
        number=1000 + i,
        at='',
        actor='',
        action='',
        object='',
        details='x' * 4000,
        previous='',
        sha256='',
      )
      for i in range(100)
    )
    session.flush()
  assert caught.value.errno == errno.ENOSPC
  sqlite_store.db.close()
  db = database.Database(None, sqlite_store.folder)
  assert db.check() == []
  with db.reading() as session:
    assert session.get(tables.Audit, 1000) is None
  db.close()
