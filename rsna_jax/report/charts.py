"""The curves of the report, each an SVG, from labels and probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np

from rsna_jax.report import plots, svg, tables

_MOST_POINTS = 1_000  # of a curve; more cannot be seen
_BINS = 40


def roc(
  labels: np.ndarray,
  probabilities: np.ndarray,
  point: tuple[float, float] | None = None,
) -> str:
  """The ROC curve.

  Args:
    labels: (N,) 0 or 1, of both.
    probabilities: (N,).
    point: sensitivity and specificity of the operating point, or None.
  """
  tp, fp, _ = sweep(labels, probabilities)
  chart = svg.Chart('False positive rate (1 − specificity)', 'Sensitivity')
  chart.line([0, 1], [0, 1], svg.GREY, 'chance', dash='5 4', width=1.2)
  chart.line(fp / fp[-1], tp / tp[-1], svg.BLUE)
  if point is not None:
    chart.dot(1 - point[1], point[0], svg.VERMILION, 'operating point')
  return chart.svg('ROC curve')


def precision_recall(
  labels: np.ndarray,
  probabilities: np.ndarray,
  point: tuple[float, float] | None = None,
) -> str:
  """Precision against recall, with the prevalence as a floor.

  Args:
    labels: (N,) 0 or 1, with a 1.
    probabilities: (N,).
    point: recall and precision of the operating point, or None.
  """
  tp, fp, _ = sweep(labels, probabilities)
  chart = svg.Chart('Recall (sensitivity)', 'Precision')
  floor = float(np.mean(labels))
  chart.line(
    [0, 1], [floor, floor], svg.GREY, 'prevalence', dash='5 4', width=1.2
  )
  precision = tp[1:] / (tp[1:] + fp[1:])
  chart.line(tp[1:] / tp[-1], precision, svg.BLUE, step=True)
  if point is not None:
    chart.dot(*point, svg.VERMILION, 'operating point')
  return chart.svg('Precision and recall')


def threshold_sweep(
  labels: np.ndarray,
  probabilities: np.ndarray,
  applied: Sequence[float] = (),
) -> str:
  """F1, precision and recall at each threshold.

  Args:
    labels: (N,) 0 or 1, with a 1.
    probabilities: (N,).
    applied: thresholds to mark.
  """
  tp, fp, thresholds = sweep(labels, probabilities)
  tp, fp, thresholds = tp[1:], fp[1:], thresholds[1:]
  chart = svg.Chart('Threshold', 'Value')
  for i, value in enumerate(applied):
    chart.line(
      [value, value],
      [0, 1],
      svg.GREY,
      None if i else 'applied',
      width=1.2,
    )
  chart.line(thresholds, tp / tp[-1], svg.GREEN, 'recall', dash='6 4')
  chart.line(
    thresholds, tp / (tp + fp), svg.VERMILION, 'precision', dash='8 3 2 3'
  )
  chart.line(thresholds, 2 * tp / (tp + fp + tp[-1]), svg.BLUE, 'F1')
  return chart.svg('F1, precision and recall by threshold')


def reliability(
  before: Sequence[Mapping], after: Sequence[Mapping] | None = None
) -> str:
  """Observed against predicted rate, with 95 % intervals.

  Args:
    before: `bins` of metrics.json's calibration, of raw probabilities.
    after: of calibrated ones; None: there is no calibration.
  """
  kinds = [('as they come', before, svg.BLUE)]
  if after is not None:
    kinds = [
      ('before calibration', before, svg.GREY),
      ('after', after, svg.BLUE),
    ]
  ends = [
    max(x['predicted'], x['observed']['high'])
    for _, bins, _ in kinds
    for x in bins
  ]
  top = min(1.0, 1.08 * max(ends, default=1.0))
  chart = svg.Chart(
    'Mean predicted probability',
    'Observed rate',
    x_range=(0, top),
    y_range=(0, top),
  )
  chart.line([0, top], [0, top], svg.GREY, 'perfect', dash='5 4', width=1.2)
  for name, bins, color in kinds:
    said = [x['predicted'] for x in bins]
    seen = [x['observed'] for x in bins]
    chart.whiskers(
      said, [x['low'] for x in seen], [x['high'] for x in seen], color
    )
    chart.line(said, [x['value'] for x in seen], color, name, markers=True)
  return chart.svg('Observed against predicted rate of cancer')


def net_benefit(
  labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
  """True positives, less false ones at the odds of the threshold, per case.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,); one on the threshold is called positive.
    thresholds: (K,) from 0 to below 1.

  Returns:
    (K,) float64.

  Source: Vickers and Elkin, "Decision curve analysis", 2006.
  """
  labels = np.asarray(labels, np.float64)
  order = np.argsort(probabilities, kind='stable')
  ranked = np.asarray(probabilities, np.float64)[order]
  # Positives, and all, from each rank on.
  hits = np.r_[np.cumsum(labels[order][::-1])[::-1], 0]
  first = np.searchsorted(ranked, thresholds, side='left')
  tp, called = hits[first], len(labels) - first
  odds = thresholds / (1 - thresholds)
  return (tp - (called - tp) * odds) / len(labels)


def decision_curve(labels: np.ndarray, probabilities: np.ndarray) -> str:
  """Net benefit against that of recalling everyone, and no one.

  Args:
    labels: (N,) 0 or 1, of both.
    probabilities: (N,), best calibrated ones.
  """
  prevalence = float(np.mean(labels))
  end = min(0.99, max(0.05, 3 * prevalence))
  thresholds = np.linspace(0, end, 200)
  model = net_benefit(labels, probabilities, thresholds)
  everyone = prevalence - (1 - prevalence) * thresholds / (1 - thresholds)
  top = 1.1 * max(prevalence, float(model.max()))
  low = -0.2 * top
  chart = svg.Chart(
    'Threshold probability of recall',
    'Net benefit',
    x_range=(0, end),
    y_range=(low, top),
  )
  chart.line([0, end], [0, 0], svg.GREY, 'recall no one', width=1.2)
  inside = everyone >= low
  chart.line(
    thresholds[inside],
    everyone[inside],
    svg.VERMILION,
    'recall everyone',
    dash='6 4',
  )
  chart.line(thresholds, np.maximum(model, low), svg.BLUE, 'model')
  return chart.svg('Decision curve')


def histogram(labels: np.ndarray, probabilities: np.ndarray) -> str:
  """The share of each class in 40 bins of probability."""
  labels, probabilities = np.asarray(labels), np.asarray(probabilities)
  end = max(float(probabilities.max(initial=0)), 1e-3)
  edges = np.linspace(0, end, _BINS + 1)
  shares = {}
  for value in (0, 1):
    chosen = probabilities[labels == value]
    counts, _ = np.histogram(chosen, edges)
    shares[value] = counts / max(len(chosen), 1), len(chosen)
  low = min(x[x > 0].min(initial=1.0) for x, _ in shares.values())
  chart = svg.Chart(
    'Predicted probability',
    'Share of the class',
    x_range=(0, end),
    y_range=(low / 2, 1),
    log_y=True,
  )
  for value, name, color, fill in (
    (0, 'no cancer', svg.GREY, True),
    (1, 'cancer', svg.VERMILION, False),
  ):
    heights, n = shares[value]
    chart.bars(edges, heights, color, f'{name} ({n:,})', fill=fill)
  return chart.svg('Probabilities by class')


def history(records: Sequence[Mapping]) -> dict[str, str]:
  """Metric -> its course over the steps, each split a line.

  Args:
    records: of metrics.jsonl: {'step': int, 'train/loss': float, ...}.
  """
  colors = {'train': svg.GREY, 'validation': svg.BLUE, 'test': svg.VERMILION}
  found = {}
  for name, splits in plots.lines(records).items():
    steps = [x for xs, _ in splits.values() for x in xs]
    values = np.array([y for _, ys in splits.values() for y in ys])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    title = tables.title(name)
    chart = svg.Chart(
      'Step',
      title,
      x_range=(min(steps), max(steps)),
      y_range=(float(low - margin), float(high + margin)),
    )
    for split, (xs, ys) in splits.items():
      chart.line(
        xs,
        ys,
        colors.get(split, svg.BLUE),
        split or None,
        markers=len(xs) < 30,
      )
    found[name] = chart.svg(f'{title} over the steps of training')
  return found


def sweep(labels, probabilities) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """True and false positives above each distinct score, best first, thinned."""
  labels = np.asarray(labels, np.float64)
  scores = np.asarray(probabilities, np.float64)
  order = np.argsort(-scores, kind='stable')
  ranked = scores[order]
  last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
  tp = np.cumsum(labels[order])[last]
  fp = last + 1 - tp
  if len(last) > _MOST_POINTS:
    kept = np.unique(np.linspace(0, len(last) - 1, _MOST_POINTS).astype(int))
    # The curve turns before and at a positive: those points stay.
    turns = np.flatnonzero(np.diff(tp, prepend=0))
    if len(turns) <= 2 * _MOST_POINTS:
      kept = np.unique(np.r_[kept, turns, np.maximum(turns - 1, 0)])
    tp, fp, last = tp[kept], fp[kept], last[kept]
  return np.r_[0, tp], np.r_[0, fp], np.r_[np.inf, ranked[last]]
