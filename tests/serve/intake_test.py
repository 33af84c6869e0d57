import dataclasses
import pathlib
import threading

import numpy as np
import pytest
import serve_mammograms as mammograms

from rsna_jax.data import image, preprocess, sandbox
from rsna_jax.serve import problems, settings
from rsna_jax.serve.intake import intake, sniff
from rsna_jax.serve.store import near

SPEC = preprocess.Spec(size=(64, 32))


@pytest.fixture(scope='module')
def limits():
  return settings.Settings(store=pathlib.Path('unused'), decoders=1)


@pytest.fixture(scope='module')
def reader(limits):
  with intake.Intake(limits) as reader:
    reader.start()
    yield reader


def _refused(reader, data, name='a'):
  with pytest.raises(problems.Problem) as found:
    reader.read(data, name, [SPEC.to_json()])
  return found.value.code


@pytest.mark.parametrize('kind', ['dicom', 'png', 'jpeg', 'pgm'])
def test_each_kind_is_standardised_as_everywhere_else(reader, kind):
  if kind == 'dicom':
    data = mammograms.dicom()
  else:
    form = {'png': 'PNG', 'jpeg': 'JPEG', 'pgm': 'PPM'}[kind]
    data = mammograms.picture(mammograms.grey(), form)
  upload = reader.read(data, f'a/b.{kind}', [SPEC.to_json()])
  expected = preprocess.standardise(image.open_mammogram(data), SPEC)
  np.testing.assert_array_equal(upload.pixels[0], expected.pixels)
  assert upload.kind == kind
  assert upload.name == f'b.{kind}'
  assert upload.box == expected.box
  assert upload.original_shape == mammograms.SHAPE
  assert upload.picture.shape == mammograms.SHAPE
  np.testing.assert_array_equal(upload.to_original, expected.to_original)
  if kind == 'dicom':
    assert upload.attributes == {'laterality': 'L', 'view': 'CC', 'age': 61}
  assert upload.kept is None


def test_several_specs_are_made_of_one_decoding(reader):
  specs = [SPEC, preprocess.Spec(size=(32, 32), bits=16)]
  upload = reader.read(mammograms.dicom(), 'a', [s.to_json() for s in specs])
  assert [p.shape for p in upload.pixels] == [(64, 32), (32, 32)]
  assert [p.dtype.itemsize for p in upload.pixels] == [1, 2]


def test_what_is_no_image_is_refused_before_it_is_decoded(limits):
  # This intake has no children: it would fail to start one.
  reader = intake.Intake(limits)
  reader._pool.call = None
  assert _refused(reader, b'') == 'E_EMPTY'
  assert _refused(reader, b'x') == 'E_DAMAGED'
  assert _refused(reader, b'%PDF-1.7' + bytes(999)) == 'E_TYPE'
  assert _refused(reader, bytes(limits.file_bytes + 1)) == 'E_SIZE'
  preamble = b'MZ' + mammograms.dicom()[2:]
  assert _refused(reader, preamble) == 'E_PREAMBLE'
  assert _refused(reader, mammograms.dicom(), 'a.png') == 'E_UNUSABLE'


def _kept(reader, data, spec=SPEC):
  upload = reader.read(data, 'a', [spec.to_json()], keep=True)
  return upload, preprocess.decode_png(upload.kept.png)


def test_what_is_kept_is_the_breast_alone_in_whole_size(reader):
  pixels = mammograms.grey().copy()
  pixels[20:40, 200:230] = 255  # a label in the air
  upload, kept = _kept(reader, mammograms.dicom(pixels))
  assert kept.dtype == np.uint8
  assert kept.shape == pixels.shape == (upload.kept.rows, upload.kept.columns)
  assert not kept[20:40, 200:230].any()
  inside = mammograms.grey() > 60
  # The range of the stored values is the window, where there is none.
  np.testing.assert_allclose(kept[inside], pixels[inside], atol=1)
  assert (kept[mammograms.grey() == 0] == 0).mean() > 0.99
  prints = near.fingerprints(kept)
  assert upload.kept.fingerprints == prints


def test_what_is_kept_leads_to_the_same_standard_image(reader):
  spec = preprocess.Spec(size=(128, 64), quality='exact')
  pixels = (mammograms.grey(1, (640, 512)).astype(np.uint16) << 4) + 3
  data = mammograms.dicom(pixels, BitsStored=12, HighBit=11)
  upload, kept = _kept(reader, data, spec)
  assert kept.dtype == np.uint16
  again = preprocess.standardise(
    image.open_mammogram(upload.kept.png), spec
  ).pixels
  first = upload.pixels[0].astype(int)
  assert np.abs(first - again).mean() < 1
  assert np.percentile(np.abs(first - again), 99) < 12


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'PPM'])
def test_no_byte_of_the_upload_beside_its_pixels_is_kept(reader, form):
  data = mammograms.picture(mammograms.grey(), form)
  _, kept = _kept(reader, data)
  tail = b'PK\3\4CANARY<?php <script>'
  upload, again = _kept(reader, data + tail)
  np.testing.assert_array_equal(kept, again)
  assert b'CANARY' not in upload.kept.png
  # Nothing but a header, pixels and an end.
  chunks, at = [], 8
  while at < len(upload.kept.png):
    length = int.from_bytes(upload.kept.png[at : at + 4], 'big')
    chunks.append(upload.kept.png[at + 4 : at + 8])
    at += 12 + length
  assert set(chunks) <= {b'IHDR', b'IDAT', b'IEND'}


