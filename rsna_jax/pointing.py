"""The pointing game: how often a map's peak lies on the lesion, on phantoms.

Only made-up mammograms say where their lesions are. Source: Zhang et al. 2018,
"Top-down neural attention by excitation backprop", arXiv:1608.00507.
"""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsna_jax import errors, explain, explain_files, files, inference
from rsna_jax.stats import distributions

# Of the original's longer side: so far beside the lesion still counts as on it.
TOLERANCE = 0.02
_KINDS = ('mass', 'calcifications')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
  """How a method points.

  Attributes:
    method: one of `explain.METHODS`, or `explain.OWN`.
    tolerance: beside a lesion, as a share of the original's longer side.
    n: images with a lesion.
    hits: of them, those whose peak lies on a lesion or within the tolerance.
    low: of the 95 % interval (Wilson) of the share of hits, by image.
    high: likewise.
    chance: share of hits of a peak anywhere in the breast.
    kinds: kind of lesion -> (hits, n).
    distance: median distance from the peak to the middle of the nearest
      lesion, in radii of the lesion; infinite where most maps are flat.
    held_out: whether some images of the folder were left out because the
      network was trained on them.
  """

  method: str
  tolerance: float
  n: int
  hits: int
  low: float
  high: float
  chance: float
  kinds: Mapping[str, tuple[int, int]]
  distance: float
  held_out: bool

  @property
  def share(self) -> float:
    """Of images whose peak is a hit."""
    return self.hits / self.n

  def to_json(self) -> dict[str, Any]:
    """Plain values."""
    found = dataclasses.asdict(self) | {'share': self.share}
    found['kinds'] = {k: list(v) for k, v in self.kinds.items()}
    if not np.isfinite(self.distance):
      found['distance'] = None
    return found

  def text(self) -> str:
    """One line."""
    kinds = ', '.join(f'{k} {h} of {n}' for k, (h, n) in self.kinds.items())
    return (
      f'{self.method:22s} {self.hits} of {self.n} on the lesion: '
      f'{self.share:.3f} ({self.low:.3f} to {self.high:.3f}), by chance '
      f'{self.chance:.3f}; {kinds}'
    )


def pointing_game(
  workdir: str | os.PathLike,
  phantom_src: str | os.PathLike,
  method: str = 'hirescam',
  limit: int | None = None,
  *,
  tolerance: float = TOLERANCE,
  which: str | None = None,
  workers: int = 1,
) -> Game:
  """Plays the pointing game on the images of a phantom that have a lesion.

  Where the run was trained on that phantom, its validation fold and the test
  images are used alone.

  Args:
    workdir: the run directory, of a target that speaks of cancer.
    phantom_src: what `rsna-jax phantom` wrote.
    method: as in `explain.explain`.
    limit: most images to look at; None: all.
    tolerance: beside a lesion, as a share of the original's longer side.
    which: the checkpoint: best | latest; None: config.eval.checkpoint.
    workers: processes that decode.

  Raises:
    errors.InputError: no phantom, no image with a lesion, or an unusable run.
  """
  src = pathlib.Path(phantom_src)
  model = inference.load_model(workdir, which=which)
  explain.check(model, method, 'cancer')
  lesions = _lesions(src)
  known = _validation_ids(pathlib.Path(workdir))
  paths = {
    image: path
    for image, (patient, _) in lesions.items()
    for split in ('train', 'test')
    if (path := src / f'{split}_images' / patient / f'{image}.dcm').is_file()
  }
  trained_on = bool(known & _train_ids(src))
  if trained_on:
    paths = {
      image: path
      for image, path in paths.items()
      if image in known or path.parent.parent.name == 'test_images'
    }
  images = sorted(paths)[:limit]
  if not images:
    raise errors.DataError(
      f'{src}: no image with a lesion that the run was not trained on; write '
      'another with rsna-jax phantom --seed'
    )
  hits, chances, distances, kinds = [], [], [], []
  decoded = explain_files.decoded(
    [paths[image] for image in images], model.spec, longest=0, workers=workers
  )
  for image, (path, found) in zip(images, decoded, strict=True):
    one = explain.explain_decoded(model, str(path), found, method, 'cancer')
    spots = lesions[image][1]
    slack = tolerance * max(one.original_shape)
    kinds.append(spots[0]['kind'])
    hits.append(
      one.peak is not None and bool(on_lesion(one.peak, spots, slack))
    )
    chances.append(float(on_lesion(_breast(one), spots, slack).mean()))
    distances.append(_distance(one.peak, spots))
  low, high = distributions.wilson(np.array([sum(hits)]), np.array([len(hits)]))
  return Game(
    method=method,
    tolerance=tolerance,
    n=len(hits),
    hits=sum(hits),
    low=float(low[0]),
    high=float(high[0]),
    chance=float(np.mean(chances)),
    kinds={
      kind: (
        sum(h for h, k in zip(hits, kinds, strict=True) if k == kind),
        kinds.count(kind),
      )
      for kind in _KINDS
    },
    distance=float(np.median(distances)),
    held_out=trained_on,
  )


