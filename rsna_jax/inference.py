"""A trained run as a function: files in, predictions out."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from rsna_jax import errors, evaluate, joining, results, schema, steps, tta
from rsna_jax import run as run_lib
from rsna_jax.data import cells, groups, shown, table
from rsna_jax.models import folding

# Batches are padded to these sizes, so that few programs are compiled.
BATCH_SIZES = (1, 4, 16)
# One cache for all models, so that the folds of an ensemble compile once.
_PREDICT = jax.jit(tta.predict_step, static_argnames=('model', 'names'))
_POOL = jax.jit(joining.pooled_step, static_argnames=('model', 'names'))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
  """What a model says of one image.

  Attributes:
    name: the file's name, or `image <n>` for bytes.
    target: what was predicted; a key of `schema.TARGETS`.
    cancer: probability of cancer; None for a target that does not say.
    probabilities: a name and a probability for each class of the target.
    box: the breast in the original image: top, left, bottom, right; None for a
      model that sees no pixels.
    attributes: laterality, view, age and so on, as far as they are known.
    auxiliary: what is said besides, where the run has `loss.auxiliary`: a
      probability for each class, as `biopsy` or `density_A`, and `age` in
      years. An ensemble says nothing besides.
    breast: L or R, where a model of many views answers for all images of that
      breast together; None where the answer is of this image alone.
  """

  name: str
  target: str
  cancer: float | None
  probabilities: Mapping[str, float]
  box: tuple[float, float, float, float] | None
  attributes: Mapping[str, Any]
  auxiliary: Mapping[str, float] = dataclasses.field(default_factory=dict)
  breast: str | None = None


@dataclasses.dataclass(frozen=True)
class Prepared:
  """An image as the network wants it, with what its file says of itself."""

  name: str
  pixels: np.ndarray | None
  box: tuple[float, float, float, float] | None
  attributes: dict
  # As the further specs of an ensemble want it, in their order.
  others: tuple[np.ndarray, ...] = ()
  # Equal for the images of one person; None: by patient_id, or of nobody else.
  exam: Any = None


def load_model(
  workdir: str | os.PathLike, *, which: str | None = None
) -> 'Model':
  """Loads a run directory, or a folder of several as an ensemble.

  Args:
    workdir: the run directory, what `rsna-jax crossvalidate` wrote, or a folder
      with an ensemble.json; see `ensemble.load`.
    which: the checkpoint: best | latest; None: config.eval.checkpoint.

  Raises:
    errors.RunError: it is not a run, or has no usable checkpoint.
  """
  from rsna_jax import ensemble  # whose models are of this module

  if ensemble.is_ensemble(workdir):
    return ensemble.load(workdir, which=which)
  return Model(run_lib.load(workdir), which)


def prepare(source: str | os.PathLike | bytes, spec, name: str) -> Prepared:
  """Decodes and standardises one file.

  Raises:
    errors.InputError: the file is no usable mammogram.
  """
  if not isinstance(source, bytes) and not os.path.isfile(source):
    raise errors.DataError(f'{name}: no such file')
  if spec is None:
    return Prepared(name, None, None, {})
  found = shown.standard_files((source, [spec.to_json()]))
  return Prepared(name, found['pixels'][0], found['box'], found['attributes'])


class Model:
  """A loaded run. Made by `load_model`.

  Attributes:
    config: of its training.
    spec: how pixels become its input.
    step: of its checkpoint.
  """

  def __init__(self, run: run_lib.Run, which: str | None):
    self.config = run.config.copy_and_resolve_references()
    # One image needs one device, whatever the training had.
    self.config.parallel.mode = 'jit'
    self.spec = run.spec
    self.encoder = run.encoder
    model = evaluate.create_model(self.config)
    one = dataclasses.replace(run, config=self.config)
    self._state, self.step = evaluate.restore(one, which)
    self._fold(model)
    self._model = model
    step = _POOL if self.joins else _PREDICT
    views = tuple(self.config.eval.tta)
    self._predict = functools.partial(step, model=model, names=views)
    self._head = joining.head(self._state) if self.joins else {}

  @property
  def joins(self) -> bool:
    """Whether it answers for a breast by all of its images."""
    return self.config.data.group != 'image'

  @property
  def specs(self) -> tuple:
    """The different specs of the pixels that it wants; an ensemble has more."""
    return () if self.spec is None else (self.spec,)

  def prepare(self, source: str | os.PathLike | bytes, name: str) -> Prepared:
    """Decodes and standardises one file, as `prepare`."""
    return prepare(source, self.spec, name)

  def _fold(self, model: nn.Module) -> None:
    """Leaves of the state what predicts, in as few operations as it can."""
    if self.spec is None or self.config.train.dtype != 'float32':
      return
    folded = folding.fold(
      model,
      steps.variables(self._state),
      self.spec.size,
      self.encoder.width,
    )
    self._state = self._state.replace(
      **folded, opt_state=(), ema_params={}, ema_batch_stats={}
    )

  def network(self) -> tuple[nn.Module, dict]:
    """The network that computes in float32, and the variables it predicts by.

    Raises:
      errors.RunError: it sees no pixels, or is more than one network.
    """
    if self.spec is None:
      raise errors.RunError(
        f'model.name={self.config.model.name}: it sees no pixels, so there is '
        'nothing to explain; name the run of a model of images'
      )
    c = self.config.copy_and_resolve_references()
    c.train.dtype = 'float32'
    return evaluate.create_model(c), steps.variables(self._state)

  def predict(
    self,
    sources: Sequence[str | os.PathLike | bytes],
    metadata: Sequence[Mapping[str, Any] | None] | None = None,
  ) -> list[Prediction]:
    """Predicts images.

    To a model of many views the images of one call are of one exam, but those
    whose patients are told: by the metadata, by a DICOM file, or by their
    place, <patient_id>/<image_id>.<suffix>. It joins those of a breast, that is
    of one laterality; an image of unknown laterality stands alone.

    Args:
      sources: paths, or the bytes of files (DICOM, PNG, JPEG, PGM).
      metadata: for each image None or a dict with any of the columns of
        `schema.METADATA_COLUMNS`, and `patient_id`; they go before what the
        file says.

    Returns:
      A prediction for each source, in their order.

    Raises:
      errors.InputError: a file is no usable mammogram, or a value is not one
        that its column may have.
    """
    if metadata is None:
      metadata = [None] * len(sources)
    if len(metadata) != len(sources):
      raise errors.InputError(
        f'metadata: {len(metadata)} entries for {len(sources)} images; give '
        'one for each, None where nothing is known'
      )
    found = []
    for i, (source, extra) in enumerate(zip(sources, metadata, strict=True)):
      name = f'image {i}' if isinstance(source, bytes) else str(source)
      columns = (*schema.METADATA_COLUMNS, 'patient_id')
      unknown = set(extra or {}) - set(columns)
      if unknown:
        raise errors.InputError(
          f'metadata of {name}: {", ".join(sorted(unknown))}: choose from '
          + ', '.join(columns)
        )
      one = self.prepare(source, name)
      one.attributes.update(
        {k: v for k, v in (extra or {}).items() if v is not None}
      )
      of_path = {} if isinstance(source, bytes) else ids_of(source)
      patient = _patient({**of_path, **one.attributes})
      exam = ('call',) if patient is None else ('patient', patient)
      found.append(dataclasses.replace(one, exam=exam))
    return self.predict_prepared(found)

  def predict_prepared(self, found: Sequence[Prepared]) -> list[Prediction]:
    """Predicts images that `prepare` has made."""
    target = self.config.data.target
    outputs = self.outputs(found)
    logits = outputs.pop(target)
    besides = results.auxiliary_values(outputs)
    probabilities = schema.target_probabilities(logits, target)
    cancer = schema.cancer_probability(logits, target)
    names = results.class_names(target)
    return [
      Prediction(
        name=one.name,
        target=target,
        cancer=None if cancer is None else float(cancer[i]),
        probabilities=dict(
          zip(names, map(float, probabilities[i]), strict=True)
        ),
        box=one.box,
        attributes=one.attributes,
        auxiliary={name: float(x[i]) for name, x in besides.items()},
        breast=_breast(one) if self.joins else None,
      )
      for i, one in enumerate(found)
    ]

  def metadata(self, found: Sequence[Prepared]) -> np.ndarray:
    """(N, M) float32 metadata of prepared images.

    Raises:
      errors.InputError: a value is not one that its column may have.
    """
    return self.encoder.encode(_table([one.attributes for one in found]))

  def logits(self, found: Sequence[Prepared]) -> np.ndarray:
    """(N, K) float32 logits of prepared images."""
    return self.outputs(found)[self.config.data.target]

  def outputs(self, found: Sequence[Prepared]) -> dict[str, np.ndarray]:
    """As `logits`, of the main target and of all others: {target: (N, K)}."""
    if not found:
      return {
        name: np.zeros((0, size), np.float32)
        for name, size in self._model.targets
      }
    meta = self.metadata(found)
    if not self.joins:
      return self._outputs(found, meta)
    known = _table([one.attributes for one in found])
    c = self.config
    return joining.outputs(
      self._head,
      self._outputs(found, meta)['pooled'],
      meta,
      groups.Groups(
        exams(found),
        known['laterality'],
        known['view'],
        views=c.eval.views,
        compare=c.data.group == 'exam',
      ),
      model=self._model,
      sizes=BATCH_SIZES,
    )

  def _outputs(
    self, found: Sequence[Prepared], meta: np.ndarray
  ) -> dict[str, np.ndarray]:
    """The outputs of the compiled step for each image, (N, ...) float32."""
    outputs = []
    for start in range(0, len(found), BATCH_SIZES[-1]):
      part = found[start : start + BATCH_SIZES[-1]]
      n = len(part)
      size = next(b for b in BATCH_SIZES if b >= n)
      if self.spec is None:
        pixels = np.zeros((size, 0, 0, 1), np.uint8)
      else:
        pixels = np.zeros((size, *self.spec.size, 1), part[0].pixels.dtype)
        pixels[:n, :, :, 0] = [one.pixels for one in part]
      batch = {
        'image': pixels,
        'meta': np.zeros((size, meta.shape[1]), np.float32),
      }
      batch['meta'][:n] = meta[start : start + n]
      out = self._predict(self._state, batch)
      outputs.append({k: np.asarray(v, np.float32)[:n] for k, v in out.items()})
    return {
      name: np.concatenate([part[name] for part in outputs])
      for name in outputs[0]
    }


def exams(found: Sequence[Prepared]) -> np.ndarray:
  """(N,) int64, equal for images of one person; -1 for those of nobody else."""
  numbers, exam = {}, []
  for one in found:
    key = one.exam
    if key is None and _patient(one.attributes) is not None:
      key = 'patient', _patient(one.attributes)
    exam.append(-1 if key is None else numbers.setdefault(key, len(numbers)))
  return np.array(exam, np.int64)


def _patient(attributes: Mapping[str, Any]) -> str | None:
  """The patient's id as text; None where it is not known."""
  found = attributes.get('patient_id')
  return None if found in (None, '', schema.MISSING) else str(found)