def test_of_a_header_nothing_that_names_anybody_is_given_back(reader):
  data = mammograms.dicom(
    PatientID='12345', InstanceNumber='678', PatientName='CANARY'
  )
  upload, _ = _kept(reader, data)
  assert upload.attributes == {'laterality': 'L', 'view': 'CC', 'age': 61}
  assert 'CANARY' not in repr(upload)
  assert b'CANARY' not in upload.kept.png


def test_an_inverted_picture_is_turned_and_that_is_said(reader):
  data = mammograms.picture(255 - mammograms.grey(), 'PNG')
  upload = reader.read(data, 'a.png', [SPEC.to_json()])
  assert any('exchanged' in text for text in upload.warnings)
  expected = reader.read(
    mammograms.picture(mammograms.grey(), 'PNG'), 'a.png', [SPEC.to_json()]
  )
  difference = upload.pixels[0].astype(int) - expected.pixels[0]
  # Its greys are the range of the pixels, air and all, in both.
  assert np.abs(difference).mean() < 4
  assert not any('exchanged' in text for text in expected.warnings)


def test_text_that_the_header_admits_is_told(reader):
  data = mammograms.dicom(BurnedInAnnotation='YES')
  assert reader.read(data, 'a', [SPEC.to_json()]).burned_in
  assert not reader.read(mammograms.dicom(), 'a', [SPEC.to_json()]).burned_in


def test_colours_are_told(reader):
  colours = np.repeat(mammograms.grey()[..., None], 3, 2).copy()
  colours[..., 2] //= 2
  upload = reader.read(
    mammograms.picture(colours, 'PNG'), 'a.png', [SPEC.to_json()]
  )
  assert any('colours' in text for text in upload.warnings)


@pytest.mark.parametrize(
  'given, shown',
  [
    ('../../etc/passwd', 'passwd'),
    ('C:\\a\\b.dcm', 'b.dcm'),
    ('a\0b\r\n.png', 'a_b__.png'),
    ('<b>"x".png', '_b__x_.png'),
    ('\u202egnp.exe', '_gnp.exe'),
    ('Brüste 1.png', 'Brüste 1.png'),
    ('x' * 500 + '.png', 'x' * 60 + '.png'),
    ('', 'image'),
    ('..', 'image'),
  ],
)
def test_names_are_for_display_alone(given, shown):
  assert sniff.shown_name(given) == shown


def test_more_files_than_may_wait_are_sent_away(limits):
  few = dataclasses.replace(limits, queue=1, decoders=1)
  reader = intake.Intake(few)
  asked, go = threading.Semaphore(0), threading.Event()

  def call(item, name):
    asked.release()
    go.wait(30)
    return {'refused': ('E_BITS', 'no')}

  reader._pool.call = call
  codes = []
  threads = [
    threading.Thread(
      target=lambda: codes.append(_refused(reader, mammograms.dicom()))
    )
    for _ in range(2)
  ]
  for thread in threads:
    thread.start()
    asked.acquire()
  with pytest.raises(problems.Problem) as found:
    reader.read(mammograms.dicom(), 'a', [SPEC.to_json()])
  assert found.value.code == 'E_BUSY'
  assert found.value.retry_after_s > 0
  go.set()
  for thread in threads:
    thread.join()
  assert codes == ['E_BITS', 'E_BITS']


@pytest.mark.parametrize(
  'about, code',
  [
    ('time', 'E_LIMITS'),
    ('memory', 'E_LIMITS'),
    ('crash', 'E_DAMAGED'),
    ('killed', 'E_BUSY'),
  ],
)
def test_a_child_that_gives_up_is_a_problem_of_the_file(limits, about, code):
  reader = intake.Intake(limits)

  def call(item, name):
    raise sandbox.SandboxError('/a/path: KeyError: CANARY', about)

  reader._pool.call = call
  with pytest.raises(problems.Problem) as found:
    reader.read(mammograms.dicom(), 'a', [SPEC.to_json()])
  assert found.value.code == code
  assert 'CANARY' not in found.value.message
  assert '/a/path' not in found.value.message


def test_a_child_that_runs_out_of_time_and_memory_is_replaced(limits):
  tight = dataclasses.replace(limits, decode_s=0.2)
  big = mammograms.dicom(mammograms.grey(0, (2400, 2000)))
  with intake.Intake(tight) as reader:
    assert _refused(reader, big) == 'E_LIMITS'
  small = dataclasses.replace(limits, decode_bytes=600 << 20)
  huge = mammograms.grey().repeat(24, axis=0).repeat(24, axis=1)
  with intake.Intake(small) as reader:
    with pytest.raises(problems.Problem) as found:
      reader.read(mammograms.dicom(huge), 'a', [SPEC.to_json()], keep=True)
    assert found.value.code == 'E_LIMITS'
    assert reader.read(mammograms.dicom(), 'a', [SPEC.to_json()]).gate > 0.5
