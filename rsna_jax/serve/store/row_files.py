"""Rows of the tables as files of JSON lines, in whichever database they are."""

import json
import pathlib
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax import errors
from rsna_jax.serve.store import tables

# Of people who are logged in; a copy of the store is no way in.
_LEFT_OUT = ('sessions',)
_BATCH = 500


def names() -> list[str]:
  """Tables that travel, those first that others refer to."""
  return [
    table.name
    for table in tables.Base.metadata.sorted_tables
    if table.name not in _LEFT_OUT
  ]


def write(session: orm.Session, folder: pathlib.Path) -> dict[str, int]:
  """Writes `<table>.jsonl` of each table; returns the numbers of rows."""
  counts = {}
  for name in names():
    table = tables.Base.metadata.tables[name]
    rows = session.execute(
      sa.select(table)
      .order_by(*table.primary_key.columns)
      .execution_options(yield_per=_BATCH)
    )
    counts[name] = 0
    with (folder / f'{name}.jsonl').open('w', encoding='utf-8') as file:
      for row in rows.mappings():
        file.write(json.dumps(dict(row), allow_nan=False) + '\n')
        counts[name] += 1
  return counts


def is_empty(session: orm.Session) -> bool:
  """Whether there is no row in any table."""
  return not any(
    session.execute(sa.select(table).limit(1)).first()
    for table in tables.Base.metadata.sorted_tables
  )


def read(session: orm.Session, folder: pathlib.Path) -> None:
  """Puts the rows of files that `write` has made into empty tables.

  Raises:
    errors.DataError: a line is not a row of its table.
  """
  connection = session.connection()
  found = sa.MetaData()
  found.reflect(connection)  # as the backup's revision has them
  for name in names():
    path = folder / f'{name}.jsonl'
    if path.is_file() and name in found.tables:
      _fill(connection, found.tables[name], path)
  if connection.dialect.name == 'postgresql':
    for name in names():
      _set_sequence(connection, found.tables[name])


def _fill(
  connection: sa.Connection, table: sa.Table, path: pathlib.Path
) -> None:
  # A row may refer to a later one of its own table.
  own = [
    key.parent.name for key in table.foreign_keys if key.column.table is table
  ]
  later, batch = [], []
  keys = [column.name for column in table.primary_key.columns]
  try:
    with path.open(encoding='utf-8') as file:
      for line in file:
        row = _row(json.loads(line), table)
        links = {name: row[name] for name in own if row.get(name) is not None}
        if links:
          later.append(({key: row[key] for key in keys}, links))
          row |= dict.fromkeys(links)
        batch.append(row)
        if len(batch) == _BATCH:
          connection.execute(table.insert(), batch)
          batch = []
    if batch:
      connection.execute(table.insert(), batch)
    for key, links in later:
      where = [table.c[name] == value for name, value in key.items()]
      connection.execute(table.update().where(*where).values(links))
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise errors.DataError(
      f'{path.name}: a line is no row of {table.name}'
    ) from error
  except sa.exc.DBAPIError as error:
    if isinstance(error, sa.exc.OperationalError):
      raise  # a full disk, a lost connection
    raise errors.DataError(
      f'{path.name}: {table.name} does not take a row of it'
    ) from error


def _row(row: Any, table: sa.Table) -> dict[str, Any]:
  if not isinstance(row, dict) or set(row) != set(table.columns.keys()):
    raise ValueError('other columns')
  for name, value in row.items():
    # SQLite would keep a list as text.
    if isinstance(value, list | dict) and not isinstance(
      table.c[name].type, sa.JSON
    ):
      raise ValueError('a list in a column')
  return row


def _set_sequence(connection: sa.Connection, table: sa.Table) -> None:
  """Lets the next number follow the last one that was restored."""
  column = next(iter(table.primary_key.columns))
  if not isinstance(column.type, sa.Integer):
    return
  sequence = connection.scalar(
    sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))
  )
  last = connection.scalar(sa.select(sa.func.max(column)))
  if sequence and last:
    connection.execute(sa.select(sa.func.setval(sequence, last)))
