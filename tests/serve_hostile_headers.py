"""A12 to A15 and A22 to A27: DICOM elements with values that no one expects."""

import struct
from collections.abc import Iterator

import numpy as np
import pydicom
import serve_mammograms as mammograms
from serve_hostile import CANARY, OK, Case, case
from serve_hostile_dicom import before_pixels, element

_WINDOW = ('WindowCenter', 'WindowWidth')
_STORAGE = '1.2.840.10008.5.1.4.1.1.'


def cases() -> Iterator[Case]:
  yield from _sizes()
  yield from _depths()
  yield from _greys()
  yield from _not_mammograms()
  yield from _texts()
  yield case(
    'A27',
    'BurnedInAnnotation',
    mammograms.dicom(BurnedInAnnotation='YES'),
    OK,
    warned='burned into',
  )
  labelled = mammograms.grey().copy()
  labelled[20:34, 220:224] = labelled[20:24, 220:240] = 255
  yield case(
    'A27', 'text in the air', mammograms.dicom(labelled), OK, warned='text'
  )


def changed(vr: bytes, value: bytes, tag: tuple[int, int]) -> bytes:
  """A sound file whose element has another VR and value."""
  data = mammograms.dicom()
  at = data.index(struct.pack('<HH', *tag), 132)
  (length,) = struct.unpack_from('<H', data, at + 6)
  new = struct.pack('<HH2sH', *tag, vr, len(value)) + value
  return data[:at] + new + data[at + 8 + length :]


def raw(keyword: str, text: str) -> bytes:
  """An element whose value is a text that pydicom would not write."""
  tag = pydicom.datadict.tag_for_keyword(keyword)
  value = text.encode() + b' ' * (len(text) % 2)
  vr = pydicom.datadict.dictionary_VR(tag).encode()[:2]
  head = struct.pack('<HH2sH', tag >> 16, tag & 0xFFFF, vr, len(value))
  return head + value


def _sizes() -> Iterator[Case]:
  for rows, columns in (
    (65535, 65535),
    (0, 0),
    (0, 256),
    (320, 0),
    (1, 65535),
    (65535, 1),
    (320, 257),
    (256, 320),
    (160, 256),
    (7000, 7000),
    (63, 63),
  ):
    answers = ['E_DIMS']
    # More pixels than the file has is a file cut short.
    if rows * columns > 320 * 256:
      answers.append('E_DAMAGED')
    # The same number of pixels in another shape is another picture.
    if rows * columns == 320 * 256:
      answers += ['E_NOT_MAMMO']
    data = mammograms.dicom(Rows=rows, Columns=columns)
    yield case('A12', f'{rows}x{columns}', data, *answers)
  none = mammograms.dicom(Rows=None, Columns=None)
  yield case('A12', 'no rows, no columns', none, 'E_DIMS')
  yield case('A12', 'no rows', mammograms.dicom(Rows=None), 'E_DIMS')
  for name, vr, value in (
    ('negative rows', b'SS', struct.pack('<h', -320)),
    ('rows as text', b'LO', CANARY.encode()),
    ('rows as a fraction', b'DS', b'320.'),
    ('three rows', b'US', struct.pack('<3H', 320, 320, 320)),
    ('empty rows', b'US', b''),
    ('rows of one byte', b'US', b'\1'),
  ):
    data = changed(vr, value, (0x0028, 0x0010))
    yield case('A12', name, data, 'E_DIMS', 'E_DAMAGED', OK)
  for frames in ('1000000000', '-1', '2', '0', CANARY, '1e9', '1\\1'):
    text = frames.encode() + b' ' * (len(frames) % 2)
    data = before_pixels(
      struct.pack('<HH2sH', 0x28, 8, b'IS', len(text)) + text
    )
    answers = ('E_FRAMES', 'E_DAMAGED')
    yield case('A13', f'frames {frames[:6]!r}', data, *answers)
  found = mammograms.dataset(NumberOfFrames=2)
  found.SOPClassUID = _STORAGE + '13.1.3'
  found.PixelData = found.PixelData * 2
  yield case('A13', 'tomosynthesis', mammograms.written(found), 'E_FRAMES')


