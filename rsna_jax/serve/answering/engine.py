"""The models of the server: loaded once, asked in batches, exchanged at work.

One thread computes, so the event loop stays free and requests that arrive
together share a batch. A second thread explains, and a third one loads and
compiles what was promoted, beside the model that answers meanwhile.
"""

import collections
import concurrent.futures
import dataclasses
import logging
import pathlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rsna_jax import errors, explain, inference
from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import loaded as loaded_lib

LoadedModel = loaded_lib.LoadedModel
_LOG = logging.getLogger('rsna_jax.serve')
_FIRST_GUESS_S = 0.2  # an image takes, before any was measured
_STOPPED = 'the server is stopping; ask again in a minute'


@dataclasses.dataclass(eq=False)
class _Item:
  loaded: LoadedModel
  prepared: list[inference.Prepared]
  future: concurrent.futures.Future


class Engine:
  """Answers by the model that serves.

  Attributes:
    fault: why it could not start, or None.
  """

  def __init__(self, settings: settings_lib.Settings):
    self._settings = settings
    self._current: LoadedModel | None = None
    self._previous: LoadedModel | None = None
    self._ready = False
    self.fault: str | None = None
    self._waiting: collections.deque[_Item] = collections.deque()
    self._images = 0  # that wait or are computed
    self._changed = threading.Condition()
    self._stopping = False
    self._image_s = _FIRST_GUESS_S
    self._thread: threading.Thread | None = None
    self._swapping = threading.Lock()
    self._explainer = concurrent.futures.ThreadPoolExecutor(1, 'explain')
    self._explaining = 0

  @property
  def ready(self) -> bool:
    """Whether a model is loaded and compiled."""
    return self._ready and not self._stopping

  @property
  def current(self) -> LoadedModel:
    """The model that answers.

    Raises:
      problems.Problem: E_STARTING, none is ready yet.
    """
    if not self.ready or self._current is None:
      raise problems.Problem(
        'E_STARTING', self.fault or 'The model is being made ready.', 5
      )
    return self._current

  def check_ready(self) -> None:
    """Raises E_STARTING unless a model is ready."""
    _ = self.current

  @property
  def waiting(self) -> int:
    """Images that wait or are computed."""
    return self._images

  @property
  def image_s(self) -> float:
    """Seconds of the model for an image, lately."""
    return self._image_s

  def load(self, number: int, folder: pathlib.Path) -> None:
    """Loads the first model; `start` compiles it.

    Raises:
      errors.InputError: it is no usable run.
    """
    self._current = loaded_lib.load(number, folder)

  def start(self) -> None:
    """Compiles in a thread of its own, and then answers."""
    self._thread = threading.Thread(target=self._run, name='engine')
    self._thread.daemon = True
    self._thread.start()

  def stop(self) -> None:
    """Answers what is under way, and then no more."""
    with self._changed:
      self._stopping = True
      self._changed.notify_all()
    if self._thread is not None:
      self._thread.join(self._settings.answer_s)
    self._explainer.shutdown(wait=False, cancel_futures=True)

  def swap(self, number: int, folder: pathlib.Path) -> None:
    """Loads and compiles another model, and then lets it answer.

    Requests under way are answered by the model that they began with.

    Raises:
      errors.InputError: it is no usable run; the old one goes on answering.
    """
    with self._swapping:
      made = loaded_lib.load(number, folder)
      made.compile(self._settings.batch)
      self._previous, self._current = self._current, made

  def by_number(self, number: int) -> LoadedModel:
    """The model of a number, if it answers or did so until the last exchange.

    Raises:
      problems.Problem: it is gone.
    """
    for one in (self._current, self._previous):
      if one is not None and one.number == number:
        return one
    raise problems.Problem(
      'E_NOT_FOUND',
      f'Model {number}, which answered this image, has been replaced since; '
      'upload the image again.',
    )

  def predict(
    self,
    prepared: Sequence[inference.Prepared],
    loaded: LoadedModel | None = None,
  ) -> concurrent.futures.Future:
    """Queues the images of one request.

    Args:
      prepared: as the specs of `loaded` have them.
      loaded: the model that is to answer; None: the one that serves now.

    Returns:
      A future of (LoadedModel, list of inference.Prediction). It may be
      cancelled as long as it waits.

    Raises:
      problems.Problem: E_BUSY, the queue is full; E_STARTING.
    """
    item = _Item(
      loaded or self.current, list(prepared), concurrent.futures.Future()
    )
    with self._changed:
      if self._stopping:
        raise problems.Problem('E_STARTING', _STOPPED.capitalize() + '.', 60)
      if self._images + len(item.prepared) > self._settings.queue:
        raise self.busy()
      self._images += len(item.prepared)
      self._waiting.append(item)
      self._changed.notify()
    return item.future

  def busy(self) -> problems.Problem:
    """What is said where the queue is full."""
    return problems.Problem(
      'E_BUSY',
      f'{self._settings.queue} images are waiting already; try again in a '
      'moment.',
      max(1.0, self._images * self._image_s),
    )

  def explain(
    self,
    loaded: LoadedModel,
    name: str,
    found: Mapping[str, Any],
    method: str,
    target: str | None = None,
  ) -> concurrent.futures.Future:
    """Queues an explanation; its program is compiled the first time.

    Args:
      loaded: the model that answered.
      name: of the image.
      found: as `explain.explain_decoded` takes it.
      method: of `explain.METHODS`.
      target: a class; None: cancer, or the most probable one.

    Returns:
      A future of `explain.Explanation`.

    Raises:
      problems.Problem: E_BUSY, E_FIELD, or E_UNUSABLE for a model that cannot
        be explained.
    """
    try:
      loaded.model.network()
    except errors.RunError as error:
      raise problems.Problem(
        'E_UNUSABLE',
        'This model is several networks together and has no heat map.',
      ) from error
    try:
      explain.check(loaded.model, method, target)
    except errors.InputError as error:
      raise problems.Problem('E_FIELD', f'{error}.') from error
    with self._changed:
      if self._stopping or self._explaining >= self._settings.queue:
        raise self.busy()
      self._explaining += 1
    try:
      future = self._explainer.submit(
        explain.explain_decoded, loaded.model, name, found, method, target
      )
    except RuntimeError as error:  # it was shut down meanwhile
      raise self.busy() from error
    future.add_done_callback(self._explained)
    return future

  def _explained(self, _) -> None:
    with self._changed:
      self._explaining -= 1

  def _run(self) -> None:
    try:
      self._current.compile(self._settings.batch)
    except Exception:
      _LOG.exception('the model cannot be compiled')
      self.fault = 'The model could not be made ready; see the log.'
      return
    self._ready = True
    while True:
      batch = self._next_batch()
      if not batch:
        return
      self._answer(batch)

  def _next_batch(self) -> list[_Item]:
    """Requests that wait for the same model; empty when stopped."""
    with self._changed:
      while not self._waiting:
        if self._stopping:
          return []
        self._changed.wait()
      end = time.monotonic() + self._settings.batch_wait_s
      while sum(len(item.prepared) for item in self._waiting) < (
        self._settings.batch
      ):
        left = end - time.monotonic()
        if left <= 0 or self._stopping or not self._changed.wait(left):
          break
      batch, n = [], 0
      while self._waiting:
        item = self._waiting[0]
        n += len(item.prepared)
        if batch and (
          n > self._settings.batch or item.loaded is not batch[0].loaded
        ):
          break
        batch.append(self._waiting.popleft())
      return batch

  def _answer(self, batch: list[_Item]) -> None:
    wanted = [one for one in batch if one.future.set_running_or_notify_cancel()]
    try:
      if wanted:
        self._compute(wanted)
    finally:
      with self._changed:
        self._images -= sum(len(item.prepared) for item in batch)

  def _compute(self, items: list[_Item]) -> None:
    loaded = items[0].loaded
    every = [one for item in items for one in item.prepared]
    start = time.monotonic()
    try:
      said = loaded.model.predict_prepared(every)
    except Exception as error:
      if len(items) == 1:
        items[0].future.set_exception(error)
        return
      for item in items:  # so that one bad request costs itself alone
        self._compute([item])
      return
    each = (time.monotonic() - start) / max(1, len(every))
    self._image_s += 0.2 * (each - self._image_s)
    for item in items:
      item.future.set_result((loaded, said[: len(item.prepared)]))
      said = said[len(item.prepared) :]
