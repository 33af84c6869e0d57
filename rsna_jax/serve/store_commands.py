"""The commands `rsna-jax users`, `store` and `models`."""

import getpass
import pathlib
import sys

from rsna_jax import errors
from rsna_jax.serve.learning import frozen_files
from rsna_jax.serve.store import (
  accounts,
  backup,
  blobs,
  database,
  submissions,
  upkeep,
  versions,
)

_BY = 'command line'


def users(options) -> int | None:
  """Adds, changes and lists people."""
  if options.action == 'list':
    db = _open(options)
    with db.reading() as session:
      for user in accounts.all(session):
        state = 'disabled' if user.disabled else 'enabled'
        print(f'{user.name}\t{user.role}\t{state}\t{user.created_at[:10]}')
    return None
  if options.name is None:
    raise errors.ConfigError(
      f'users {options.action}: whose? Write the name behind it'
    )
  name = options.name
  if options.action == 'role' and options.role is None:
    raise errors.ConfigError('users role: which one? Write --role ROLE')
  password = ''
  if options.action in ('add', 'password'):
    password = _password(options.password_file)
  db = _open(options, new=options.action == 'add')
  with db.session() as session:
    if options.action == 'add':
      role = options.role or 'contributor'
      accounts.create(session, name, password, role, _BY)
      said = f'added {name} as {role}'
    elif options.action == 'password':
      accounts.set_password(session, name, password, _BY)
      said = f'changed the password of {name}; their logins have ended'
    elif options.action == 'role':
      accounts.set_role(session, name, options.role, _BY)
      said = f'{name} is {options.role} from now on'
    elif options.action == 'disable':
      accounts.disable(session, name, _BY)
      said = f'disabled {name}; their logins have ended'
    else:
      accounts.enable(session, name, _BY)
      said = f'enabled {name}'
  print(said)
  return None


def store(options) -> int | None:
  """Checks, sweeps, backs up, restores a store, or deletes a submission."""
  action, what = options.action, options.what
  if action in ('check', 'sweep'):
    if what is not None:
      raise errors.ConfigError(f'store {action}: {what}: takes no more words')
  elif what is None:
    wanted = 'the id of a submission' if action == 'delete' else 'a file'
    raise errors.ConfigError(f'store {action}: write {wanted} behind it')
  if action == 'restore':
    faults = backup.restore(what, options.database, options.store)
    print(f'restored {what} to {options.store}')
    return _answer(faults, 'the store was not whole when it was backed up')
  db = _open(options)
  pictures = blobs.Blobs(db.store / 'blobs')
  if action == 'check':
    faults = upkeep.check(db, pictures)
    if not faults:
      print('the store is whole')
    return _answer(faults, 'the store is not whole')
  if action == 'sweep':
    removed = upkeep.sweep(db, pictures)
    print('\n'.join([*removed, f'removed {len(removed)} file(s)']))
  elif action == 'backup':
    rows = backup.backup(db, pictures, what)
    print(
      f'wrote {what}: {rows["submissions"]} submission(s), '
      f'{rows["models"]} model(s), {rows["users"]} people; whoever reads it '
      'can read everything that the store holds'
    )
  else:
    submissions.delete(db, pictures, what, None)
    frozen_files.forget_deleted(db)
    print(f'deleted {what}')
  return None


def models(options) -> int | None:
  """Lists and checks the models of a store, or goes back to one."""
  if options.action != 'rollback' and options.number is not None:
    raise errors.ConfigError(
      f'models {options.action}: {options.number}: takes no number'
    )
  db = _open(options)
  found = versions.Models(db, db.store)
  if options.action == 'check':
    faults = found.check()
    if not faults:
      print('the models are whole')
    return _answer(faults, 'the models are not whole')
  if options.action == 'rollback':
    number = found.rollback(options.number, _BY).number
    print(f'model {number} serves')
    return None
  serving = found.serving()
  for one in found.list():
    serves = serving is not None and serving.number == one.number
    learned = 'the first run'
    if one.dataset_number is not None:
      learned = f'model {one.parent} and set {one.dataset_number}'
    print(
      f'{one.number}\t{"serves" if serves else one.status}\t'
      f'{one.created_at[:19]}\t{one.weights_sha256[:12]}\tfrom {learned}\t'
      f'{one.promoted_by or ""}\t{one.reason}'
    )
  return None


def _open(options, new: bool = False) -> database.Database:
  """The store's database, brought up to date.

  Raises:
    errors.ConfigError: there is no store, and none is to be made.
  """
  folder = pathlib.Path(options.store)
  there = folder.is_dir() and any(folder.iterdir())
  if not there and not new:
    raise errors.ConfigError(
      f'{folder}: no store there; rsna-jax serve makes one, and so does '
      'rsna-jax users add'
    )
  is_sqlite = options.database is None
  if is_sqlite and not new and not (folder / database.NAME).is_file():
    raise errors.ConfigError(
      f'{folder}: no {database.NAME} in it; is its --database missing?'
    )
  db = database.Database(options.database, folder)
  db.migrate()
  return db


def _answer(faults: list[str], summary: str) -> None:
  """Prints each fault, and ends the command with one line if there are any."""
  for fault in faults:
    print(fault)
  if faults:
    raise errors.DataError(f'{summary}: {len(faults)} fault(s), listed above')


def _password(source: str | None) -> str:
  """The password: first line of a file, or asked for twice without echo."""
  if source == '-':
    return _line(sys.stdin.readline(), 'standard input')
  if source is not None:
    try:
      with open(source, encoding='utf-8') as file:
        return _line(file.readline(), source)
    except UnicodeDecodeError as error:
      raise errors.ConfigError(f'{source}: not a text in UTF-8') from error
  if not sys.stdin.isatty():
    raise errors.ConfigError(
      'no terminal to ask for the password: write --password-file FILE, or - '
      'for standard input'
    )
  first = getpass.getpass('Password: ')
  if getpass.getpass('Again: ') != first:
    raise errors.ConfigError('the two passwords differ: nothing was changed')
  return first


def _line(text: str, source: str) -> str:
  password = text.rstrip('\r\n')
  if not password:
    raise errors.ConfigError(f'{source}: its first line is empty')
  return password
