"""The verbs of `rsna-jax` that need the extra `serve`, and their options."""

import argparse
import os

from rsna_jax import errors
from rsna_jax.serve import settings


def add(verbs, make) -> None:
  """Adds the verbs to the command line.

  Args:
    verbs: of argparse's `add_subparsers`.
    make: makes the parser of a verb from `verbs`, its name and what it does.
  """
  verb = make(verbs, 'serve', 'open the web page on a trained run')
  verb.add_argument('--workdir', required=True, help='the run to start with')
  _store_option(verb)
  verb.add_argument('--host', default='127.0.0.1')
  verb.add_argument('--port', type=int, default=8000)
  verb.add_argument(
    '--set',
    action='append',
    default=[],
    metavar='NAME=VALUE',
    help='a setting of rsna_jax/serve/settings.py; may be given again',
  )
  verb.set_defaults(run=_serve)

  verb = make(verbs, 'users', 'add, change and list the people of a store')
  verb.add_argument(
    'action', choices=('add', 'list', 'password', 'role', 'disable', 'enable')
  )
  verb.add_argument('name', nargs='?', help='of the person')
  _store_option(verb)
  verb.add_argument(
    '--role', choices=('contributor', 'reviewer', 'administrator')
  )
  verb.add_argument(
    '--password-file',
    metavar='F',
    help='whose first line is the password; - for standard input; default: ask',
  )
  verb.set_defaults(run=_users)

  verb = make(verbs, 'store', 'check, copy and mend a store of submissions')
  verb.add_argument(
    'action', choices=('check', 'sweep', 'backup', 'restore', 'delete')
  )
  verb.add_argument(
    'what', nargs='?', help='backup, restore: a file; delete: a submission'
  )
  _store_option(verb)
  verb.set_defaults(run=_store)

  verb = make(verbs, 'retrain', 'learn from accepted submissions, and judge it')
  _store_option(verb)
  verb.add_argument('--workdir', required=True, help='the run of the server')
  verb.add_argument(
    '--set',
    action='append',
    default=[],
    metavar='NAME=VALUE',
    help='as in steps=200; rsna_jax/serve/learning/retrain_options.py has all',
  )
  verb.add_argument(
    '--by',
    default='command line',
    metavar='NAME',
    help='who asks for it, for the list of models and the audit log',
  )
  verb.set_defaults(run=_retrain)

  verb = make(verbs, 'models', 'list the models of a store, or go back to one')
  verb.add_argument('action', choices=('list', 'rollback', 'check'))
  verb.add_argument(
    'number', nargs='?', type=int, help='of the model; default: the one before'
  )
  _store_option(verb)
  verb.set_defaults(run=_models)


def _store_option(verb: argparse.ArgumentParser) -> None:
  verb.add_argument('--store', required=True, help='folder of the store')
  verb.add_argument(
    '--database',
    metavar='URL',
    default=os.environ.get(settings.DATABASE_VARIABLE) or None,
    help='postgresql://USER:PASSWORD@HOST/NAME; default: the variable '
    f'{settings.DATABASE_VARIABLE}, or else SQLite in the store',
  )


def _needs_extra(error: ImportError):
  raise errors.ConfigError(
    f'{error.name} is not installed: pip install "rsna_jax[serve]"'
  ) from error


def _serve(options) -> int | None:
  try:
    from rsna_jax.serve.web import server
  except ImportError as error:
    _needs_extra(error)
  return server.command(options)


def _users(options) -> int | None:
  try:
    from rsna_jax.serve import store_commands
  except ImportError as error:
    _needs_extra(error)
  return store_commands.users(options)


def _store(options) -> int | None:
  try:
    from rsna_jax.serve import store_commands
  except ImportError as error:
    _needs_extra(error)
  return store_commands.store(options)


def _retrain(options) -> int | None:
  try:
    from rsna_jax.serve.learning import retrain
  except ImportError as error:
    _needs_extra(error)
  return retrain.command(options)


def _models(options) -> int | None:
  try:
    from rsna_jax.serve import store_commands
  except ImportError as error:
    _needs_extra(error)
  return store_commands.models(options)