def _breast(one: Prepared) -> str | None:
  side = one.attributes.get('laterality')
  return side if side in schema.LATERALITIES else None


def ids_of(file: str | os.PathLike) -> dict[str, int]:
  """Patient and image of a path <patient_id>/<image_id>.<suffix>, or {}."""
  file = pathlib.Path(file)
  if file.parent.name.isdecimal() and file.stem.isdecimal():
    patient, name = int(file.parent.name), int(file.stem)
    if max(patient, name) <= 2**31:
      return {'patient_id': patient, 'image_id': name}
  return {}


def _table(attributes: Sequence[Mapping[str, Any]]) -> table.Table:
  """Attributes as rows; what is not known is missing.

  Raises:
    errors.InputError: a value is not one that its column may have.
  """
  columns = {}
  for name in schema.METADATA_COLUMNS:
    values = []
    for one in attributes:
      value = one.get(name)
      # A number may stand in the text of a column, as a text may in a number.
      text = '' if value is None else str(value)
      if value == schema.MISSING:
        text = ''
      try:
        values.append(cells.parse(name, text) if text else cells.missing(name))
      except cells.CellError as error:
        raise errors.InputError(
          f'metadata: {name}={value!r}: {error}'
        ) from error
    columns[name] = values
  columns['image_id'] = np.zeros(len(attributes), np.int64)
  return table.Table.from_columns(columns)


def find_files(path: str | os.PathLike) -> list[pathlib.Path]:
  """The files that an input names: itself, or what lies below a folder.

  Raises:
    errors.DataError: it is not there, or nothing that could be an image is.
  """
  path = pathlib.Path(path)
  if path.is_file():
    return [path]
  if not path.is_dir():
    raise errors.DataError(f'{path}: no such file or folder')
  found = sorted(
    file
    for file in path.rglob('*')
    if file.is_file()
    and file.suffix.lower() in ('.dcm', '.png', '.jpg', '.jpeg', '.pgm', '')
    and not file.name.startswith('.')
  )
  if not found:
    raise errors.DataError(
      f'{path}: no .dcm, .png, .jpg or .pgm below it; name a folder that has '
      'some'
    )
  return found
