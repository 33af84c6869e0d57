"""Curves, as SVG text for the report and as PNG files beside a run.

matplotlib is an extra, so it is imported where a figure is made; pyplot and its
windows are not used.
"""

import base64
import contextlib
import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from rsna_jax import errors, files

# Okabe and Ito's colours, told apart by the colour-blind and in grey print.
BLUE, VERMILION, GREEN, GREY = '#0072b2', '#d55e00', '#009e73', '#767676'
_MOST_POINTS = 1_000  # of a curve; more cannot be seen
_STYLE = {
  'font.family': 'sans-serif',
  'font.sans-serif': ['Liberation Sans', 'Arial', 'Helvetica', 'DejaVu Sans'],
  'font.size': 10,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.edgecolor': '#555555',
  'axes.labelcolor': '#222222',
  'axes.grid': True,
  'grid.color': '#e4e4e4',
  'grid.linewidth': 0.7,
  'axes.axisbelow': True,
  'xtick.color': '#555555',
  'ytick.color': '#555555',
  'legend.frameon': False,
  'legend.fontsize': 9,
  'lines.linewidth': 1.8,
  'svg.fonttype': 'path',  # looks the same with any fonts
  'svg.hashsalt': 'rsna_jax',  # the same curve gives the same bytes
}
_SPLITS = ('train', 'validation', 'test')
_HINT = (
  'matplotlib is not installed, so there are no curves: pip install '
  "'rsna_jax[plots]'"
)


class PlotsMissingError(errors.InputError):
  """matplotlib, the extra `plots`, is not installed."""


def roc(labels: np.ndarray, probabilities: np.ndarray) -> str:
  """The ROC curve of (N,) labels and probabilities, as an SVG."""
  tp, fp, _ = _sweep(labels, probabilities)
  with _axes('False positive rate', 'Sensitivity') as axes:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle='--')
    axes.plot(fp / fp[-1], tp / tp[-1], color=BLUE)
    _unit(axes)
    return _svg(axes)


def precision_recall(labels: np.ndarray, probabilities: np.ndarray) -> str:
  """Precision against recall, with the prevalence as a floor, as an SVG."""
  tp, fp, _ = _sweep(labels, probabilities)
  with _axes('Recall (sensitivity)', 'Precision') as axes:
    axes.axhline(
      np.mean(labels), color=GREY, linewidth=1, linestyle='--', label='chance'
    )
    precision = tp[1:] / (tp[1:] + fp[1:])
    axes.step(tp[1:] / tp[-1], precision, where='pre', color=BLUE)
    _unit(axes)
    axes.legend(loc='upper right')
    return _svg(axes)


def threshold_sweep(
  labels: np.ndarray,
  probabilities: np.ndarray,
  applied: Sequence[float] = (),
) -> str:
  """F1, precision and recall at each threshold, as an SVG.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    applied: thresholds to mark.
  """
  tp, fp, thresholds = _sweep(labels, probabilities)
  tp, fp, thresholds = tp[1:], fp[1:], thresholds[1:]
  with _axes('Threshold', 'Value') as axes:
    axes.plot(thresholds, tp / tp[-1], color=GREEN, label='recall', ls='--')
    axes.plot(
      thresholds, tp / (tp + fp), color=VERMILION, label='precision', ls='-.'
    )
    axes.plot(thresholds, 2 * tp / (tp + fp + tp[-1]), color=BLUE, label='F1')
    for i, value in enumerate(applied):
      axes.axvline(
        value, color=GREY, linewidth=1, label=None if i else 'applied'
      )
    _unit(axes)
    axes.legend(loc='best')
    return _svg(axes)


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> str:
  """Observed against predicted rate in ten bins of equal number, as an SVG.

  The bars are 95 % intervals of Wilson's score for a proportion.
  """
  order = np.argsort(probabilities, kind='stable')
  parts = [x for x in np.array_split(order, 10) if len(x)]
  said = np.array([np.mean(np.asarray(probabilities)[x]) for x in parts])
  n = np.array([len(x) for x in parts])
  hits = np.array([np.sum(np.asarray(labels)[x]) for x in parts])
  low, high = wilson(hits, n)
  seen = hits / n
  top = min(1.0, 1.1 * float(max(said.max(), high.max(), 1e-3)))
  with _axes('Mean predicted probability', 'Observed rate') as axes:
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle='--')
    gaps = np.maximum(np.stack([seen - low, high - seen]), 0)
    axes.errorbar(
      said, seen, yerr=gaps, color=BLUE, marker='o', markersize=4, capsize=2
    )
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    return _svg(axes)


