"""plots/augmentations.png: training images as the network is given them.

Written when a run starts, so that an eye can tell whether what augmentation
makes of a breast still is one. Pillow alone, as for other contact sheets.
"""

import io
import logging
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rsna_jax import files, steps
from rsna_jax.data.augment import mix

PATH = pathlib.PurePath('plots', 'augmentations.png')
STEPS = 5  # in each of which an example is shown
HEIGHT = 224  # pixels of a picture
_GAP, _LINE, _FONT_SIZE = 8, 17, 13
_NARROW = 120  # pixels that a caption needs at least
_PAPER, _INK, _SOFT = (250, 250, 250), (27, 31, 36), (89, 97, 107)
# Fields that say of what kind something is, and not whether it is on.
_KINDS = (
  *('elastic_cells', 'grid_cells', 'cutout_size'),
  *('mixup_alpha', 'cutmix_alpha', 'sheet'),
)

_LOG = logging.getLogger('rsna_jax')


def write(
  workdir: str | os.PathLike,
  batch: Mapping[str, np.ndarray],
  config: ml_collections.ConfigDict,
  step: int = 0,
) -> pathlib.Path | None:
  """Writes the sheet of a run, unless it has one or wants none.

  A sheet that cannot be written is told in a line, and the run goes on.

  Args:
    workdir: of the run.
    batch: the first one, of this process.
    config: `augment`, `data.target` and `seed` are read.
    step: steps taken before it.

  Returns:
    The path of the sheet, where one was written.
  """
  path = pathlib.Path(workdir) / PATH
  wanted = config.augment.sheet and not jax.process_index()
  if not wanted or not np.size(batch.get('image', ())) or path.exists():
    return None
  try:
    files.write_bytes(path, draw(batch, config, step))
  except OSError as error:
    _LOG.warning(
      '%s: %s: this picture of augmentations is left out; the run goes on',
      path,
      error.strerror or error,
    )
    return None
  return path


def draw(
  batch: Mapping[str, np.ndarray],
  config: ml_collections.ConfigDict,
  step: int = 0,
) -> bytes:
  """The sheet as PNG: an example a row, the original and then its variants.

  The first variant is what the network is given in the step that follows; the
  others are what it would be given if the batch came again.

  Args:
    batch: as in `write`.
    config: as in `write`.
    step: as in `write`.
  """
  rows = _first(batch, config.augment.sheet)
  variants, shares = variants_of(rows, config, step)
  originals = np.asarray(steps.to_float(jnp.asarray(rows['image'])))
  pictures = np.stack([originals, *variants])
  if pictures.ndim == 5:  # one image an example
    pictures = pictures[:, :, None]
  label = f'label_{config.data.target}'
  lines, captions = [], []
  for i in range(min(len(originals), config.augment.sheet)):
    for slot in range(pictures.shape[2]):
      if 'slots' in rows and rows['slots'][i, slot, 1] < 0:
        continue  # an empty one
      lines.append(pictures[:, i, slot, ..., 0])
      first = f'{label[6:]} {rows[label][i]}' if label in rows else ''
      mixed = [f'{x:.0%} of itself' if x < 1 else '' for x in shares[:, i]]
      captions.append([first, *mixed])
  heads = ['original', *(f'step {step + 1 + k}' for k in range(STEPS))]
  return _sheet(lines, captions, heads, switched_on(config.augment))


def variants_of(
  rows: Mapping[str, np.ndarray], config: ml_collections.ConfigDict, step: int
) -> tuple[list[np.ndarray], np.ndarray]:
  """What the network is given of some rows in the steps that follow.

  Args:
    rows: the first ones of a batch.
    config: as in `write`.
    step: steps taken.

  Returns:
    `STEPS` arrays of images in [0, 1], and (STEPS, B) shares of each example
    in what it was mixed into.
  """

  @jax.jit
  def seen(rows, key):
    image, _, mixed = steps.seen(rows, key, config.augment)
    return image, mixed.get(mix.MIX, jnp.ones(len(image)))

  rng = jax.random.key(config.seed)
  found = [
    seen(rows, steps.step_keys(rng, step + later)[0]) for later in range(STEPS)
  ]
  return [np.asarray(x) for x, _ in found], np.stack([x for _, x in found])


def switched_on(options: ml_collections.ConfigDict) -> str:
  """What is on, such as `rotation_deg 10, scale 0.1`."""
  on = [
    f'{name} {value:g}'
    for name, value in options.items()
    if value and name not in _KINDS
  ]
  return ', '.join(on) or 'no augmentation is on'


def _first(batch, count: int) -> dict[str, np.ndarray]:
  """The first rows, an even number where there are two, since pairs mix."""
  count = min(count + count % 2, len(batch['image']))
  return {
    name: np.asarray(value)[:count]
    for name, value in batch.items()
    if name != 'id'
  }


def _sheet(
  lines: Sequence[np.ndarray],
  captions: Sequence[Sequence[str]],
  heads: Sequence[str],
  title: str,
) -> bytes:
  """PNG of rows of pictures, each (N, H, W) in [0, 1], with texts below."""
  high, wide = lines[0].shape[1:]
  # A broad picture is made as wide as it may be high.
  scale = HEIGHT / max(high, wide)
  size = (max(1, round(wide * scale)), max(1, round(high * scale)))
  cell = (max(size[0], _NARROW) + _GAP, size[1] + _LINE + _GAP)
  font = ImageFont.load_default(_FONT_SIZE)
  width = len(heads) * cell[0] + _GAP
  # A name stays on one line with its value.
  parts = [part.replace(' ', '\u00a0') for part in title.split(', ')]
  per_line = max(20, int(width / font.getlength('n')))
  title = textwrap.wrap(', '.join(parts), per_line)
  title = [line.replace('\u00a0', ' ') for line in title]  # as the font has
  top = _GAP + (len(title) + 1) * _LINE + _GAP
  sheet = Image.new('RGB', (width, top + len(lines) * cell[1]), _PAPER)
  draw = ImageDraw.Draw(sheet)
  for i, text in enumerate(title):
    draw.text((_GAP, _GAP + i * _LINE), text, font=font, fill=_INK)
  for column, head in enumerate(heads):
    place = (_GAP + column * cell[0], top - _LINE - _GAP // 2)
    draw.text(place, head, font=font, fill=_SOFT)
  for row, (pictures, texts) in enumerate(zip(lines, captions, strict=True)):
    for column, (pixels, text) in enumerate(zip(pictures, texts, strict=True)):
      x, y = _GAP + column * cell[0], top + row * cell[1]
      grey = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
      picture = Image.fromarray(grey).resize(size, Image.Resampling.LANCZOS)
      sheet.paste(picture.convert('RGB'), (x, y))
      draw.text((x, y + size[1]), text, font=font, fill=_SOFT)
  data = io.BytesIO()
  sheet.save(data, 'PNG', optimize=True)
  return data.getvalue()
