"""Explaining files into pictures: overlays on the originals, and numbers.

Files from outside are decoded in the processes of `data/sandbox.py`.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rsna_jax import errors, explain, files, inference, steps
from rsna_jax.data import sandbox, shown
from rsna_jax.report import heatmap

LONGEST = 1600  # pixels of the longer side of an overlay


def decoded(
  paths: Sequence[str | os.PathLike],
  spec,
  *,
  longest: int = LONGEST,
  workers: int = 1,
) -> Iterator[tuple[pathlib.Path, Any]]:
  """Yields each path with its `shown.shown_file`, made in child processes.

  Raises:
    sandbox.SandboxError: a file is no usable mammogram.
  """
  items = [(os.fspath(path), spec.to_json(), longest) for path in paths]
  with sandbox.Pool(shown.shown_file, min(workers, len(items))) as pool:
    for i, result in pool.map(items, name=lambda item: item[0]):
      if isinstance(result, errors.InputError):
        raise result
      yield pathlib.Path(paths[i]), result


def explain_files(
  workdir: str | os.PathLike,
  inputs: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  method: str = 'hirescam',
  target: str | None = None,
  which: str | None = None,
  workers: int = 1,
) -> list[tuple[pathlib.Path, explain.Explanation]]:
  """Explains files, and writes pictures of it.

  Args:
    workdir: the run directory.
    inputs: files, and folders of files.
    out: folder to write into: for each image a folder by its name with
      overlay.png, standard.png and explanation.json.
    method: as in `explain.explain`.
    target: likewise.
    which: the checkpoint: best | latest; None: config.eval.checkpoint.
    workers: processes that decode.

  Returns:
    The folder of each image, and its explanation.

  Raises:
    errors.InputError: the run or a file is not usable.
  """
  paths = [file for one in inputs for file in inference.find_files(one)]
  paths = list(dict.fromkeys(paths))
  with files.folder(out) as out:  # refused before any work is done
    model = inference.load_model(workdir, which=which)
    explain.check(model, method, target)
    made, names = [], set()
    for path, found in decoded(paths, model.spec, workers=workers):
      one = explain.explain_decoded(model, str(path), found, method, target)
      # Files of the same name lie in different folders.
      name, number = path.stem, 1
      while name in names:
        number += 1
        name = f'{path.stem}_{number}'
      names.add(name)
      write(out / name, one, step=model.step)
      made.append((out / name, dataclasses.replace(one, picture=None)))
  return made


def write(folder: pathlib.Path, one: explain.Explanation, *, step: int) -> None:
  """Writes overlay.png, standard.png and explanation.json.

  Args:
    folder: made if it is not there.
    one: with its `picture`.
    step: of the model's checkpoint.

  Raises:
    OSError: the folder cannot be written.
  """
  rows, cols = one.original_shape
  scale = one.picture.shape[0] / rows, one.picture.shape[1] / cols
  top, left, bottom, right = one.box
  caption = (
    f'{one.method}: what speaks for {one.target}, raw probability '
    f'{one.probability:.3f}, step {step}'
  )
  if one.patches:
    caption += '; squares: the patches looked at, with their weights'
  signed = one.method not in explain.UNSIGNED
  overlay = heatmap.overlay(
    one.picture,
    one.on_original(one.picture.shape),
    caption=caption,
    signed=signed,
    box=(top * scale[0], left * scale[1], bottom * scale[0], right * scale[1]),
    peak=None
    if one.peak is None
    else (one.peak[0] * scale[1], one.peak[1] * scale[0]),
    patches=[
      (np.multiply(patch.box, scale * 2), f'{patch.weight:.2f}')
      for patch in one.patches
    ],
  )
  files.write_bytes(folder / 'overlay.png', overlay)
  pixels = np.rint(np.asarray(steps.to_float(one.pixels)) * 255)
  files.write_bytes(
    folder / 'standard.png',
    heatmap.pair(
      pixels.astype(np.uint8), one.smooth(), caption=caption, signed=signed
    ),
  )
  files.write_json(folder / 'explanation.json', one.to_json() | {'step': step})
