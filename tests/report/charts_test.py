import re

import numpy as np
import pytest

from rsna_jax import metrics
from rsna_jax.report import charts, svg


def points(text, color):
  """The vertices of the last line of a colour, in pixels."""
  path = re.findall(rf'<path d="([^"]*)" fill="none" stroke="{color}"', text)
  return np.array(
    [list(map(float, x.split())) for x in re.split('[ML]', path[-1])[1:]]
  )


def test_the_roc_curve_encloses_its_area():
  rng = np.random.default_rng(0)
  labels = (rng.random(500) < 0.3).astype(int)
  p = rng.random(500) + 0.5 * labels
  xy = points(charts.roc(labels, p), svg.BLUE)
  left, right = xy[:, 0].min(), xy[:, 0].max()
  top, bottom = xy[:, 1].min(), xy[:, 1].max()
  area = np.trapezoid(bottom - xy[:, 1], xy[:, 0])
  area /= (right - left) * (bottom - top)
  assert area == pytest.approx(metrics.roc_auc(labels, p), abs=2e-3)


def test_net_benefit_is_that_of_brute_force():
  rng = np.random.default_rng(0)
  labels = (rng.random(300) < 0.2).astype(int)
  p = rng.integers(0, 20, 300) / 20
  thresholds = np.array([0, 0.05, 0.1, 0.33, 0.5, 0.9])
  expected = [
    (
      ((p >= t) & (labels == 1)).sum()
      - ((p >= t) & (labels == 0)).sum() * t / (1 - t)
    )
    / 300
    for t in thresholds
  ]
  found = charts.net_benefit(labels, p, thresholds)
  np.testing.assert_allclose(found, expected, atol=1e-12)
  assert found[0] == pytest.approx(labels.mean())


def test_thinned_curves_keep_the_area():
  rng = np.random.default_rng(0)
  labels = (rng.random(50_000) < 0.01).astype(int)
  p = rng.random(50_000) + 0.4 * labels
  tp, fp, thresholds = charts.sweep(labels, p)
  assert len(tp) < 3_000
  assert (np.diff(thresholds) < 0).all()
  area = np.trapezoid(tp / tp[-1], fp / fp[-1])
  assert area == pytest.approx(metrics.roc_auc(labels, p), abs=1e-12)


def test_histograms_show_the_share_of_each_class():
  text = charts.histogram(
    np.array([0, 0, 0, 1]), np.array([0.1, 0.1, 0.4, 0.4])
  )
  assert 'no cancer (3)' in text
  assert 'cancer (1)' in text


def test_ticks_are_round_and_inside():
  assert svg.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
  assert svg.ticks(-0.016, 0.08) == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
  for low, high in ((0, 1e-5), (3, 12_000), (-7, -6.5)):
    found = svg.ticks(low, high)
    assert 2 <= len(found) <= 6
    assert low - 1e-9 <= min(found) <= max(found) <= high + 1e-9


def test_lines_break_at_what_is_not_finite_and_texts_are_escaped():
  chart = svg.Chart('<x>', 'y & z')
  chart.line([0, 0.5, 1], [0, np.nan, 1], svg.BLUE, '<b>')
  text = chart.svg('"quoted"')
  assert text.count('M62 284') >= 1
  assert points(text, svg.BLUE).shape == (2, 2)
  assert '&lt;x&gt;' in text
  assert '&lt;b&gt;' in text
  assert 'y &amp; z' in text
  assert '&quot;quoted&quot;' in text


def test_a_curve_of_one_value_still_has_axes():
  found = charts.history([{'step': 5, 'train/loss': 0.5}])
  assert '<circle' in found['loss']
  assert 'nan' not in found['loss']