def on_lesion(
  points: Sequence[float] | np.ndarray,
  lesions: Sequence[Mapping[str, Any]],
  slack: float = 0.0,
) -> np.ndarray:
  """(...) bool: which (..., 2) points (x, y) lie in a lesion's circle."""
  points = np.asarray(points, np.float64)
  found = np.zeros(points.shape[:-1], bool)
  for one in lesions:
    x, y = points[..., 0] - one['x'], points[..., 1] - one['y']
    found |= np.hypot(x, y) <= one['radius'] + slack
  return found


def _distance(peak, lesions) -> float:
  if peak is None:
    return float('inf')
  return min(
    float(np.hypot(peak[0] - one['x'], peak[1] - one['y'])) / one['radius']
    for one in lesions
  )


def _breast(one: explain.Explanation) -> np.ndarray:
  """(N, 2) centres of the breast's pixels, in original pixels."""
  rows, columns = np.nonzero(one.mask)
  places = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
  return (one.to_original @ places).T


def _lesions(src: pathlib.Path) -> dict[str, tuple[str, list[dict]]]:
  """Image -> its patient, and its lesions in pixels of the original."""
  path = src / 'findings.csv'
  if not path.is_file():
    raise errors.DataError(
      f'{path}: not there, so no phantom; write one with rsna-jax phantom {src}'
    )
  found = {}
  try:
    for row in _rows(path):
      spot = {name: float(row[name]) for name in ('x', 'y', 'radius')}
      _, spots = found.setdefault(row['image_id'], (row['patient_id'], []))
      spots.append(spot | {'kind': row['kind']})
  except (KeyError, ValueError, TypeError) as error:
    raise errors.DataError(
      f'{path}: damaged ({error}); write the phantom again'
    ) from error
  return found


def _rows(path: pathlib.Path) -> list[dict]:
  with path.open(encoding='utf-8', newline='') as file:
    return list(csv.DictReader(file))


def _train_ids(src: pathlib.Path) -> set[str]:
  path = src / 'train.csv'
  return {r['image_id'] for r in _rows(path)} if path.is_file() else set()


def _validation_ids(workdir: pathlib.Path) -> set[str]:
  """Images of the run's validation split; it is written when training ends."""
  path = workdir / 'eval' / 'validation' / 'predictions.csv'
  return {r['image_id'] for r in _rows(path)} if path.is_file() else set()


def play(
  workdir: str | os.PathLike,
  phantom_src: str | os.PathLike,
  out: str | os.PathLike,
  *,
  methods: Sequence[str] | None = None,
  limit: int | None = None,
  which: str | None = None,
  workers: int = 1,
) -> list[Game]:
  """Plays with several methods, prints them, and writes pointing_game.json.

  Args:
    workdir: as in `pointing_game`.
    phantom_src: likewise.
    out: folder of the file.
    methods: to play with; None: all that `explain.methods` has of the run.
    limit: as in `pointing_game`.
    which: likewise.
    workers: likewise.

  Raises:
    errors.InputError: as in `pointing_game`.
  """
  with files.folder(out) as out:  # refused before any work is done
    games = []
    if methods is None:
      methods = explain.methods(inference.load_model(workdir, which=which))
    for method in methods:
      games.append(
        pointing_game(
          workdir, phantom_src, method, limit, which=which, workers=workers
        )
      )
      print(games[-1].text(), flush=True)
    files.write_json(
      out / 'pointing_game.json', [game.to_json() for game in games]
    )
  return games
