"""What a TFDS example of a mammogram holds; shared by the two builders."""

import dataclasses
import importlib
import pathlib
import tempfile

import numpy as np
import tensorflow_datasets as tfds

from rsna_jax import files, schema
from rsna_jax.data import preprocess

# Other sizes: give `Builder(config=features.choose_config(spec))`.
SIZES = ((512, 256), (224, 224), (1024, 512), (2048, 1024))


@dataclasses.dataclass(kw_only=True)
class MammographyConfig(tfds.core.BuilderConfig):
  """A preprocessing spec as the configuration of a builder.

  Attributes:
    spec: of the images.
    workers: child processes that decode; None: one for each CPU.
  """

  spec: preprocess.Spec = dataclasses.field(default_factory=preprocess.Spec)
  workers: int | None = None


def builder_config(spec: preprocess.Spec, **kwargs) -> MammographyConfig:
  """The configuration that is named after a spec."""
  height, width = spec.size
  return MammographyConfig(
    name=spec.name(),
    description=f'{height} x {width} pixels of {spec.bits} bits, '
    f'VOI window {spec.window!r}.',
    spec=spec,
    **kwargs,
  )


def builder_configs() -> list[MammographyConfig]:
  """The configurations that can be chosen by name."""
  return [builder_config(preprocess.Spec(size=size)) for size in SIZES]


def choose_config(spec: preprocess.Spec) -> MammographyConfig | str:
  """What to give a builder as `config`; TFDS wants its own by their names."""
  if any(config.spec == spec for config in builder_configs()):
    return spec.name()
  return builder_config(spec)


def features(spec: preprocess.Spec) -> tfds.features.FeaturesDict:
  """Features of an example: the columns, the encoded image, its geometry."""
  found = {name: _column(dtype) for name, dtype in schema.COLUMNS.items()}
  image = tfds.features.Image(
    shape=(*spec.size, 1),
    dtype=np.uint8 if spec.bits == 8 else np.uint16,
    encoding_format='png',
    doc='Bright breast on black, chest wall on the left.',
  )
  box = tfds.features.Tensor(
    shape=(4,),
    dtype=np.float32,
    doc='Top, left, bottom, right of the crop, in original pixels.',
  )
  shape = tfds.features.Tensor(
    shape=(2,), dtype=np.int32, doc='Rows and columns of the original.'
  )
  to_original = tfds.features.Tensor(
    shape=(2, 3),
    dtype=np.float64,
    # An Example has float32 alone; as bytes, no digit is lost.
    encoding=tfds.features.Encoding.BYTES,
    doc='From continuous (x, y, 1) of the image to (x, y) of the original.',
  )
  return tfds.features.FeaturesDict(
    {
      **found,
      'image': image,
      'box': box,
      'original_shape': shape,
      'flipped': np.bool_,
      'inverted': np.bool_,
      'to_original': to_original,
    }
  )


def write_info(
  folder: pathlib.Path,
  data_set: str,
  spec: preprocess.Spec,
  lengths: dict[str, list[int]],
  sizes: dict[str, int],
) -> None:
  """Writes TFDS's own description of a data set, dataset_info.json last.

  Args:
    folder: of the shards.
    data_set: name of the builder.
    spec: of the images.
    lengths: split -> number of records of each shard.
    sizes: split -> bytes of its shards.

  Raises:
    OSError: as `files.write_bytes`.
  """
  module = importlib.import_module(
    f'rsna_jax.data.{data_set}.{data_set}_dataset_builder'
  )
  with tempfile.TemporaryDirectory() as scratch:
    builder = module.Builder(
      config=choose_config(spec), data_dir=scratch, file_format='array_record'
    )
    splits = [
      tfds.core.SplitInfo(
        name=name, shard_lengths=lengths[name], num_bytes=sizes[name]
      )
      for name in lengths
    ]
    builder.info.set_splits(tfds.core.SplitDict(splits))
    written = pathlib.Path(scratch) / 'written'
    written.mkdir()
    builder.info.write_to_directory(written)
    paths = sorted(
      written.iterdir(), key=lambda path: path.name == 'dataset_info.json'
    )
    for path in paths:
      files.write_bytes(folder / path.name, path.read_bytes())


def _column(dtype: np.dtype):
  if dtype.kind == 'U':
    return tfds.features.Text()
  return tfds.features.Scalar(dtype=dtype.type)
