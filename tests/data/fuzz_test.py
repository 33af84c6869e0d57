"""A few of the damaged files of scripts/fuzz_decode.py, through the pool."""

import importlib
import io
import pathlib

import numpy as np
import pydicom
import pytest
from pydicom import uid

from rsna_jax.data import damage, dicom

SCRIPTS = pathlib.Path(__file__).parents[2] / 'scripts'
FILES = 64


@pytest.fixture
def scripts(monkeypatch):
  """Modules fuzz_files and fuzz_decode, which children import as well."""
  monkeypatch.syspath_prepend(SCRIPTS)
  return [importlib.import_module(n) for n in ('fuzz_files', 'fuzz_decode')]


def test_damaged_files_are_read_as_they_were_or_refused_in_one_line(scripts):
  fuzz_files, fuzz_decode = scripts
  found = list(fuzz_decode.outcomes(FILES, seed=0, workers=1))
  assert {o.kind for o in found} == set(damage.KINDS)
  assert {o.syntax for o in found} == {s.name for s in fuzz_files.SYNTAXES}
  for outcome in found:
    assert not fuzz_decode.is_bad(outcome), outcome
    assert outcome.pixels not in (fuzz_decode.FAULT, fuzz_decode.DIED), outcome
    refused = outcome.pixels == fuzz_decode.REFUSED
    assert bool(outcome.messages) >= refused
    for message in outcome.messages:
      assert message.count('.dcm: ') == 1
  kinds = {outcome.pixels for outcome in found}
  assert {fuzz_decode.IDENTICAL, fuzz_decode.REFUSED} <= kinds
  assert f'| all | {FILES} |' in fuzz_decode.table(found, lambda o: o.syntax)


def test_every_transfer_syntax_that_is_read_is_damaged(scripts):
  fuzz_files, _ = scripts
  assert not fuzz_files.MISSING
  assert set(fuzz_files.SYNTAXES) == set(dicom.TRANSFER_SYNTAXES)


def test_a_codestream_and_a_header_that_disagree_are_seen(scripts, tmp_path):
  fuzz_files, _ = scripts
  path = tmp_path / 'a.dcm'
  for syntax in fuzz_files.SYNTAXES:
    data = fuzz_files.sound(syntax, (96, 80), 21).data
    path.write_bytes(data)
    assert fuzz_files.disagreement(str(path)) == ''
    for rows, columns in ((97, 80), (96, 40), (48, 80), (80, 97)):
      ds = pydicom.dcmread(io.BytesIO(data))
      ds.Rows, ds.Columns = rows, columns
      ds.save_as(path)
      assert fuzz_files.disagreement(str(path)), (syntax.name, rows, columns)


def test_bits_that_disagree_are_seen(scripts, tmp_path):
  fuzz_files, _ = scripts
  path = tmp_path / 'a.dcm'
  for syntax in (uid.JPEG2000Lossless, uid.JPEGLosslessSV1, uid.RLELossless):
    ds = pydicom.dcmread(
      io.BytesIO(fuzz_files.sound(syntax, (96, 80), 21).data)
    )
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.save_as(path)
    assert 'header 8' in fuzz_files.disagreement(str(path))


def test_a_digest_tells_shapes_and_values_apart(scripts):
  fuzz_files, _ = scripts
  pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
  same = fuzz_files.digest(pixels)
  assert same == fuzz_files.digest(pixels.copy())
  assert same != fuzz_files.digest(pixels.reshape(4, 3))
  assert same != fuzz_files.digest(pixels + 1)


def test_damaged_shares_are_found_and_nothing_else(scripts, tmp_path, capsys):
  _, fuzz_decode = scripts
  options = fuzz_decode.parser().parse_args(
    ['--patients', '1', '--workers', '1']
  )
  for share in (0.2, 1.0):
    assert fuzz_decode.corrupt(tmp_path, share, options) == 0
    assert '| yes |' in capsys.readouterr().out
