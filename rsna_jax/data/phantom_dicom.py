"""Machines that take breast phantoms, and the DICOM files they write.

Modelled on the files of the RSNA 2022 set: no Modality and no ViewPosition,
one transfer syntax a machine, both polarities.
"""

import dataclasses
import zlib

import imagecodecs
import numpy as np
import openjpeg.utils
import pydicom
import pydicom.dataset
import pydicom.encaps
import pydicom.filebase
import pydicom.uid
from PIL import Image, ImageDraw, ImageFont


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
  """How one machine turns presentation values into stored values.

  `weight` is its share of patients, `size` rows and columns, `low` and `high`
  the stored values of presentation 0 and 1 (high below low: MONOCHROME1),
  `noise` the deviation of the quantum noise at white, `labels` the share of
  images with a burned-in label, `turned` that of patients whose images face
  the other way.
  """

  site_id: int
  weight: float
  size: tuple[int, int]
  bits: int
  low: float
  high: float
  syntax: str
  window_center: tuple[float, ...]
  window_width: tuple[float, ...]
  voi_function: str = ''
  gamma: float = 1.0
  noise: float = 0.012
  labels: float = 0.7
  turned: float = 0.0
  container: bool = False  # JPEG 2000 within a JP2 file, as in the RSNA set
  coded_bits: int = 0  # precision in the codestream, where it is not `bits`

  @property
  def photometric(self) -> str:
    return 'MONOCHROME1' if self.high < self.low else 'MONOCHROME2'


_J2K = str(pydicom.uid.JPEG2000Lossless)
_SV1 = str(pydicom.uid.JPEGLosslessSV1)
MACHINES = {
  49: Machine(
    site_id=1,
    weight=0.36,
    size=(1200, 960),
    bits=12,
    low=0,
    high=4095,
    syntax=_SV1,
    window_center=(1960,),
    window_width=(3600,),
    turned=0.4,
  ),
  48: Machine(
    site_id=2,
    weight=0.18,
    size=(1080, 864),
    bits=16,
    low=12000,
    high=3000,
    syntax=_SV1,
    window_center=(7600.5, 7000),
    window_width=(6500, 8000),
    voi_function='SIGMOID',
    noise=0.009,
    labels=0.3,
  ),
  29: Machine(
    site_id=2,
    weight=0.17,
    size=(1152, 1024),
    bits=16,
    low=3140,
    high=1460,
    syntax=_J2K,
    window_center=(2302.31, 2302.31, 2520.704, 2083.916),
    window_width=(1091.97, 1091.97, 1091.97, 1091.97),
    voi_function='SIGMOID',
    noise=0.014,
    labels=0.3,
  ),
  21: Machine(
    site_id=2,
    weight=0.17,
    size=(1110, 832),
    bits=12,
    low=0,
    high=4095,
    syntax=_J2K,
    window_center=(2048,),
    window_width=(4096,),
    gamma=0.9,
    container=True,
    coded_bits=16,
    noise=0.016,
    labels=0.9,
  ),
  93: Machine(
    site_id=1,
    weight=0.12,
    size=(1024, 832),
    bits=12,
    low=40,
    high=3400,
    syntax=_J2K,
    window_center=(1720, 1500),
    window_width=(3300, 2400),
    voi_function='LINEAR',
    gamma=1.1,
    noise=0.01,
  ),
}


def stored_values(
  values: np.ndarray,
  breast: np.ndarray,
  machine: Machine,
  *,
  chest_side: str,
  label: str,
  rng: np.random.Generator,
) -> np.ndarray:
  """Turns a picture with the chest on the left into stored values.

  Args:
    values: (rows, cols) float in [0, 1].
    breast: (rows, cols) bool, the place where `values` holds.
    machine: whose grey scale, bar and label to use.
    chest_side: 'left' or 'right', of the result.
    label: text for the empty part; '' for none.
    rng: of the exposure.

  Returns:
    (rows, cols) uint16.
  """
  rows = values.shape[0]
  exposure = rng.uniform(0.92, 1.08)
  grey = np.minimum(values[breast] * np.float32(exposure), 1)
  if machine.gamma != 1:
    grey = grey ** np.float32(machine.gamma)
  grey = machine.low + (machine.high - machine.low) * grey
  if machine.photometric == 'MONOCHROME1':
    # The empty part is the padding value, beyond the darkest tissue.
    empty = round(machine.low + 0.04 * (machine.low - machine.high))
  else:
    empty = 0
  stored = np.full(breast.shape, empty, np.uint16)
  stored[breast] = np.rint(grey)
  white = round(machine.low + 0.9 * (machine.high - machine.low))
  if machine.photometric == 'MONOCHROME1':
    free = int(np.flatnonzero(breast.any(0)).max()) + 1
    width = max(round(0.012 * rows), 2)
    room = stored.shape[1] - free - width
    if room > 2:
      left = free + round(room * rng.uniform(0.3, 0.9))
      bar = round(machine.low + 0.45 * (machine.high - machine.low))
      stored[:, left : left + width] = bar
  if chest_side == 'right':
    stored, breast = stored[:, ::-1].copy(), breast[:, ::-1]
  if label:
    mask = _text(label, rows)
    top, gap = round(0.05 * rows), round(0.03 * rows)
    left = gap
    if chest_side == 'left':
      left = stored.shape[1] - gap - mask.shape[1]
    place = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
    if not breast[place].any():
      stored[place][mask] = white
  return stored


