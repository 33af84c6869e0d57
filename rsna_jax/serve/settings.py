"""Every option of the server, its default, and how the command line sets it."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rsna_jax import errors, schema

NOTICE = schema.NOTICE
# The URL of the database, whose password no command line should show.
DATABASE_VARIABLE = 'RSNA_JAX_DATABASE'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Options of a server; sizes in bytes, times in seconds."""

  store: pathlib.Path
  database: str | None = None  # URL of PostgreSQL; None: SQLite in the store
  host: str = '127.0.0.1'
  port: int = 8000
  # Names that requests may be addressed to, beside the host; * for any.
  allowed_hosts: tuple[str, ...] = ('localhost', '127.0.0.1', '[::1]')
  https: bool = False  # behind TLS: cookies are Secure, and HSTS is sent

  # Of a request.
  file_bytes: int = 64 << 20
  files: int = 8  # images of a request
  body_bytes: int = 160 << 20
  fields: int = 200
  body_s: float = 60.0  # to receive a body
  answer_s: float = 30.0  # to answer, waiting included
  # Of a client (an address, or a person who is logged in).
  requests_per_minute: int = 300
  uploads_per_minute: int = 60
  logins_per_minute: int = 10  # wrong passwords
  submissions_per_day: int = 50  # of a contributor; reviewers have ten times
  # Of the whole server.
  queue: int = 64  # images that wait for the model; beyond: 503
  connections: int = 400
  batch: int = 16  # images that are computed together
  batch_wait_s: float = 0.005  # for others to come along

  # Decoding, in a child process.
  decoders: int = 2
  decode_bytes: int = 3 << 30  # address space of a child
  decode_s: float = 9.0
  gate: float = 0.5  # what scores less is no mammogram
  picture_px: int = 1600  # longer side of the picture that is shown

  # Uploads that were answered, kept in memory for maps and submissions.
  upload_s: float = 1800.0
  uploads: int = 200
  uploads_bytes: int = 1 << 30

  session_s: float = 12 * 3600.0
  guests: bool = True  # may predict without a login
  heat_map: str = 'hirescam'  # a method of rsna_jax/explain.py
  reload_s: float = 5.0  # between looks for a promoted model


_FROM_COMMAND = ('store', 'database', 'host', 'port')


def parse(store: str, pairs: Sequence[str], **given: Any) -> Settings:
  """Settings from NAME=VALUE pairs of the command line.

  Args:
    store: the folder.
    pairs: as in 'queue=64'.
    given: options that have a flag of their own; None: the default.

  Raises:
    errors.ConfigError: an unknown name, or a value that its field cannot have.
  """
  fields = {field.name: field for field in dataclasses.fields(Settings)}
  values = {k: v for k, v in given.items() if v is not None}
  for pair in pairs:
    name, equals, text = pair.partition('=')
    if not equals or name not in fields or name in _FROM_COMMAND:
      known = ', '.join(sorted(fields.keys() - set(_FROM_COMMAND)))
      raise errors.ConfigError(
        f'--set {pair}: give NAME=VALUE, where NAME is one of {known}'
      )
    values[name] = _value(pair, fields[name].default, text)
  return Settings(store=pathlib.Path(store), **values)


def _value(pair: str, default: Any, text: str) -> Any:
  try:
    if isinstance(default, bool):
      return {'true': True, 'false': False}[text.lower()]
    if isinstance(default, tuple):
      return tuple(part.strip() for part in text.split(',') if part.strip())
    value = type(default)(text)
  except (ValueError, KeyError) as error:
    kind = {bool: 'true or false'}.get(
      type(default), f'a value such as {default}'
    )
    raise errors.ConfigError(f'--set {pair}: give {kind}') from error
  if isinstance(value, int | float) and not 0 <= value < float('inf'):
    raise errors.ConfigError(f'--set {pair}: not negative, and finite')
  return value
