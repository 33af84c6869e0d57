"""What the server does with images: the page and the JSON interface ask it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from rsna_jax import errors, explain, inference
from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import answers, loaded, pictures_out, uploads
from rsna_jax.serve.answering import engine as engine_lib
from rsna_jax.serve.answering import workers as workers_lib
from rsna_jax.serve.intake import intake
from rsna_jax.serve.web import forms, limits, observe, people

_LATE = 'There was no answer within {:g} s; try again in a moment.'


class Service:
  """Answers, explains and shows images.

  Attributes:
    settings: of the server.
    engine: whose model answers.
    uploads: what was answered lately.
    figures: of /metrics.
  """

  def __init__(
    self,
    settings: settings_lib.Settings,
    engine: engine_lib.Engine,
    read: intake.Intake,
    workers: workers_lib.Workers,
    figures: observe.Figures,
  ):
    self.settings = settings
    self.engine = engine
    self.uploads = uploads.Uploads(settings)
    self.figures = figures
    self._intake = read
    self._workers = workers
    self._rate = limits.Buckets(settings.uploads_per_minute)
    self._reading = 0
    for name, what, value in (
      ('rsna_queue', 'Images that are read or computed.', self.under_way),
      ('rsna_uploads', 'Uploads kept in memory.', lambda: len(self.uploads)),
      ('rsna_uploads_bytes', 'Their memory.', lambda: self.uploads.bytes),
      ('rsna_model_seconds', 'Of an image, lately.', lambda: engine.image_s),
      ('rsna_ready', '1 where a model is ready.', lambda: int(engine.ready)),
    ):
      figures.gauge(name, what, value)

  def under_way(self) -> int:
    """Images that are read or computed."""
    return self._reading + self.engine.waiting

  async def predict(
    self,
    files: Sequence[forms.File],
    known: Sequence[dict[str, Any]],
    visitor: people.Visitor,
    request_id: str,
  ) -> dict[str, Any]:
    """Answers the images of one woman.

    Args:
      files: at least one.
      known: of each file what is said of it, as `known.of_files` has it; it
        goes before what the file says.
      visitor: as `People.uploader` gives them.
      request_id: for the answer.

    Returns:
      What `answers.answer` gives.

    Raises:
      problems.Problem: why there is none.
    """
    current = self.engine.current
    if not files:
      raise problems.Problem(
        'E_FIELD', 'file: choose an image: DICOM, PNG, JPEG or PGM.'
      )
    self._rate.take(visitor.client, len(files))
    if self.under_way() + len(files) > self.settings.queue:
      raise self.engine.busy()
    try:
      async with asyncio.timeout(self.settings.answer_s):
        return await self._predict(current, files, known, visitor, request_id)
    except TimeoutError:
      raise problems.Problem(
        'E_BUSY', _LATE.format(self.settings.answer_s), 5
      ) from None
    except errors.InputError as error:
      if isinstance(error, problems.Problem):
        raise
      raise problems.Problem('E_FIELD', 'A value is not usable.') from error

  async def _predict(self, current, files, known, visitor, request_id):
    start = time.monotonic()
    keep = visitor.user is not None
    found = await asyncio.gather(
      *(
        self._read(current, file, keep, i if len(files) > 1 else None)
        for i, file in enumerate(files)
      )
    )
    self.figures.stages.labels('read').observe(time.monotonic() - start)
    start = time.monotonic()
    prepared = [
      inference.Prepared(
        one.name,
        one.pixels[0],
        one.box,
        {**one.attributes, **said},
        tuple(one.pixels[1:]),
        exam=request_id,
      )
      for one, said in zip(found, known, strict=True)
    ]
    current, predictions = await asyncio.wrap_future(
      self.engine.predict(prepared, current)
    )
    self.figures.stages.labels('model').observe(time.monotonic() - start)
    self.figures.images.inc(len(found))
    kept = [
      uploads.Kept(
        id=uploads.new_id(),
        owner=visitor.owner,
        upload=one,
        prepared=ready,
        prediction=said,
        model=current.number,
      )
      for one, ready, said in zip(found, prepared, predictions, strict=True)
    ]
    answer = answers.answer(
      current,
      [
        answers.Asked(
          id=one.id,
          name=one.upload.name,
          attributes=one.prepared.attributes,
          warnings=one.upload.warnings,
          prediction=one.prediction,
        )
        for one in kept
      ],
      request_id,
    )
    for one, said in zip(kept, answer['images'], strict=True):
      one.answer = said
      self.uploads.add(one)
    return answer

  async def _read(
    self,
    current: loaded.LoadedModel,
    file: forms.File,
    keep: bool,
    number: int | None,
  ) -> intake.Upload:
    """Takes one file in; its problem says which of several it is."""
    specs = [spec.to_json() for spec in current.specs]
    future = self._workers.decode(
      self._intake.read, file.data, file.filename, specs, keep
    )
    self._reading += 1
    loop = asyncio.get_running_loop()
    # A thread that has begun goes on when nobody waits any more.
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
    try:
      return await asyncio.wrap_future(future)
    except problems.Problem as problem:
      if number is None:
        raise
      raise problems.Problem(
        problem.code,
        f'Image {number + 1}: {problem.message}',
        problem.retry_after_s,
      ) from problem

  def _done(self) -> None:
    self._reading -= 1

  async def explain(
    self, id: str, visitor: people.Visitor, target: str | None = None
  ) -> dict[str, Any]:
    """Where in an image the answer comes from; the map itself is `heat`.

    Raises:
      problems.Problem: E_NOT_FOUND, E_FIELD, E_UNUSABLE, E_BUSY.
    """
    said, _ = await self._explained(id, visitor, target)
    return said

  async def heat(
    self, id: str, visitor: people.Visitor, target: str | None = None
  ) -> bytes:
    """The map as a PNG with transparency, as large as the picture."""
    _, png = await self._explained(id, visitor, target)
    return png

  async def _explained(self, id, visitor, target):
    kept = self.uploads.get(id, visitor.owner)
    key = 'explanation', target
    task = kept.made.get(key)
    if task is None:
      # One computation, however many ask, and although one may leave.
      task = asyncio.ensure_future(self._explanation(kept, target))
      kept.made[key] = task
      task.add_done_callback(lambda done: _forget_failure(kept, key, done))
    try:
      async with asyncio.timeout(self.settings.answer_s):
        return await asyncio.shield(task)
    except TimeoutError:
      raise problems.Problem(
        'E_BUSY', _LATE.format(self.settings.answer_s), 5
      ) from None

  async def _explanation(self, kept: uploads.Kept, target: str | None):
    start = time.monotonic()
    upload = kept.upload
    found = await asyncio.wrap_future(
      self.engine.explain(
        self.engine.by_number(kept.model),
        upload.name,
        {
          'pixels': kept.prepared.pixels,
          'box': upload.box,
          'attributes': kept.prepared.attributes,
          'to_original': upload.to_original,
          'original_shape': upload.original_shape,
          'picture': None,
        },
        self.settings.heat_map,
        target,
      )
    )
    png = await self._workers.picture(_heat, found, upload.picture.shape)
    self.uploads.grow(kept, len(png))
    self.figures.stages.labels('explain').observe(time.monotonic() - start)
    said = found.to_json()
    del said['file'], said['to_original']
    return {
      'notice': settings_lib.NOTICE,
      'id': kept.id,
      'model': kept.model,
      **said,
      'heat': f'/api/v1/uploads/{kept.id}/heat.png',
    }, png

  async def picture(self, id: str, visitor: people.Visitor) -> bytes:
    """The whole original as it was uploaded, a PNG."""
    kept = self.uploads.get(id, visitor.owner)
    return await self._workers.picture(pictures_out.grey, kept.upload.picture)

  async def standard(self, id: str, visitor: people.Visitor) -> bytes:
    """What the model saw, a PNG."""
    kept = self.uploads.get(id, visitor.owner)
    return await self._workers.picture(pictures_out.grey, kept.upload.pixels[0])

  async def window(
    self, id: str, visitor: people.Visitor, center: float, width: float
  ) -> bytes:
    """The original with a window laid on it, a PNG."""
    kept = self.uploads.get(id, visitor.owner)
    return await self._workers.picture(
      pictures_out.windowed, kept.upload.picture, center, width
    )


def _heat(found: explain.Explanation, shape: tuple[int, int]) -> bytes:
  return pictures_out.heat(found.on_original(shape))


def _forget_failure(kept: uploads.Kept, key, task: asyncio.Task) -> None:
  if task.cancelled() or task.exception() is not None:
    kept.made.pop(key, None)
