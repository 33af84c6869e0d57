"""From the bytes of an upload to what the model, the page and the store need.

The server looks at the first bytes alone; a child process with limits decodes
the rest, and answers in plain values. Nothing is written to disk.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsna_jax.data import sandbox
from rsna_jax.serve import problems, settings
from rsna_jax.serve.intake import sniff
from rsna_jax.serve.store import near, submissions

_WORKER = 'rsna_jax.serve.intake.intake_worker:read'
# To load a compiler takes longer than a child has for a file.
_ENVIRONMENT = {'RSNA_JAX_NUMBA': '0'}
_RETRY_S = 5.0
_LIMITS = {
  'time': 'takes too long',
  'memory': 'takes too much memory',
  'result': 'gives too much',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upload:
  """A mammogram that was taken in.

  Attributes:
    name: of the file, for display alone.
    kind: 'dicom', 'png', 'jpeg' or 'pgm'.
    pixels: (H, W) uint8 or uint16, one for each spec.
    box: top, left, bottom, right of the breast, in original pixels.
    to_original: (2, 3), as in `preprocess.StandardImage`, of the first spec.
    original_shape: rows and columns.
    picture: (h, w) uint8, the whole original for the person who sent it.
    attributes: any of `laterality`, `view`, `age` and `implant`.
    warnings: a sentence each.
    burned_in: whether the file says that text is burned into the picture.
    gate: how much it looks like a mammogram, from 0 to 1.
    kept: what a submission keeps, where it was asked for.
  """

  name: str
  kind: str
  pixels: list[np.ndarray]
  box: tuple[float, float, float, float]
  to_original: np.ndarray
  original_shape: tuple[int, int]
  picture: np.ndarray
  attributes: dict[str, Any]
  warnings: list[str]
  burned_in: bool
  gate: float
  kept: submissions.Kept | None


class Intake:
  """Decodes uploads in child processes; safe to use from several threads."""

  def __init__(self, limits: settings.Settings):
    """Starts no child yet."""
    self._limits = limits
    self._pool = sandbox.Pool(
      _WORKER,
      limits.decoders,
      memory_bytes=limits.decode_bytes,
      time_s=limits.decode_s,
      environment=_ENVIRONMENT,
    )
    self._lock = threading.Lock()
    self._waiting = 0

  def __enter__(self) -> 'Intake':
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def start(self) -> None:
    """Starts the children, so that the first upload does not wait for them."""
    threads = [
      threading.Thread(target=self._pool.call, args=({'start': True},))
      for _ in range(self._pool.workers)
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()

  def close(self) -> None:
    """Ends the children; what is under way is answered with a problem."""
    self._pool.close()

  def read(
    self,
    data: bytes,
    filename: str,
    specs: Sequence[Mapping[str, Any]],
    keep: bool = False,
  ) -> Upload:
    """Takes a file in.

    Args:
      data: all of it.
      filename: as the client gave it; only its suffix counts.
      specs: a `preprocess.Spec.to_json()` for each standard image, at least
        one.
      keep: whether to make what a submission keeps as well.

    Raises:
      problems.Problem: why it is not taken.
    """
    kind = sniff.kind_of(data, self._limits)
    warning = sniff.check_name(filename, kind)
    item = {
      'data': data,
      'kind': kind,
      'specs': [dict(spec) for spec in specs],
      'picture_px': self._limits.picture_px,
      'gate': self._limits.gate,
      'keep': keep,
    }
    found = self._call(item)
    if refused := found.pop('refused', None):
      raise problems.Problem(*refused)
    if warning:
      found['warnings'].insert(0, warning)
    if kept := found.pop('kept'):
      prints = near.Fingerprints(**kept.pop('fingerprints'))
      kept = submissions.Kept(fingerprints=prints, **kept)
    return Upload(
      name=sniff.shown_name(filename), kind=kind, kept=kept or None, **found
    )

  def _call(self, item: dict[str, Any]) -> dict[str, Any]:
    with self._lock:
      if self._waiting >= self._limits.queue + self._limits.decoders:
        raise problems.Problem(
          'E_BUSY', 'Too many files are being read: try again soon.', _RETRY_S
        )
      self._waiting += 1
    try:
      return self._pool.call(item, name='file')
    except sandbox.SandboxError as error:
      if error.about in _LIMITS:
        raise problems.Problem(
          'E_LIMITS',
          f'To read the file {_LIMITS[error.about]}: it is damaged or no '
          'mammogram; export it again.',
        ) from error
      if error.about == 'killed':
        raise problems.Problem(
          'E_BUSY', 'The file could not be read to its end: send it again.', 1
        ) from error
      raise problems.Problem(
        'E_DAMAGED', 'The file cannot be read, it is damaged: export it again.'
      ) from error
    finally:
      with self._lock:
        self._waiting -= 1