def _depths() -> Iterator[Case]:
  for name, elements in (
    ('BitsAllocated 12', {'BitsAllocated': 12}),
    ('BitsAllocated 1', {'BitsAllocated': 1, 'BitsStored': 1, 'HighBit': 0}),
    ('BitsAllocated 64', {'BitsAllocated': 64}),
    ('BitsAllocated 32', {'BitsAllocated': 32}),
    ('BitsAllocated 0', {'BitsAllocated': 0}),
    ('BitsAllocated missing', {'BitsAllocated': None}),
    ('BitsStored 9 of 8', {'BitsStored': 9, 'HighBit': 8}),
    ('BitsStored 0', {'BitsStored': 0}),
    ('HighBit 15 of 8', {'HighBit': 15}),
    ('HighBit 3 of 8', {'HighBit': 3}),
    ('PixelRepresentation 7', {'PixelRepresentation': 7}),
    ('SamplesPerPixel 0', {'SamplesPerPixel': 0}),
    ('SamplesPerPixel 255', {'SamplesPerPixel': 255}),
    ('SamplesPerPixel 3', {'SamplesPerPixel': 3}),
  ):
    yield case('A14', name, mammograms.dicom(**elements), 'E_BITS')
  for name in ('MONOCHROME3', 'HSV', 'CMYK', 'RGB', 'YBR_FULL', '', CANARY):
    data = before_pixels(raw('PhotometricInterpretation', name))
    yield case('A15', name or 'empty', data, 'E_BITS')
  palette = 'PALETTE COLOR'
  data = mammograms.dicom(PhotometricInterpretation=palette)
  yield case('A15', 'palette without tables', data, 'E_BITS')
  short = mammograms.dataset(PhotometricInterpretation=palette)
  for channel in ('Red', 'Green', 'Blue'):
    table = f'{channel}PaletteColorLookupTable'
    setattr(short, f'{table}Descriptor', [0, 0, 16])
    setattr(short, f'{table}Data', b'\0\0')
  yield case('A15', 'palette of one', mammograms.written(short), 'E_BITS')


def _greys() -> Iterator[Case]:
  for name, elements in (
    ('width 0', {'WindowCenter': '100', 'WindowWidth': '0'}),
    ('width -1', {'WindowCenter': '100', 'WindowWidth': '-1'}),
    ('width nan', {'WindowCenter': '100', 'WindowWidth': 'nan'}),
    ('width 1e400', {'WindowCenter': '100', 'WindowWidth': '1e400'}),
    ('width inf', {'WindowCenter': '-inf', 'WindowWidth': 'inf'}),
    ('width text', {'WindowCenter': CANARY, 'WindowWidth': CANARY}),
    ('99 windows', dict.fromkeys(_WINDOW, '\\'.join(['0'] * 99))),
    ('slope inf', {'RescaleSlope': 'inf', 'RescaleIntercept': '0'}),
    ('slope nan', {'RescaleSlope': 'nan', 'RescaleIntercept': 'nan'}),
    ('slope 0', {'RescaleSlope': '0', 'RescaleIntercept': '0'}),
    ('slope 1e-45', {'RescaleSlope': '1e-45', 'RescaleIntercept': '1e400'}),
    ('function', {'VOILUTFunction': CANARY}),
    ('padding', {'PixelPaddingValue': '65535'}),
  ):
    data = b''.join(raw(k, v) for k, v in elements.items())
    yield case('A22', name, before_pixels(data), OK)
  for keyword in ('VOILUTSequence', 'ModalityLUTSequence'):
    for name, descriptor, values in (
      ('short', [256, 0, 16], b'\0' * 10),
      ('empty', [0, 0, 16], b''),
      ('of one', [1, 0, 8], b'\0\0'),
    ):
      item = pydicom.Dataset()
      item.LUTDescriptor = descriptor
      item.LUTData = values
      item['LUTDescriptor'].VR = 'US'
      item['LUTData'].VR = 'OW'
      found = mammograms.dataset(**{keyword: [item]})
      answers = (OK,) if name != 'of one' else (OK, 'E_NOT_MAMMO')
      data = mammograms.written(found)
      yield case('A22', f'{keyword} {name}', data, *answers)


