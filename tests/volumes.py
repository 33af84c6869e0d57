"""Small mammograms of one or many frames as DICOM files, with names in them."""

import numpy as np
import openjpeg.utils
import pydicom
from PIL import Image, ImageDraw, ImageFont
from pydicom import encaps, uid

# What must never leave: as bytes, whatever the case.
CANARIES = ('CANARYDOE', 'CANARYHOSP', 'CANARY-7781', '19430121', 'CANARYTXT')


def breast(shape=(320, 240), seed=0) -> tuple[np.ndarray, np.ndarray]:
  """(rows, cols) int64 of 12 bits on 0, and the bool mask of the breast."""
  y, x = np.mgrid[: shape[0], : shape[1]]
  inside = ((y / shape[0] - 0.5) / 0.4) ** 2 + (x / shape[1] / 0.6) ** 2 < 1
  grey = np.random.default_rng(seed).integers(1200, 2600, shape)
  return np.where(inside, grey, 0), inside


def letters(text: str, shape, place, size=14) -> np.ndarray:
  """(rows, cols) bool: text whose box starts at `place` (row, column)."""
  page = Image.new('L', shape[::-1])
  draw = ImageDraw.Draw(page)
  font = ImageFont.load_default(size=size)
  left, top, _, _ = draw.textbbox((0, 0), text, font=font)
  draw.text((place[1] - left, place[0] - top), text, fill=255, font=font)
  return np.asarray(page) > 60


def write(path, frames, *, enhanced=False, jpeg2000=False, **elements) -> None:
  """Writes frames (n, rows, cols) or (rows, cols) of 12 bits, and canaries.

  Args:
    path: of the file.
    frames: integers.
    enhanced: whether window and spacing stand in functional groups.
    jpeg2000: whether to compress the frames.
    elements: others, by keyword; None leaves one out.
  """
  frames = np.asarray(frames).astype(np.uint16)
  stack = frames if frames.ndim == 3 else frames[None]
  ds = pydicom.Dataset()
  ds.file_meta = pydicom.dataset.FileMetaDataset()
  ds.file_meta.TransferSyntaxUID = (
    uid.JPEG2000Lossless if jpeg2000 else uid.ExplicitVRLittleEndian
  )
  ds.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
  ds.SOPInstanceUID = '1.2.3.7781'
  ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
  ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
  ds.PatientName, ds.PatientID = 'CANARYDOE^JANE', 'CANARY-7781'
  ds.PatientBirthDate, ds.InstitutionName = '19430121', 'CANARYHOSP'
  ds.ImageComments, ds.Modality = 'CANARYTXT', 'MG'
  ds.BurnedInAnnotation = 'NO'
  ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
  ds.Rows, ds.Columns = stack.shape[1:]
  ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
  ds.PixelRepresentation = 0
  if frames.ndim == 3:
    ds.NumberOfFrames = len(stack)
  place = ds
  if enhanced:
    place, window, measures = (pydicom.Dataset() for _ in range(3))
    window.WindowCenter, window.WindowWidth = 1500, 3000
    measures.SliceThickness = 1.5
    place.FrameVOILUTSequence = [window]
    place.PixelMeasuresSequence = [measures]
    ds.SharedFunctionalGroupsSequence = [place]
  else:
    ds.WindowCenter, ds.WindowWidth = 1500, 3000
  for keyword, value in elements.items():
    if value is not None:
      setattr(ds, keyword, value)
    elif keyword in ds:
      delattr(ds, keyword)
  if jpeg2000:
    ds.PixelData = encaps.encapsulate(
      [
        openjpeg.utils.encode_array(frame, bits_stored=12, codec_format=0)
        for frame in stack
      ]
    )
    ds['PixelData'].VR = 'OB'
  else:
    ds.PixelData = stack.tobytes()
  path.parent.mkdir(parents=True, exist_ok=True)
  ds.save_as(path, enforce_file_format=True)


def leaks(folder) -> list[str]:
  """Files below a folder that hold a canary, in content or name."""
  found = []
  for path in sorted(folder.rglob('*')):
    data = path.read_bytes().upper() if path.is_file() else b''
    data += path.name.upper().encode()
    found += [f'{path}: {c}' for c in CANARIES if c.encode() in data]
  return found
