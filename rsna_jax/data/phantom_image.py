"""The picture of a breast phantom: outline, tissue, lesions and look-alikes.

Lengths are in units of the image's height, the chest wall is on the left, and
values are presentation values in [0, 1]. Apart from the files, so that the
tissue can be tested by itself.
"""

import dataclasses

import numpy as np
from PIL import Image

from rsna_jax.data import phantom_fields, phantom_lesions

# Share of the breast that is fibroglandular, for density 1 to 4.
GLANDULAR_SHARE = {1: 0.05, 2: 0.18, 3: 0.4, 4: 0.68}
_OBLIQUE = ('MLO', 'ML', 'LM', 'LMO', 'AT')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
  """A malignant lesion: 'mass' or 'calcifications', in pixels of the image."""

  kind: str
  x: float
  y: float
  radius: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
  """A rendered view: (rows, cols) float32 in [0, 1] and bool, and lesions."""

  values: np.ndarray
  breast: np.ndarray
  findings: tuple[Finding, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anatomy:
  """What all views of one breast share.

  `size` and `reach` are relative; `lesion` is '', 'mass' or 'calcifications',
  `lesion_depth` its distance from the nipple as a share of the way to the
  chest wall, `lesion_size` its radius. `cysts`, `coarse` (single large
  calcifications) and `vessels` count benign look-alikes.
  """

  density: int
  size: float = 0.5
  reach: float = 0.5
  glandular: float = 0.0
  lesion: str = ''
  lesion_depth: float = 0.5
  lesion_size: float = 0.035
  cysts: int = 0
  coarse: int = 0
  vessels: int = 1
  implant: bool = False


def render(
  anatomy: Anatomy,
  *,
  view: str,
  shape: tuple[int, int],
  rng: np.random.Generator,
  noise_rng: np.random.Generator | None = None,
  noise: float = 0.012,
  shift: float = 0.0,
) -> Picture:
  """Draws one view of a breast, without noise outside it.

  Args:
    anatomy: the breast.
    view: one of `schema.VIEWS`.
    shape: rows and columns in pixels.
    rng: of the tissue; the same stream gives the same tissue.
    noise_rng: of the quantum noise; `rng` if None.
    noise: standard deviation of the noise where the picture is white.
    shift: moves the breast up, in units of the height: a repeated view.

  Returns:
    The picture, the breast's mask, and the lesions with their places.
  """
  rows, cols = shape
  # Tissue is drawn at half the resolution: it has no finer structure, and
  # this is what keeps an image to a tenth of a second.
  low = (-(-rows // 2), -(-cols // 2))
  y = ((np.arange(low[0], dtype=np.float32) + 0.5) * 2 / rows)[:, None]
  x = ((np.arange(low[1], dtype=np.float32) + 0.5) * 2 / rows)[None, :]
  depth, nipple = _outline(anatomy, view, y[:, 0], cols / rows, rng)
  slope = np.clip(np.gradient(depth, 2 / rows), -6, 6)
  edge = (depth[:, None] - x) / np.sqrt(1 + slope**2)[:, None]
  muscle = _muscle(view, y, x, rng)

  thick = 1 - np.exp(-np.maximum(edge, 0) / np.float32(0.04))
  tissue = _tissue(anatomy, y, x, edge, muscle, nipple, rng)
  for _ in range(anatomy.vessels):
    tissue += _vessel(y, x, nipple, rng)
  skin = np.exp(-(((edge - 0.006) / 0.004) ** 2))
  values = 0.07 + 0.05 * skin + thick * (0.12 + tissue)
  if muscle is not None:
    streaks = phantom_fields.noise(rng, low, 2.0, cutoff=50)
    body = phantom_fields.step(muscle / 0.01) * (
      0.26 + 0.03 * streaks + 0.3 * muscle
    )
    values = values + body * thick
  if anatomy.implant:
    inside = 1 - np.hypot(
      (x + 0.02) / (0.55 * nipple[1]), (y - nipple[0]) / 0.2
    )
    values = np.maximum(values, 0.62 * phantom_fields.step(inside / 0.03))
  values = values * phantom_fields.step(edge / 0.0015)
  full = phantom_fields.resize(values, shape)
  breast = phantom_fields.resize(edge, shape, Image.Resampling.BILINEAR) > 0

  places = _places(anatomy, edge, muscle, nipple, rng)
  findings = []
  for kind, radius, target in places:
    spot = _choose(edge, muscle, nipple, radius, target, anatomy, rng)
    row, col = 2.0 * spot[0] + 1, 2.0 * spot[1] + 1
    phantom_lesions.DRAW[kind](full, row, col, radius * rows, rng)
    if kind in ('mass', 'calcifications'):
      findings.append(
        Finding(kind=kind, x=float(col), y=float(row), radius=radius * rows)
      )
  if shift:
    up = round(shift * rows)
    moved = np.minimum(np.arange(rows) + up, rows - 1)
    full, breast = full[moved], breast[moved]
    findings = [dataclasses.replace(f, y=f.y - up) for f in findings]
  inside = np.clip(full[breast], 0, 1)
  grain = (noise_rng or rng).standard_normal(inside.size, np.float32)
  inside += grain * (np.float32(noise) * np.sqrt(inside))
  values = np.zeros(shape, np.float32)
  values[breast] = np.clip(inside, 0.01, 1)
  return Picture(values=values, breast=breast, findings=tuple(findings))


def _outline(anatomy, view, y, width, rng):
  """Depth of the breast at each height, and where the nipple is (y, x)."""
  reach = min(0.36 + 0.16 * anatomy.reach, 0.8 * width)
  reach *= rng.uniform(0.95, 1.05)
  power = rng.uniform(1.9, 2.4)
  if view not in _OBLIQUE:
    centre = 0.5 + rng.uniform(-0.05, 0.05)
    half = (0.30 + 0.12 * anatomy.size) * rng.uniform(0.96, 1.04)
    t = (y - centre) / half
    t = t + rng.uniform(-0.12, 0.12) * (1 - t * t)
    depth = reach * np.sqrt(np.maximum(1 - np.abs(t) ** power, 0))
  else:
    centre = rng.uniform(0.52, 0.62) + (0.1 if view == 'AT' else 0)
    half = (0.24 + 0.06 * anatomy.size) * rng.uniform(0.96, 1.04)
    t = (y - centre) / half
    lower = reach * np.sqrt(np.maximum(1 - np.abs(t) ** power, 0))
    top = rng.uniform(0.24, 0.34) * min(1, width / 0.7)
    rise = np.clip((centre - y) / centre, 0, 1)
    upper = top + (reach - top) * 0.5 * (1 + np.cos(np.pi * rise))
    fold = centre + half * 0.97
    belly = np.where(y > fold, 0.04 + 0.35 * (y - fold), 0)
    depth = np.where(y < centre, upper, np.maximum(lower, belly))
  bumps = sum(
    np.sin(2 * np.pi * (n * y + rng.uniform())) / n for n in (1, 2, 3)
  )
  depth = depth * (1 + np.float32(0.015) * bumps)
  bud = np.exp(-(((y - centre) / 0.018) ** 2))
  return (depth + 0.018 * bud).astype(np.float32), (centre, reach)


def _muscle(view, y, x, rng):
  """How far inside the pectoral muscle a place is; None where none is seen."""
  if view not in _OBLIQUE:
    return None
  foot = rng.uniform(0.5, 0.75)
  top = rng.uniform(0.2, 0.3)
  if view in ('ML', 'LM'):
    foot, top = foot * 0.8, top * 0.6
  bow = rng.uniform(0.85, 1.2)
  line = top * np.maximum(1 - y / foot, 0) ** bow
  return np.where(y < foot, line - x, -1).astype(np.float32)


def _tissue(anatomy, y, x, edge, muscle, nipple, rng):
  """Fat, ligaments and fibroglandular tissue, above the value of fat."""
  shape = edge.shape
  inside = edge > 0.02
  if muscle is not None:
    inside &= muscle < 0
  # The gland is a cone behind the nipple; behind it there is mostly fat.
  along = (nipple[1] - x) / nipple[1]
  across = (y - nipple[0]) / 0.22
  cone = -(((along - 0.42) / 0.34) ** 2) - across**2
  fine = phantom_fields.noise(rng, shape, 1.5)
  cloud = phantom_fields.noise(rng, shape, 3.0, cutoff=60)
  score = cloud + 1.3 * cone + 0.2 * fine
  share = GLANDULAR_SHARE[anatomy.density] * (1 + anatomy.glandular)
  level = np.quantile(score[inside][::7], 1 - min(share, 0.9))
  gland = phantom_fields.step((score - level) / 0.5)
  if muscle is not None:
    gland *= phantom_fields.step(-muscle / 0.01)
  # Ducts run to the nipple: noise in polar coordinates about it.
  back, up = nipple[1] + 0.03 - x, y - nipple[0]
  table = phantom_fields.noise(rng, (256, 256), 2.0, cutoff=40)
  ducts = table[
    (np.arctan2(up, back) * (256 / np.pi)).astype(np.int32) & 255,
    (np.hypot(up, back) * 70).astype(np.int32) & 255,
  ]
  threads = phantom_fields.ridge(
    phantom_fields.noise(rng, shape, 1.2, cutoff=26), 0.14
  )
  ligaments = phantom_fields.ridge(
    phantom_fields.noise(rng, shape, 2.0, cutoff=14) + 0.25 * fine, 0.12
  )
  fibres = (
    0.07 * ligaments + 0.08 * threads + 0.05 * phantom_fields.ridge(ducts, 0.2)
  )
  return (
    gland * (0.13 + 0.02 * ducts + 0.02 * fine)
    + (0.5 + 0.55 * gland) * fibres
    + 0.012 * fine
    + 0.015 * cloud
  ).astype(np.float32)


def _vessel(y, x, nipple, rng):
  """A thin bright winding line from the chest wall towards the nipple."""
  start = nipple[0] + rng.uniform(-0.22, 0.22)
  wave = rng.uniform(0.008, 0.02)
  path = start + (nipple[0] - start) * 0.6 * x / nipple[1]
  path = path + wave * np.sin(x * rng.uniform(18, 40) + rng.uniform(0, 6))
  near = np.exp(-(((y - path) / rng.uniform(0.0025, 0.004)) ** 2))
  stop = rng.uniform(0.5, 0.8) * nipple[1]
  return (0.09 * near * phantom_fields.step((stop - x) / 0.02)).astype(
    np.float32
  )


def _places(anatomy, edge, muscle, nipple, rng):
  """(kind, radius, wanted distance from the nipple) of all local objects."""
  places = []
  if anatomy.lesion:
    want = anatomy.lesion_depth * nipple[1]
    places.append((anatomy.lesion, anatomy.lesion_size, want))
  places += [
    ('cyst', rng.uniform(0.022, 0.045), None) for _ in range(anatomy.cysts)
  ]
  places += [
    ('coarse', rng.uniform(0.005, 0.009), None) for _ in range(anatomy.coarse)
  ]
  return places


def _choose(edge, muscle, nipple, radius, target, anatomy, rng):
  """A (row, column) of the half-resolution grid with the object in tissue."""
  step = 1 / edge.shape[0]
  room = edge > 1.3 * radius + 0.02
  room[: int(0.1 / step)] = False
  room[int(0.95 / step) :] = False
  room[:, : int((radius * 1.1 + 0.015) / step)] = False
  if muscle is not None:
    room &= muscle < -0.8 * radius
  if anatomy.implant:
    room[:, : int(0.6 * nipple[1] / step)] = False
  rows, cols = np.nonzero(room)
  if not rows.size:  # A small breast: the middle of what there is.
    return np.unravel_index(np.argmax(edge), edge.shape)
  picks = rng.integers(0, rows.size, 48)
  if target is None:
    return rows[picks[0]], cols[picks[0]]
  far = np.hypot(rows[picks] * step - nipple[0], cols[picks] * step - nipple[1])
  best = picks[np.argmin(np.abs(far - target))]
  return rows[best], cols[best]
