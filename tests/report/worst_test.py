import io

import numpy as np
import report_example as example
from PIL import Image

from rsna_jax import aggregate
from rsna_jax.report import worst


def made():
  table = example.columns(80)
  p = np.random.default_rng(0).random(80)
  breasts = aggregate.breasts(
    table['prediction_id'], table['patient_id'], p, table['cancer']
  )
  return table, p, breasts


def test_the_worst_are_the_surest_negatives_and_the_faintest_positives():
  table, p, breasts = made()
  found = worst.choose(table, p, breasts, 6)
  healthy = breasts['label'] == 0
  expected = np.sort(breasts['cancer'][healthy])[::-1][:3].tolist()
  expected += np.sort(breasts['cancer'][~healthy])[:3].tolist()
  assert [x['breast'] for x in found] == expected
  assert [x['rank'] for x in found] == [1, 2, 3, 1, 2, 3]
  for one in found:
    mine = table['prediction_id'] == one['prediction_id']
    assert one['image'] == p[mine].max()
    assert p[one['index']] == one['image']


def test_there_are_never_more_than_twelve_and_none_where_none_are_wanted():
  table, p, breasts = made()
  assert len(worst.choose(table, p, breasts, 100)) == 12
  assert worst.choose(table, p, breasts, 0) == []
  breasts['label'][:] = -1
  assert worst.choose(table, p, breasts, 12) == []


def test_pictures_are_of_the_right_rows_and_maps_lie_where_they_are_given():
  table, p, breasts = made()
  rows = np.arange(80) + 100
  asked = []

  def explain(row):
    asked.append(row)
    values = np.zeros((64, 32), np.float32)
    values[:32] = 1
    return values if row % 2 else None

  found = worst.pictures(
    table, p, breasts, example.Data(), rows, explain=explain, count=12
  )
  assert asked == [100 + x['index'] for x in found]
  for one in found:
    with Image.open(io.BytesIO(one['picture'])) as picture:
      assert picture.format == 'JPEG'
      shown = float(np.asarray(picture).mean())
    expected = (100 + one['index']) % 200 + 20
    assert abs(shown - expected) < 2
    assert (one['map'] is None) == (one['index'] % 2 == 0)
    if one['map']:
      pixels = np.asarray(Image.open(io.BytesIO(one['map'])), float)
      spread = pixels.max(axis=2) - pixels.min(axis=2)
      assert spread[:24].mean() > 40
      assert spread[40:].mean() < 5
  assert {x['age'] for x in found} - {'age unknown'}


def test_pictures_of_16_bits_and_large_ones_become_small_jpegs():
  out = io.BytesIO()
  values = np.full((1024, 512), 0x8000, np.uint16)
  Image.fromarray(values).save(out, format='PNG')
  pixels = worst.decode(out.getvalue())
  assert pixels.dtype == np.uint8
  assert (pixels == 0x80).all()
  small = worst.jpeg(pixels)
  assert len(small) < 10_000
  assert Image.open(io.BytesIO(small)).size == (180, 360)
