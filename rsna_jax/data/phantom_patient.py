"""One patient of a phantom set: what is the matter, and all the images."""

import dataclasses
import math

import numpy as np

from rsna_jax import schema
from rsna_jax.data import phantom_dicom, phantom_image

MAX_PATIENTS = 40_000
_DENSITY_SHARES = (0.13, 0.41, 0.36, 0.10)
_EXTRA_VIEWS = ('ML', 'AT', 'LM', 'LMO')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phantom:
  """One image: its row (`schema.TRAIN_COLUMNS`, as text for a CSV), (rows,
  cols) uint16 stored values, machine, true density 1 to 4, the side of the
  chest wall and the lesions in pixels of the image."""

  row: dict
  pixels: np.ndarray
  machine: phantom_dicom.Machine
  density: int
  chest_side: str
  findings: tuple[phantom_image.Finding, ...]

  def encode(self) -> bytes:
    """The bytes of the DICOM file."""
    return phantom_dicom.encode(
      self.pixels,
      self.machine,
      patient_id=self.row['patient_id'],
      image_id=self.row['image_id'],
      laterality=self.row['laterality'],
    )


def generate(
  index: int,
  *,
  seed: int = 0,
  split: str = 'train',
  prevalence: float = 0.3,
  scale: float = 1.0,
) -> list[Phantom]:
  """Makes all images of one patient, from (seed, split, index) alone.

  Args:
    index: number of the patient in its split.
    seed: of the set.
    split: 'train' or 'test'.
    prevalence: share of patients who have cancer, in one breast.
    scale: factor of the size of the images; 1 is about 1100x900.

  Returns:
    4 to 8 phantoms, left breast first.
  """
  number = index + (MAX_PATIENTS if split == 'test' else 0)
  rng = _stream(seed, number, 0)
  salt = 100 if split == 'test' else 0
  # Spread evenly rather than drawn, so that a small set holds every kind.
  start = index * prevalence + _offset(seed, salt + 1)
  cancer = math.floor(start + prevalence) > math.floor(start)
  kind = ('mass', 'calcifications')[math.floor(start) % 2]
  machine_id = _machine(_even(index, seed, salt + 2, 0.6180339887))
  machine = phantom_dicom.MACHINES[machine_id]
  age = rng.normal(58, 10) + 4 * cancer
  age_text = str(int(np.clip(round(age), 26, 89)))
  if _even(index, seed, salt + 3, 0.7320508076) < 0.03:
    age_text = ''
  density = 1 + int(rng.choice(4, p=_DENSITY_SHARES))
  implant = bool(machine.site_id == 1 and rng.uniform() < 0.04)
  turned = bool(rng.uniform() < machine.turned)
  size, reach = rng.uniform(size=2)
  cancer_side = rng.integers(2)
  patient_id = 10_000 + (number * 7_919 + _offset(seed, 4, 55_333)) % 55_333

  made = []
  for breast, laterality in enumerate(schema.LATERALITIES):
    sick = bool(cancer and breast == cancer_side)
    anatomy = phantom_image.Anatomy(
      density=density,
      size=float(np.clip(size + rng.normal(0, 0.05), 0, 1)),
      reach=float(np.clip(reach + rng.normal(0, 0.05), 0, 1)),
      glandular=rng.uniform(-0.2, 0.2),
      lesion=kind if sick else '',
      lesion_depth=rng.uniform(0.2, 0.95),
      lesion_size=rng.uniform(0.030, 0.044),
      cysts=int(rng.choice(3, p=(0.5, 0.36, 0.14))),
      coarse=int(rng.choice(3, p=(0.5, 0.35, 0.15))),
      vessels=int(rng.integers(0, 3)),
      implant=implant,
    )
    labels = _labels(anatomy, machine.site_id, rng)
    for view in _views(rng):
      image_number = len(made)
      repeat = view in [
        m.row['view'] for m in made if m.row['laterality'] == laterality
      ]
      tissue = 1 + breast * 16 + schema.VIEWS.index(view)
      own = _stream(seed, number, 64 + image_number)
      picture = phantom_image.render(
        anatomy,
        view=view,
        shape=tuple(round(n * scale) for n in machine.size),
        rng=_stream(seed, number, tissue),
        noise_rng=own,
        noise=machine.noise,
        shift=own.uniform(0.005, 0.03) if repeat else 0.0,
      )
      chest_left = (laterality == 'L') != turned
      chest_side = 'left' if chest_left else 'right'
      labelled = own.uniform() < machine.labels
      pixels = phantom_dicom.stored_values(
        picture.values,
        picture.breast,
        machine,
        chest_side=chest_side,
        label=f'{laterality}-{view}' if labelled else '',
        rng=own,
      )
      width = pixels.shape[1]
      findings = tuple(
        f if chest_left else dataclasses.replace(f, x=width - f.x)
        for f in picture.findings
      )
      count = number * 32 + image_number
      image_id = 1 + (count * 1_000_000_007 + _offset(seed, 5, 2**31 - 1)) % (
        2**31 - 1
      )
      row = {
        'site_id': machine.site_id,
        'patient_id': patient_id,
        'image_id': image_id,
        'laterality': laterality,
        'view': view,
        'age': age_text,
        'implant': int(implant),
        'density': schema.DENSITIES[density - 1]
        if machine.site_id == 1
        else '',
        'machine_id': machine_id,
        **labels,
      }
      made.append(
        Phantom(
          row={name: row[name] for name in schema.TRAIN_COLUMNS},
          pixels=pixels,
          machine=machine,
          density=density,
          chest_side=chest_side,
          findings=findings,
        )
      )
  return made


