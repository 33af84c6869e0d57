"""A01 to A05, A35, A43 to A46: empty, of another type, misnamed, two in one."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
import serve_mammograms as mammograms
from PIL import Image
from serve_hostile import CANARY, OK, Case, case

_PREAMBLES = {
  'PE': b'MZ\x90\0' + bytes(56) + b'\x80\0\0\0',
  'ELF': b'\x7fELF\x02\x01\x01' + bytes(20),
  'HTML': b'<html><script>alert(1)</script></html>',
  'TIFF': b'II*\0\x08\0\0\0\x01\0',
  'shell': b'#!/bin/sh\nid\n#',
}


class _Bomb:
  """A pickle that makes a file when it is loaded."""

  def __reduce__(self):
    return (open, ('marker-of-a-pickle', 'w'))


def cases() -> Iterator[Case]:
  dicom = mammograms.dicom()
  png = mammograms.picture(mammograms.grey(), 'PNG')
  yield case('A01', 'empty', b'', 'E_EMPTY')
  yield case('A01', 'one byte', b'\0', 'E_DAMAGED')
  yield case('A01', 'nothing but DICM', bytes(128) + b'DICM', 'E_DAMAGED')
  yield case('A01', 'DICM and a byte', bytes(128) + b'DICM\2', 'E_DAMAGED')
  yield case(
    'A01', 'nothing but meta information', dicom[:300], 'E_DAMAGED', 'E_DIMS'
  )
  yield case('A01', 'nothing but a magic number', png[:8], 'E_DAMAGED')
  for name, data in _others():
    for suffix in ('.dcm', '.png'):
      yield case(
        'A02', f'{name}{suffix}', data, 'E_TYPE', filename='a' + suffix
      )
  for name, data in _pictures():
    yield case('A03', name, data, 'E_TYPE', filename='a.png')
  jpeg = mammograms.picture(mammograms.grey(), 'JPEG')
  pgm = mammograms.picture(mammograms.grey(), 'PPM')
  for name, data, filename in (
    ('PNG', png, 'a.dcm'),
    ('PNG', png, 'a.JPG'),
    ('JPEG', jpeg, 'a.png'),
    ('PGM', pgm, 'a.jpeg'),
    ('DICOM', dicom, 'a.jpg'),
    ('DICOM', dicom, 'a.PGM'),
  ):
    yield case(
      'A04', f'{name} named {filename}', data, 'E_UNUSABLE', filename=filename
    )
  yield case('A04', 'PNG named a.exe', png, OK, filename='a.exe', warned='PNG')
  yield case('A04', 'DICOM named 1.2.840', dicom, OK, filename='1.2.840')
  for name, start in _PREAMBLES.items():
    data = start.ljust(128, b'\0') + dicom[128:]
    yield case('A05', name, data, 'E_PREAMBLE')
  yield case('A05', 'one bit', bytes(127) + b'\1' + dicom[128:], 'E_PREAMBLE')
  start = png[:128]
  yield case('A05', 'PNG before DICM', start + dicom[128:], 'E_PREAMBLE')
  for filename in _names():
    yield case('A35', ascii(filename)[:40], png, OK, filename=filename)
  for name, data in _archives():
    yield case('A43', name, data, 'E_TYPE', filename='a.zip')
  for attack, name, data in _weights():
    yield case(attack, name, data, 'E_TYPE', filename=name)


def _others() -> Iterator[tuple[str, bytes]]:
  script = f'<script>{CANARY}</script>'
  yield 'text', CANARY.encode() * 99
  yield 'HTML', f'<!doctype html><html>{script}</html>'.encode()
  yield (
    'SVG',
    f'<svg xmlns="http://www.w3.org/2000/svg">{script}</svg>'.encode(),
  )
  yield 'PDF', b'%PDF-1.7\n1 0 obj<</OpenAction 2 0 R>>endobj\n' * 9
  yield 'ZIP', _zip({'a.dcm': mammograms.dicom()[:999]})
  yield 'MVG', b'push graphic-context\nimage over 0,0 0,0 "|id"\npop\n'
  yield 'JSON', json.dumps({'data': [CANARY] * 9}).encode()


def _pictures() -> Iterator[tuple[str, bytes]]:
  grey = mammograms.grey()
  for kind in ('TIFF', 'EPS', 'GIF', 'WEBP', 'BMP', 'ICO', 'PCX', 'JPEG2000'):
    yield kind, mammograms.picture(grey, kind)
  colour = np.repeat(grey[..., None], 3, 2)
  yield 'PPM', mammograms.picture(colour, 'PPM')
  yield 'PBM', mammograms.picture(Image.fromarray(grey).convert('1'), 'PPM')
  yield 'PSD', b'8BPS\0\1' + bytes(200)
  yield 'HEIC', b'\0\0\0\x18ftypheic' + bytes(200)
  yield 'FITS', b'SIMPLE  =                    T'.ljust(2880)


def _names() -> tuple[str, ...]:
  return (
    '../../../etc/passwd',
    'C:\\Windows\\a.png',
    'a\0.png',
    'a' * 5000 + '.png',
    'CON',
    'a\r\nSet-Cookie: b.png',
    '"; rm -rf ~; ".png',
    '\u202egnp.exe',
    '<img src=x onerror=alert(1)>.png',
    '=cmd|calc!A1.png',
    '.',
    '',
  )


def _zip(members: dict[str, bytes]) -> bytes:
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, data in members.items():
      archive.writestr(name, data)
  return out.getvalue()


def _archives() -> Iterator[tuple[str, bytes]]:
  yield 'path out of the archive', _zip({'../../a.dcm': b'x'})
  yield 'many entries', _zip({f'{i}.dcm': b'' for i in range(5000)})
  inner = _zip({'0': bytes(1 << 24)})
  yield 'archive in an archive', _zip({f'{i}.zip': inner for i in range(9)})
  link = zipfile.ZipInfo('a.dcm')
  link.external_attr = 0o120777 << 16
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w') as archive:
    archive.writestr(link, '/etc/passwd')
  yield 'link', out.getvalue()
  yield 'gzip', b'\x1f\x8b\x08\0' + bytes(99)


def _weights() -> Iterator[tuple[str, str, bytes]]:
  yield 'A44', 'a.pkl', pickle.dumps(_Bomb())
  out = io.BytesIO()
  np.savez(out, a=np.array([_Bomb()], object))
  yield 'A44', 'a.npz', out.getvalue()
  out = io.BytesIO()
  np.save(out, np.array([_Bomb()], object))
  yield 'A44', 'a.npy', out.getvalue()
  yield 'A44', 'a.pt', _zip({'archive/data.pkl': pickle.dumps(_Bomb())})
  yield 'A44', 'a.keras', _zip({'config.json': b'{"class_name": "Lambda"}'})
  yield 'A45', 'a.h5', b'\x89HDF\r\n\x1a\n' + bytes(800)
  yield 'A46', 'a.safetensors', struct.pack('<Q', 1 << 60) + b'{' * 99
  yield 'A46', 'a.msgpack', b'\x81\xa1a' * 9999
