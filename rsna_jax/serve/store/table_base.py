"""What the tables share: a base, how constraints are named, and the time."""

import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm


def now() -> str:
  """The time as it stands in every column: 2026-01-31T12:00:00.000000Z."""
  at = datetime.datetime.now(datetime.UTC)
  return at.strftime('%Y-%m-%dT%H:%M:%S.%fZ')


def among(column: str, values: tuple, optional: bool = False) -> str:
  """SQL: a column has one of some values."""
  listed = ', '.join(repr(value) for value in values)
  empty = f'{column} IS NULL OR ' if optional else ''
  return f'{empty}{column} IN ({listed})'


def check(name: str, sql: str) -> sa.CheckConstraint:
  """A CHECK of a table."""
  return sa.CheckConstraint(sql, name=name)


class Base(orm.DeclarativeBase):
  """The declarative base; its metadata is what the migrations have to make."""

  metadata = sa.MetaData(
    naming_convention={
      'ix': 'ix_%(table_name)s_%(column_0_N_name)s',
      'uq': 'uq_%(table_name)s_%(column_0_N_name)s',
      'ck': 'ck_%(table_name)s_%(constraint_name)s',
      'fk': 'fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s',
      'pk': 'pk_%(table_name)s',
    }
  )
  type_annotation_map = {dict[str, Any]: sa.JSON}  # noqa: RUF012
