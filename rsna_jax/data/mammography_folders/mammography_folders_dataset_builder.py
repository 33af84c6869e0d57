"""TFDS builder of mammograms in folders named by density and label."""

import os
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from rsna_jax.data import convert, features, layout, sandbox, store


class Builder(tfds.core.GeneratorBasedBuilder):
  """Standard images with every column and the way back to the original.

  `rsna-jax prepare` writes the same data set faster, and goes on where an
  interrupted run ended.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Initial release.'}  # noqa: RUF012
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  Put the pictures into `manual_dir`, so that it holds

    Density1Benign/<source> (1).png
    Density1Benign/<source> (2).png
    ...
    Density4Malignant/<source> (1).png

  The text before " (" names the source image. The suffix is .png, .jpg,
  .jpeg, .pgm or .dcm.
  """
  BUILDER_CONFIGS = features.builder_configs()

  def __init__(self, *, file_format: Any = 'array_record', **kwargs):
    # The readers of this project need random access.
    super().__init__(file_format=file_format, **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=features.features(self.builder_config.spec),
      homepage=None,
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    found = layout.find(dl_manager.manual_dir, data_set='mammography_folders')
    return {
      name: self._generate_examples(split)
      for name, split in found.splits.items()
    }

  def _generate_examples(
    self, split: layout.Split
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    c = self.builder_config
    rows = zip(split.table.rows(), split.files, strict=True)
    workers = c.workers or os.cpu_count() or 1
    with sandbox.Pool(convert.standard_example, workers) as pool:
      for key, answer in enumerate(convert.examples(rows, c.spec, pool)):
        if not isinstance(answer, store.Made):
          raise answer
        yield key, answer.example