def _not_mammograms() -> Iterator[Case]:
  for modality in ('CT', 'US', 'MR', 'SR', CANARY):
    data = before_pixels(raw('Modality', modality))
    yield case('A23', f'modality {modality}', data, 'E_NOT_MAMMO')
  for part in ('CHEST', 'Hand', 'L SPINE'):
    data = mammograms.dicom(BodyPartExamined=part)
    yield case('A23', f'body part {part}', data, 'E_NOT_MAMMO')
  for name, end in (
    ('CT', '2'),
    ('MR', '4'),
    ('ultrasound', '6.1'),
    ('PDF', '104.1'),
    ('report', '88.11'),
    ('waveform', '9.1.1'),
    ('RT dose', '481.2'),
    ('ophthalmic photograph', '77.1.5.1'),
  ):
    data = mammograms.dicom(SOPClassUID=_STORAGE + end, Modality='MG')
    yield case('A23', f'class {name}', data, 'E_NOT_MAMMO')
  data = mammograms.dicom(ImageType=['ORIGINAL', 'PRIMARY', 'LOCALIZER'])
  yield case('A23', 'localizer', data, 'E_NOT_MAMMO')
  unshown = mammograms.dicom(PresentationIntentType='FOR PROCESSING')
  yield case('A23', 'raw', unshown, 'E_UNUSABLE')
  y, x = np.mgrid[:320, :256]
  rng = np.random.default_rng(0)
  for name, pixels in (
    ('blank', np.zeros((320, 256))),
    ('white', np.full((320, 256), 255)),
    ('noise', rng.integers(0, 256, (320, 256))),
    ('ramp', x),
    ('chessboard', ((x // 32 + y // 32) % 2) * 255),
    ('disk', 255 * ((x - 128) ** 2 + (y - 160) ** 2 < 80**2)),
    ('stripes', ((y // 16) % 2) * 200),
  ):
    data = mammograms.dicom(pixels.astype(np.uint8))
    yield case('A23', name, data, 'E_NOT_MAMMO')


def _texts() -> Iterator[Case]:
  for name, text in (
    ('path', '../../../etc/passwd'),
    ('zero byte', 'a\0b'),
    ('drive', 'C:\\Windows'),
    ('10 kB', CANARY * 800),
    ('right to left', '\u202ecod.exe'),
    ('script', f'<script>{CANARY}</script>'),
    ('template', '{{7*7}}'),
    ('formula', f'=cmd|"/c {CANARY}"!A1'),
  ):
    value = text.encode('utf-8')[:10_000]
    value += b' ' * (len(value) % 2)
    extra = b''.join(
      struct.pack('<HH2sH', *tag, b'LO', len(value)) + value
      for tag in (
        (0x0008, 0x0080),  # institution
        (0x0008, 0x1030),  # study
        (0x0010, 0x0010),  # patient's name
        (0x0010, 0x0020),  # patient's identifier
        (0x0010, 0x0030),  # birth date
        (0x0020, 0x000D),  # UID of the study
        (0x0020, 0x0013),  # number of the image
        (0x0020, 0x4000),  # comments
      )
    )
    yield case('A24', name, before_pixels(extra), OK)
  for keyword in ('ImageLaterality', 'ViewPosition', 'PatientAge'):
    data = before_pixels(raw(keyword, f'{CANARY}<b>'))
    yield case('A24', keyword, data, OK)
  private = element(0x0011, 0x1001, b'UN', CANARY.encode() * 99)
  yield case('A24', 'private element', before_pixels(private), OK)
  for name, value in (
    ('unknown', CANARY.encode()),
    ('escapes', b'\\ISO 2022 IR 87\\ISO 2022 IR 159' * 9),
    ('many', b'\\'.join([b'ISO 2022 IR 6'] * 900)),
    ('UTF-8', b'ISO_IR 192'),
  ):
    value += b' ' * (len(value) % 2)
    sets = struct.pack('<HH2sH', 8, 5, b'CS', len(value)) + value
    junk = b'\x1b$B\xff\xfe\x80' * 1000
    sets += struct.pack('<HH2sH', 0x10, 0x10, b'PN', len(junk)) + junk
    sets += struct.pack('<HH2sH', 0x10, 0x20, b'LO', len(junk)) + junk
    yield case('A25', name, before_pixels(sets), OK, 'E_DAMAGED')
