"""Numbers and sides of the body that submissions get in RSNA's layout.

RSNA's table wants whole numbers for patients and images, a laterality in every
row and one label a breast; submissions promise neither.
"""

import hashlib
from collections.abc import Mapping, Sequence

from rsna_jax import schema

_FIRST = 2**30  # above the numbers that public data sets use
_COUNT = 2**30


def arrange(
  rows: Sequence[Mapping],
) -> tuple[list[dict], list[tuple[str, str]]]:
  """Numbers rows, and gives those of unknown laterality a breast.

  Numbers come from hashes, so that a picture has the same one in every set, and
  say nothing of who it is. Where the side of the body is not known, a picture
  goes with the breast whose label it has; which one it is called then means
  nothing. Where pictures of a known breast contradict one another, none of them
  can be used, because it is not known which one is right. Of a patient who came
  to be on both sides, as for a picture that resembles one of the other side,
  only what is held out is used.

  Args:
    rows: `submission_id`, `patient` (text), `side`, `laterality`, which may be
      empty, `cancer`, and whatever else, which is kept.

  Returns:
    The rows that can be used, in their order, with `patient_id`, `image_id`
    and a laterality; and (submission_id, reason) of those that cannot.
  """
  patients = _numbers({row['patient'] for row in rows})
  images = _numbers({row['submission_id'] for row in rows})
  breasts: dict[tuple[str, str], set[int]] = {}
  for row in rows:
    if row['laterality'] and row['cancer'] != schema.MISSING:
      key = row['patient'], row['laterality']
      breasts.setdefault(key, set()).add(row['cancer'])
  held_out = {row['patient'] for row in rows if row['side'] == 'validation'}
  torn = {key for key, labels in breasts.items() if len(labels) > 1}
  kept, left_out = [], []
  for row in rows:
    if row['side'] == 'train' and row['patient'] in held_out:
      left_out.append((row['submission_id'], 'its patient is held out'))
      continue
    laterality = row['laterality'] or _fitting(row, breasts)
    if laterality is None or (row['patient'], laterality) in torn:
      reason = (
        'images of its breast have different labels'
        if row['laterality']
        else 'both breasts of the patient have another label'
      )
      left_out.append((row['submission_id'], reason))
      continue
    kept.append(
      {
        **row,
        'laterality': laterality,
        'patient_id': patients[row['patient']],
        'image_id': images[row['submission_id']],
      }
    )
  return kept, left_out


def _fitting(
  row: Mapping, breasts: dict[tuple[str, str], set[int]]
) -> str | None:
  """A breast with the row's label, or one without any, which then has it."""
  if row['cancer'] == schema.MISSING:
    return schema.LATERALITIES[0]
  keys = [(row['patient'], side) for side in schema.LATERALITIES]
  for wanted in ({row['cancer']}, set()):
    for key in keys:
      if breasts.get(key, set()) == wanted:
        breasts[key] = {row['cancer']}
        return key[1]
  return None


def _numbers(names: set[str]) -> dict[str, int]:
  """A number for each name, the same for it in almost any company."""
  found, taken = {}, set()
  for name in sorted(names):
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big')
    while place % _COUNT in taken:
      place += 1
    taken.add(place % _COUNT)
    found[name] = _FIRST + place % _COUNT
  return found
