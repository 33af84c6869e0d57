"""Contact sheets: the original with the breast box, and what became of it.

Numbers do not show that a box cuts an implant or holds a label; an eye on
sixty pairs does. Pillow alone, so that a sheet needs no extra.
"""

import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rsna_jax import errors, files
from rsna_jax.audit import checks, counts
from rsna_jax.data import dataset, inventory, preprocess, sandbox, survey
from rsna_jax.report import sheet_choice

HEIGHT = 256  # pixels of a picture in a pair
COLUMNS = 4
CAP = 60
_GAP = 8  # between the two of a pair; pairs are further apart
_BETWEEN = 20
_LINE = 17
_FONT_SIZE = 13
_PAPER, _INK, _SOFT = (250, 250, 250), (27, 31, 36), (89, 97, 107)
_BOX = (255, 149, 0)


@dataclasses.dataclass(frozen=True)
class Entry:
  """A pair of pictures and what is written below it.

  Attributes:
    thumbnail: (h, w) uint8, the whole original.
    image: (H, W) uint8, the standard image; None where there is none.
    box: top, left, bottom, right of the breast as shares of the original, or
      None.
    caption: a few short lines, the first of which names the image.
  """

  thumbnail: np.ndarray
  image: np.ndarray | None
  box: tuple[float, float, float, float] | None
  caption: tuple[str, ...]