def _views(rng):
  """CC and MLO; some breasts have one of them twice, or an extra view."""
  views = ['CC', 'MLO']
  if rng.uniform() < 0.15:
    views.append(views[rng.integers(2)])
  if rng.uniform() < 0.06:
    views.append(_EXTRA_VIEWS[rng.choice(4, p=(0.4, 0.35, 0.2, 0.05))])
  return views


def _labels(anatomy, site_id, rng):
  """The columns that go with a breast's finding, as the RSNA set has them."""
  draws = rng.uniform(size=3)
  sick = bool(anatomy.lesion)
  labels = {
    'cancer': int(sick),
    'biopsy': int(sick),
    'invasive': int(sick and draws[0] < 0.7),
    'BIRADS': '0' if sick and site_id == 1 else '',
    'difficult_negative_case': False,
  }
  if sick:
    return labels
  if draws[0] < (0.35 if anatomy.cysts or anatomy.coarse else 0.03):
    labels['difficult_negative_case'] = True
    labels['biopsy'] = int(draws[1] < (0.33 if site_id == 1 else 0.05))
    # Site 2 leaves BI-RADS out where there was a biopsy.
    labels['BIRADS'] = '' if site_id == 2 and labels['biopsy'] else '0'
  elif site_id == 1 and draws[1] < 0.76:
    labels['BIRADS'] = '1' if draws[2] < 0.87 else '2'
  return labels


def _machine(share):
  total = 0.0
  for machine_id, machine in phantom_dicom.MACHINES.items():
    total += machine.weight
    if share < total:
      return machine_id
  return machine_id


def _stream(seed, number, stream):
  """One of a patient's independent streams of random numbers."""
  return np.random.Generator(
    np.random.Philox(key=[seed, number], counter=[0, 0, 0, stream])
  )


def _offset(seed, salt, below=None):
  """A number of the set: in [0, 1), or an integer below `below`."""
  rng = _stream(seed, 2**40, salt)
  return float(rng.uniform()) if below is None else int(rng.integers(below))


def _even(index, seed, salt, step):
  """The index-th of numbers that fill [0, 1) evenly."""
  return (index * step + _offset(seed, salt)) % 1.0