def encode(
  pixels: np.ndarray,
  machine: Machine,
  *,
  patient_id: int,
  image_id: int,
  laterality: str,
) -> bytes:
  """The bytes of a DICOM file with these stored values.

  Args:
    pixels: (rows, cols) uint16 stored values.
    machine: whose attributes and transfer syntax to use.
    patient_id: also in the UIDs.
    image_id: also in the UIDs.
    laterality: 'L' or 'R'.

  Returns:
    A DICOM file, the same bytes for the same arguments.
  """
  ds = pydicom.dataset.Dataset()
  ds.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
  ds.SOPInstanceUID = _uid(patient_id, 1, image_id)
  ds.ContentDate = '20200101'
  seconds = zlib.crc32(str(image_id).encode()) % 86_400
  minutes, second = divmod(seconds, 60)
  ds.ContentTime = f'{minutes // 60:02}{minutes % 60:02}{second:02}'
  ds.PatientID = str(patient_id)
  ds.StudyInstanceUID = _uid(patient_id)
  ds.SeriesInstanceUID = _uid(patient_id, 1)
  ds.InstanceNumber = image_id
  ds.ImageLaterality = laterality
  ds.SamplesPerPixel = 1
  ds.PhotometricInterpretation = machine.photometric
  ds.Rows, ds.Columns = pixels.shape
  ds.BitsAllocated = 16
  ds.BitsStored = machine.bits
  ds.HighBit = machine.bits - 1
  ds.PixelRepresentation = 0
  # In MONOCHROME1 the empty part is the largest value of all.
  inverted = machine.photometric == 'MONOCHROME1'
  ds.add_new('PixelPaddingValue', 'US', int(pixels.max()) if inverted else 0)
  ds.PixelIntensityRelationship = 'LOG'
  ds.PixelIntensityRelationshipSign = 1
  ds.WindowCenter = _decimals(machine.window_center)
  ds.WindowWidth = _decimals(machine.window_width)
  ds.RescaleIntercept = '0'
  ds.RescaleSlope = '1'
  ds.RescaleType = 'US'
  if machine.voi_function:
    ds.VOILUTFunction = machine.voi_function
  ds.PartialView = 'NO'
  ds.LossyImageCompression = '00'

  meta = pydicom.dataset.FileMetaDataset()
  meta.MediaStorageSOPClassUID = ds.SOPClassUID
  meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
  meta.ImplementationClassUID = pydicom.uid.PYDICOM_IMPLEMENTATION_UID
  meta.TransferSyntaxUID = machine.syntax
  ds.file_meta = meta
  if machine.syntax == _J2K:
    frame = openjpeg.utils.encode_array(
      pixels,
      bits_stored=machine.coded_bits or machine.bits,
      codec_format=int(machine.container),
    )
  else:
    frame = imagecodecs.jpeg8_encode(
      pixels, lossless=True, predictor=1, bitspersample=machine.bits
    )
  ds.PixelData = pydicom.encaps.encapsulate([frame])
  ds['PixelData'].VR = 'OB'
  ds['PixelData'].is_undefined_length = True
  out = pydicom.filebase.DicomBytesIO()
  pydicom.dcmwrite(out, ds, enforce_file_format=True)
  return out.getvalue()


def _uid(*parts):
  """A UID that depends on these numbers alone."""
  return pydicom.uid.generate_uid(
    entropy_srcs=['breast phantom', *map(str, parts)]
  )


def _decimals(values):
  texts = [f'{value:.6f}'.rstrip('0').rstrip('.') for value in values]
  return texts if len(texts) > 1 else texts[0]


def _text(label, rows):
  """(h, w) bool: the label in Pillow's own font, a fiftieth as high."""
  font = ImageFont.load_default(size=max(rows / 45, 8))
  left, top, right, bottom = font.getbbox(label)
  image = Image.new('L', (int(right - left) + 2, int(bottom - top) + 2))
  ImageDraw.Draw(image).text((1 - left, 1 - top), label, fill=255, font=font)
  return np.asarray(image) > 100
