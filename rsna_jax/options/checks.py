"""Collects what is wrong with the values of a config."""

import math
from collections.abc import Iterable
from typing import Any

import ml_collections

# More images of a breast than any exam has; empty slots cost as much as images.
MOST_VIEWS = 64


class Checks:
  """The errors of a config, each with the field, its value and the remedy.

  Attributes:
    config: that is checked.
    found: one text for each error.
  """

  def __init__(self, config: ml_collections.ConfigDict):
    self.config = config
    self.found: list[str] = []

  def value(self, field: str) -> Any:
    """The value of a field, `group.name`."""
    value = self.config
    for part in field.split('.'):
      value = value[part]
    return value

  def that(self, field: str, ok: bool, remedy: str) -> None:
    """Notes an error of `field` unless `ok`."""
    if not ok:
      self.found.append(f'{field}={self.value(field)!r}: {remedy}')

  def one_of(self, field: str, choices: Iterable) -> None:
    """The value is one of the choices."""
    choices = tuple(choices)
    self.that(
      field,
      self.value(field) in choices,
      'choose ' + ', '.join(map(str, choices)),
    )

  def each_of(self, field: str, choices: Iterable[str]) -> None:
    """The value is a tuple of different choices."""
    choices, value = tuple(choices), self.value(field)
    self.that(
      field,
      set(value) <= set(choices) and len(set(value)) == len(value),
      'name each once, from ' + ', '.join(choices),
    )

  def at_least_one(self, *fields: str) -> None:
    """The values are 1 or more."""
    for field in fields:
      self.that(field, self.value(field) >= 1, 'at least 1')

  def views(self, field: str) -> None:
    """The value is a number of images of a breast; each takes memory."""
    ok = 1 <= self.value(field) <= MOST_VIEWS
    self.that(field, ok, f'from 1 to {MOST_VIEWS}')

  def share(self, *fields: str) -> None:
    """The values are from 0 to 1."""
    for field in fields:
      self.that(field, 0 <= self.value(field) <= 1, 'from 0 to 1')

  def rate(self, *fields: str) -> None:
    """The values are from 0 to below 1."""
    for field in fields:
      self.that(field, 0 <= self.value(field) < 1, 'from 0 to below 1')

  def not_negative(self, *fields: str) -> None:
    """The values are finite and 0 or more."""
    for field in fields:
      ok = 0 <= self.value(field) < math.inf
      self.that(field, ok, 'not negative, and finite')

  def positive(self, *fields: str) -> None:
    """The values are finite and above 0."""
    for field in fields:
      ok = 0 < self.value(field) < math.inf
      self.that(field, ok, 'more than 0, and finite')