def write(
  path: str | os.PathLike, entries: Sequence[Entry], columns: int = COLUMNS
) -> None:
  """Writes a PNG of pairs in rows.

  Args:
    path: of the file, replaced if there is one.
    entries: at least one.
    columns: pairs in a row.

  Raises:
    errors.DataError: no entry.
    OSError: the file cannot be written.
  """
  if not entries:
    raise errors.DataError(f'{path}: no image to show on a contact sheet')
  pairs = [pair(entry) for entry in entries]
  lines = max(len(entry.caption) for entry in entries)
  cell = (
    max(picture.width for picture in pairs) + _BETWEEN,
    HEIGHT + lines * _LINE + _BETWEEN,
  )
  columns = min(columns, len(entries))
  rows = -(-len(entries) // columns)
  sheet = Image.new('RGB', (columns * cell[0], rows * cell[1]), _PAPER)
  draw = ImageDraw.Draw(sheet)
  font = ImageFont.load_default(_FONT_SIZE)
  for i, (entry, picture) in enumerate(zip(entries, pairs, strict=True)):
    x = i % columns * cell[0] + _BETWEEN // 2
    y = i // columns * cell[1] + _BETWEEN // 2
    sheet.paste(picture, (x, y))
    for number, line in enumerate(entry.caption):
      place = (x, y + HEIGHT + 4 + number * _LINE)
      fitting = _fitting(line, font, cell[0] - _BETWEEN)
      draw.text(place, fitting, font=font, fill=_SOFT if number else _INK)
  data = io.BytesIO()
  sheet.save(data, 'PNG', optimize=True)
  files.write_bytes(path, data.getvalue())


def pair(entry: Entry) -> Image.Image:
  """The two pictures of an entry side by side, `HEIGHT` pixels high."""
  original = _scaled(entry.thumbnail)
  if entry.box is not None:
    top, left, bottom, right = entry.box
    width, height = original.size
    ImageDraw.Draw(original).rectangle(
      (
        round(left * width),
        round(top * height),
        max(round(left * width), round(right * width) - 1),
        max(round(top * height), round(bottom * height) - 1),
      ),
      outline=_BOX,
      width=2,
    )
  if entry.image is None:
    return original
  standard = _scaled(entry.image)
  both = Image.new(
    'RGB', (original.width + _GAP + standard.width, HEIGHT), _PAPER
  )
  both.paste(original, (0, 0))
  both.paste(standard, (original.width + _GAP, 0))
  return both


def jpeg(entry: Entry) -> bytes:
  """A pair for a page, at a tenth of a PNG's bytes."""
  data = io.BytesIO()
  pair(entry).save(data, 'JPEG', quality=82, optimize=True)
  return data.getvalue()


def entries(
  chosen: Iterable[tuple[checks.Image, list[str]]],
  spec: preprocess.Spec,
  pool: sandbox.Pool,
  *,
  standard: Callable[[checks.Image], np.ndarray] | None = None,
) -> Iterator[Entry]:
  """Opens the files of chosen images again, for their pictures.

  Args:
    chosen: as `sheet_choice.choose` returns them. A file that has become
      unreadable since is passed over.
    spec: of the standard images.
    pool: of `survey.survey_file`.
    standard: gives the standard image, (H, W) uint8 or uint16, of an image;
      None: it is made of the file.
  """
  chosen = list(chosen)
  items = (
    survey.item(image.item.file, spec, pictures=True) for image, _ in chosen
  )
  for index, answer in pool.map(items, name=lambda item: item[0]):
    if isinstance(answer, dict):
      image, tags = chosen[index]
      if standard is not None:
        answer['image'] = survey.in_8_bits(standard(image))
      yield _entry(image, tags, answer)


def from_prepared(
  folder: str | os.PathLike,
  src: str | os.PathLike,
  *,
  train_csv: str | os.PathLike | None = None,
  facts: dict[str, dict] | None = None,
  cap: int = CAP,
  seed: int = 0,
  workers: int = 1,
) -> pathlib.Path:
  """Writes contact_sheet.png into the folder of a prepared data set.

  The standard images are those of its shards, so the sheet shows what
  training sees.

  Args:
    folder: of the data set, as `convert.prepare` returns it.
    src: what it was made of.
    train_csv: as `convert.prepare` took it.
    facts: path of a file -> `survey.describe` of it. Without them, the choice
      goes by the table alone.
    cap: most images to show.
    seed: of the choice.
    workers: child processes that open the originals.

  Returns:
    Path of the sheet.

  Raises:
    errors.DataError: no data set, or none of its originals is in `src`.
  """
  folder = pathlib.Path(folder)
  prepared = dataset.open_folder(folder)
  there = {
    (item.split, item.row['image_id']): item
    for item in inventory.find(src, train_csv=train_csv).items
    if item.file and item.row is not None
  }
  facts = {
    os.path.abspath(file): found for file, found in (facts or {}).items()
  }
  images, place = [], {}
  for i, key in enumerate(
    zip(
      prepared.split.tolist(), prepared.table['image_id'].tolist(), strict=True
    )
  ):
    if key in there:
      item = there[key]
      found = facts.get(os.path.abspath(item.file))
      images.append(checks.Image(item, found))
      place[item.file] = i
  chosen = sheet_choice.choose(images, cap=cap, seed=seed)

  def standard(image: checks.Image) -> np.ndarray:
    (png,) = prepared.read([place[image.item.file]])
    return preprocess.decode_png(png)

  with sandbox.Pool(survey.survey_file, workers) as pool:
    shown = list(entries(chosen, prepared.spec, pool, standard=standard))
  if not shown:
    raise errors.DataError(
      f'{src}: has no image of {folder}; give the folder it was prepared from'
    )
  path = folder / 'contact_sheet.png'
  write(path, shown)
  return path


def _entry(image: checks.Image, tags: Sequence[str], answer: dict) -> Entry:
  found = answer['facts']
  box = None
  if 'box' in found:
    top, left, bottom, right = found['box']
    rows, cols = found['rows'], found['columns']
    box = (top / rows, left / cols, bottom / rows, right / cols)
  image = dataclasses.replace(image, facts=found)
  name = image.known('image_id') or pathlib.Path(image.item.name).name
  values = {
    key: counts.TABLE[key][1](image)
    for key in ('laterality', 'view', 'machine_id', 'site_id')
  }
  where = [
    ' '.join(v for v in (values['laterality'], values['view']) if v),
    f'machine {values["machine_id"]}' if values['machine_id'] else '',
    f'site {values["site_id"]}' if values['site_id'] else '',
    f'{found["rows"]} x {found["columns"]}',
  ]
  special = list(tags)
  if found.get('flipped'):
    special.append('flipped')
  if found['photometric'] == 'MONOCHROME1':
    special.append('MONOCHROME1')
  if answer['error']:
    special.append(answer['error'].replace(image.item.file, '').lstrip(': '))
  return Entry(
    thumbnail=answer['thumbnail'],
    image=answer['image'],
    box=box,
    caption=(
      str(name),
      ', '.join(part for part in where if part),
      ', '.join(special),
    ),
  )


def _scaled(pixels: np.ndarray) -> Image.Image:
  picture = Image.fromarray(np.ascontiguousarray(pixels))
  width = max(1, round(picture.width * HEIGHT / picture.height))
  # A strip of a picture must not push the others off the sheet.
  size = (min(width, 2 * HEIGHT), HEIGHT)
  return picture.resize(size, Image.Resampling.LANCZOS).convert('RGB')


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
  """A line cut where it would run into the next pair."""
  if font.getlength(text) <= width:
    return text
  while text and font.getlength(text + '…') > width:
    text = text[:-1]
  return text + '…'
