"""Uploads that were answered, kept in memory for a while: never on disk.

They are what heat maps, windows and submissions are made of. An id is a long
random number, and of use to the one who uploaded alone.
"""

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from rsna_jax import inference
from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.intake import intake

_SHARE = 8  # of the room, at most one of so many belongs to one owner
_FEWEST = 16  # which everyone may keep


@dataclasses.dataclass(kw_only=True, eq=False)
class Kept:
  """An upload that was answered.

  Attributes:
    id: opaque.
    owner: who may use it: 'user:<id>' or 'guest:<random>'.
    upload: what the intake made of the file.
    prepared: what the model was asked, metadata that was given included.
    prediction: what it said.
    model: its number.
    answer: of the image, as `answers.image_answer` gives it.
    at: seconds of the monotonic clock when it was put here.
    made: what was computed of it since, by name.
    made_bytes: memory of that, as `Uploads.grow` was told.
  """

  id: str
  owner: str
  upload: intake.Upload
  prepared: inference.Prepared
  prediction: inference.Prediction
  model: int
  answer: dict[str, Any] = dataclasses.field(default_factory=dict)
  at: float = 0.0
  made: dict[Any, Any] = dataclasses.field(default_factory=dict)
  made_bytes: int = 0

  @property
  def bytes(self) -> int:
    """Memory of its pictures."""
    pictures = [self.upload.picture, *self.upload.pixels]
    total = self.made_bytes + sum(one.nbytes for one in pictures)
    if self.upload.kept is not None:
      total += len(self.upload.kept.png)
    return total


def new_id() -> str:
  """An id that cannot be guessed."""
  return secrets.token_urlsafe(24)


class Uploads:
  """Bounded in time, number and bytes; safe to use from several threads."""

  def __init__(
    self,
    settings: settings_lib.Settings,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._settings = settings
    self._clock = clock
    self._lock = threading.Lock()
    self._kept: dict[str, Kept] = {}  # oldest first
    self._bytes = 0

  def __len__(self) -> int:
    return len(self._kept)

  @property
  def bytes(self) -> int:
    """Memory of all pictures."""
    return self._bytes

  def add(self, kept: Kept) -> None:
    """Keeps one; the oldest go where there is no room."""
    with self._lock:
      kept.at = self._clock()
      self._kept[kept.id] = kept
      self._bytes += kept.bytes
      self._expire()
      own = [one for one in self._kept.values() if one.owner == kept.owner]
      most = max(_FEWEST, self._settings.uploads // _SHARE)
      for one in own[: max(0, len(own) - most)]:
        self._drop(one)
      self._make_room()

  def grow(self, kept: Kept, n: int) -> None:
    """Counts what was made of an upload, and is kept with it."""
    with self._lock:
      if kept.id in self._kept:
        kept.made_bytes += n
        self._bytes += n
        self._make_room()

  def get(self, id: str, owner: str | None) -> Kept:
    """The upload of an id.

    Raises:
      problems.Problem: E_NOT_FOUND; it is another's, gone, or never was.
    """
    with self._lock:
      self._expire()
      kept = self._kept.get(id)
      if kept is None or owner is None or kept.owner != owner:
        raise problems.Problem(
          'E_NOT_FOUND',
          'No such upload is kept for you; upload the image again.',
        )
      return kept

  def drop(self, id: str) -> None:
    """Forgets one, if it is there."""
    with self._lock:
      if id in self._kept:
        self._drop(self._kept[id])

  def expire(self) -> None:
    """Forgets what is too old."""
    with self._lock:
      self._expire()

  def _expire(self) -> None:
    oldest = self._clock() - self._settings.upload_s
    for one in list(self._kept.values()):
      if one.at >= oldest:
        break
      self._drop(one)

  def _make_room(self) -> None:
    while len(self._kept) > 1 and (
      len(self._kept) > self._settings.uploads
      or self._bytes > self._settings.uploads_bytes
    ):
      self._drop(next(iter(self._kept.values())))

  def _drop(self, kept: Kept) -> None:
    del self._kept[kept.id]
    self._bytes -= kept.bytes
