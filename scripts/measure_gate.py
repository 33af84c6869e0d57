"""How often `serve/gate.py` refuses mammograms, and takes what are none.

    python scripts/measure_gate.py --mammograms DIR... [--fit] [--more DIR]

Every file goes the way of an upload. With --fit the weights are found anew, on
the even ones of the files of each folder and kind; the rest is what is judged.
"""

import argparse
import dataclasses
import io
import json
import pathlib
import sys
from collections.abc import Iterator

import gate_pictures
import numpy as np

from rsna_jax import errors
from rsna_jax.data import image, preprocess, shown
from rsna_jax.serve import settings
from rsna_jax.serve.intake import gate, intake_worker

SPEC = preprocess.Spec(size=(64, 32))
SUFFIXES = ('.dcm', '.png', '.jpg', '.jpeg', '.pgm')
PER_KIND = 30
PICTURE_PX = 1600


def files(
  folders: list[str], every: int
) -> Iterator[tuple[str, bytes, pathlib.Path]]:
  """Folder, content and path of the files."""
  for folder in folders:
    paths = sorted(
      path
      for path in pathlib.Path(folder).rglob('*')
      if path.suffix.lower() in SUFFIXES
    )
    for path in paths[::every]:
      yield '/'.join(pathlib.Path(folder).parts[-2:]), path.read_bytes(), path


def others(more: str | None) -> Iterator[tuple[str, bytes, pathlib.Path]]:
  """Kind, content and name of pictures that are no mammograms."""
  for kind in gate_pictures.KINDS:
    pictures = gate_pictures.pictures(kind, PER_KIND)
    for number, picture in enumerate(pictures):
      out = io.BytesIO()
      picture.save(out, 'PNG')
      yield kind, out.getvalue(), pathlib.Path(str(number))
  if more:
    for _, data, path in files([more], 1):
      yield 'pictures of --more', data, path


def seen(data: bytes) -> tuple[float, dict[str, float] | None]:
  """What colours do to the log odds, and the features.

  They are minus infinity and None where an upload ends before.
  """
  try:
    found = image.open_mammogram(data)
    standard = preprocess.standardise(found, SPEC)
    picture = shown.whole(found, SPEC, standard.inverted, PICTURE_PX)
    features = gate.features(gate.look(picture))
  except errors.InputError:
    return -np.inf, None
  score, _ = gate.score(picture, intake_worker.colours(data))
  grey, _ = gate.score(picture)
  return _odds(score) - _odds(grey), features


def _odds(score: float) -> float:
  with np.errstate(divide='ignore'):
    return float(np.log(score) - np.log1p(-score)) if score < 1 else 40.0


def fit(rows: list[dict[str, float]], labels: np.ndarray) -> dict:
  """Weights of a logistic regression, as `gate.WEIGHTS` has them."""
  from sklearn import linear_model

  table = np.array([[row[name] for name in gate.WEIGHTS] for row in rows])
  usual = table[labels].mean(axis=0)
  scale = table.std(axis=0)
  # A mammogram that is refused is worse than a photograph that is not.
  model = linear_model.LogisticRegression(
    C=3.0, max_iter=10_000, class_weight={False: 1, True: 3}
  )
  model.fit((table - usual) / scale, labels)
  weights = model.coef_[0] / scale
  # Even odds stand halfway between the least mammogram and the likeliest other.
  odds = model.decision_function((table - usual) / scale)
  middle = (odds[labels].min() + odds[~labels].max()) / 2
  return {
    'usual': round(float(model.intercept_[0] - middle), 3),
    'weights': {
      name: [float(f'{mean:.4g}'), float(f'{weight:.4g}')]
      for name, mean, weight in zip(gate.WEIGHTS, usual, weights, strict=True)
    },
  }


def use(found: dict) -> None:
  """Puts weights in the place of those of the gate."""
  gate.USUAL = found['usual']
  for name, (usual, weight) in found['weights'].items():
    gate.WEIGHTS[name] = dataclasses.replace(
      gate.WEIGHTS[name], usual=usual, weight=weight
    )


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--mammograms', nargs='+', required=True, metavar='DIR')
  parser.add_argument('--every', type=int, default=1, help='take every Nth')
  parser.add_argument('--more', metavar='DIR', help='further photographs')
  parser.add_argument('--fit', metavar='JSON', help='find weights; write them')
  options = parser.parse_args()
  limit = _odds(settings.Settings(store=pathlib.Path()).gate)
  kinds: dict[tuple[str, bool], list] = {}
  for given, is_mammogram in (
    (files(options.mammograms, options.every), True),
    (others(options.more), False),
  ):
    for kind, data, path in given:
      kinds.setdefault((kind, is_mammogram), []).append((*seen(data), path))
  if options.fit:
    even = [
      (features, is_mammogram)
      for (_, is_mammogram), those in kinds.items()
      for _, features, _ in those[::2]
      if features is not None
    ]
    found = fit([row for row, _ in even], np.array([one for _, one in even]))
    pathlib.Path(options.fit).write_text(json.dumps(found, indent=1))
    use(found)
  for (kind, is_mammogram), those in kinds.items():
    scores = [
      colours + (gate.weighed(features)[0] if features else 0)
      for colours, features, _ in those
    ]
    for number, (score, (*_, path)) in enumerate(
      zip(scores, those, strict=True)
    ):
      if (score < limit) == is_mammogram:
        print(f'  wrong: {kind} {number}: {path.name} {score:.1f}')
    for part, half in (('even', scores[::2]), ('odd', scores[1::2])):
      if not half:
        continue
      wrong = sum((score < limit) == is_mammogram for score in half)
      ends = np.percentile(half, (0, 1, 50, 99, 100), method='nearest')
      print(
        f'{"refused" if is_mammogram else "taken":<8}{kind:<24}{part:<5}'
        f'{wrong:>4} of {len(half):<5} log odds {ends.round(1).tolist()}',
        flush=True,
      )
  return 0


if __name__ == '__main__':
  sys.exit(main())
