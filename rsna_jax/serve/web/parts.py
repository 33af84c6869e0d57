"""The parts of a running server, made in their order and ended in reverse."""

import asyncio
import ctypes
import dataclasses
import logging
import pathlib
import threading
import time

from starlette import requests

from rsna_jax import errors
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import engine, workers
from rsna_jax.serve.intake import intake
from rsna_jax.serve.store import blobs, database, versions
from rsna_jax.serve.web import (
  desk,
  observe,
  people,
  retraining,
  service,
  startup,
)

_LOG = logging.getLogger('rsna_jax.serve')
_SWEEP_S = 3600
_TRIM_S = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
  """All of them; `app.state.parts` and, in a route, `parts.of(request)`."""

  settings: settings_lib.Settings
  db: database.Database
  blobs: blobs.Blobs
  models: versions.Models
  engine: engine.Engine
  intake: intake.Intake
  workers: workers.Workers
  figures: observe.Figures
  service: service.Service
  people: people.People
  desk: desk.Desk
  retraining: retraining.Retraining

  def start(self) -> None:
    """Starts what works beside the event loop; returns at once."""
    self.engine.start()
    self.workers.decode(self.intake.start)
    threading.Thread(target=self._index, name='index', daemon=True).start()

  def _index(self) -> None:
    startup.index(self.db, self.settings.store, self.retraining.workdir)
    self.desk.load_frozen()

  def stop(self) -> None:
    """Ends them; what is under way is answered first."""
    self.retraining.stop()
    self.engine.stop()
    self.intake.close()
    self.workers.stop()
    self.db.close()

  async def follow(self) -> None:
    """Takes up promoted models for ever, and forgets old uploads."""
    refused, swept = None, time.monotonic()
    trimmed = swept
    while True:
      await asyncio.sleep(self.settings.reload_s)
      try:
        self.service.uploads.expire()
        if time.monotonic() - trimmed > _TRIM_S:
          trimmed = time.monotonic()
          await asyncio.to_thread(_trim)
        refused = await self._take_up(refused)
        if time.monotonic() - swept > _SWEEP_S:
          swept = time.monotonic()
          await self.workers.store(startup.sweep, self.db, self.blobs)
      except Exception as error:  # the next look may go better
        observe.fault('follow', error)

  async def _take_up(self, refused: int | None) -> int | None:
    """Takes a promoted model up.

    Args:
      refused: the number of one that cannot be.

    Returns:
      Likewise; it is tried again when another has been promoted since.
    """
    if not self.engine.ready:
      return refused
    found = await self.workers.store(self.models.serving)
    if found is None or found.number == self.engine.current.number:
      return None
    if found.number == refused:
      return refused
    try:
      await asyncio.to_thread(self.engine.swap, found.number, found.folder)
    except errors.InputError as error:
      _LOG.error('model %d cannot be taken up: %s', found.number, error)
      return found.number
    except Exception as error:
      observe.fault(f'model {found.number}', error)
      return found.number
    _LOG.info('model %d answers from now on', found.number)
    return None


def _trim() -> None:
  """Gives freed memory back to the system, where the C library knows how.

  Each thread frees into a pool of its own, in which uploads that are kept lie
  between those that are not.
  """
  trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
  if trim is not None:
    trim(0)


def make(
  settings: settings_lib.Settings, workdir: pathlib.Path | None
) -> Parts:
  """Opens the store, and loads the model that serves.

  Args:
    settings: of the server.
    workdir: the run that a new store starts with; None: the store has one.

  Raises:
    errors.InputError: the store or the run is not usable.
  """
  db = database.Database(settings.database, settings.store)
  db.migrate()
  models = versions.Models(db, settings.store)
  if workdir is not None:
    models.register_first(workdir)
  serving = models.serving()
  if serving is None:
    raise errors.RunError(
      f'{settings.store}: no model in it yet; name a run with --workdir'
    )
  pool = workers.Workers(settings)
  pictures = blobs.Blobs(settings.store / 'blobs')
  startup.clear(db, pictures)
  machine = engine.Engine(settings)
  machine.load(serving.number, serving.folder)
  reader = intake.Intake(settings)
  figures = observe.Figures()
  answering = service.Service(settings, machine, reader, pool, figures)
  return Parts(
    settings=settings,
    db=db,
    blobs=pictures,
    models=models,
    engine=machine,
    intake=reader,
    workers=pool,
    figures=figures,
    service=answering,
    people=people.People(settings, db, pool),
    desk=desk.Desk(settings, db, pictures, models, answering.uploads, pool),
    retraining=retraining.Retraining(settings, db, workdir),
  )


def of(request: requests.Request) -> Parts:
  """The parts of the server that a request has reached."""
  return request.app.state.parts