def histogram(labels: np.ndarray, probabilities: np.ndarray) -> str:
  """The share of each class in 40 bins of probability, as an SVG."""
  labels, probabilities = np.asarray(labels), np.asarray(probabilities)
  edges = np.linspace(0, max(float(probabilities.max(initial=0)), 1e-3), 41)
  with _axes('Predicted probability', 'Share of the class') as axes:
    for value, name, color, fill in (
      (0, 'no cancer', GREY, True),
      (1, 'cancer', VERMILION, False),
    ):
      chosen = probabilities[labels == value]
      share = np.full(len(chosen), 1 / max(len(chosen), 1))
      axes.hist(
        chosen,
        edges,
        weights=share,
        histtype='stepfilled' if fill else 'step',
        color='#c9c9c9' if fill else color,
        edgecolor=color,
        linewidth=1.4,
        label=f'{name} ({len(chosen):,})',
      )
    axes.set_yscale('log')
    axes.legend(loc='upper right')
    return _svg(axes)


def history_curves(history: Sequence[Mapping]) -> dict[str, str]:
  """Metric -> SVG of its course over the steps, each split a line.

  Args:
    history: records of metrics.jsonl: {'step': int, 'train/loss': float, ...}.
  """
  svgs = {}
  for name, lines in _lines(history).items():
    with _axes('Step', name.replace('_', ' ')) as axes:
      _draw_history(axes, lines)
      svgs[name] = _svg(axes)
  return svgs


def write_curves(
  folder: str | os.PathLike, history: Sequence[Mapping]
) -> list[pathlib.Path]:
  """Writes loss.png, roc_auc.png and so on; without matplotlib, nothing.

  Args:
    folder: is made where it is missing.
    history: records of metrics.jsonl.

  Returns:
    The files.
  """
  written = []
  try:
    for name, lines in _lines(history).items():
      with _axes('Step', name.replace('_', ' ')) as axes:
        _draw_history(axes, lines)
        data = io.BytesIO()
        axes.figure.savefig(
          data, format='png', dpi=150, metadata={'Software': None}
        )
      path = (
        pathlib.Path(folder) / f'{re.sub(r"[^A-Za-z0-9_.-]", "_", name)}.png'
      )
      files.write_bytes(path, data.getvalue())
      written.append(path)
  except PlotsMissingError as error:
    print(f'no curves written to {folder}: {error}')
  return written


def data_uri(svg: str) -> str:
  """An SVG as a URI, so that it stands in a page by itself."""
  coded = base64.b64encode(svg.encode('utf-8')).decode('ascii')
  return f'data:image/svg+xml;base64,{coded}'


def wilson(hits: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """95 % score interval of proportions.

  Source: Wilson, "Probable inference, the law of succession, and statistical
  inference", 1927.
  """
  z = 1.959963984540054
  p = hits / n
  middle = (p + z * z / (2 * n)) / (1 + z * z / n)
  half = np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) * z / (1 + z * z / n)
  return middle - half, middle + half


def _sweep(labels, probabilities):
  """True and false positives above each distinct score, best first."""
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


def _lines(history) -> dict[str, dict[str, tuple[list, list]]]:
  """metric -> split -> steps and values, from names such as train/loss."""
  found = {}
  for record in history:
    for key, value in record.items():
      split, _, name = key.rpartition('/')
      if key == 'step' or not isinstance(value, (int, float, type(None))):
        continue
      if (split and split not in _SPLITS) or name == 'score':
        continue  # `score` repeats the metric that chooses the checkpoint
      steps, values = found.setdefault(name, {}).setdefault(split, ([], []))
      steps.append(record['step'])
      values.append(float('nan') if value is None else float(value))
  return found


def _draw_history(axes, lines) -> None:
  colors = {'train': GREY, 'validation': BLUE, 'test': VERMILION}
  for split, (steps, values) in lines.items():
    axes.plot(
      steps,
      values,
      color=colors.get(split, BLUE),
      marker='o' if len(steps) < 30 else None,
      markersize=3,
      label=split or None,
    )
  if any(lines):
    axes.legend(loc='best')


@contextlib.contextmanager
def _axes(x: str, y: str):
  """A figure with one pair of axes, in the style of all of them."""
  try:
    import matplotlib
    import matplotlib.figure
  except ImportError as error:
    raise PlotsMissingError(_HINT) from error
  with matplotlib.rc_context(_STYLE):
    figure = matplotlib.figure.Figure(figsize=(4.6, 3.4), layout='tight')
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    yield axes


def _unit(axes) -> None:
  axes.set_xlim(-0.01, 1.01)
  axes.set_ylim(-0.01, 1.02)


def _svg(axes) -> str:
  text = io.StringIO()
  axes.figure.savefig(text, format='svg', metadata={'Date': None})
  return text.getvalue()
