"""The course of a training, as PNG files beside a run.

matplotlib is an extra, so it is imported where a figure is made; pyplot and its
windows are not used.
"""

import contextlib
import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from rsna_jax import errors, files
from rsna_jax.report import svg

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
}
_SPLITS = ('train', 'validation', 'test')
_HINT = (
  'matplotlib is not installed, so there are no curves: pip install '
  "'rsna_jax[plots]'"
)


class PlotsMissingError(errors.InputError):
  """matplotlib, the extra `plots`, is not installed."""


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
    for name, splits in lines(history).items():
      with _axes('Step', name.replace('_', ' ')) as axes:
        _draw_history(axes, splits)
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


def lines(
  history: Sequence[Mapping],
) -> dict[str, dict[str, tuple[list, list]]]:
  """metric -> split -> steps and values, from names such as train/loss."""
  found = {}
  for record in history:
    for key, value in record.items():
      split, _, name = key.rpartition('/')
      if key == 'step' or not isinstance(value, (int, float, type(None))):
        continue
      # `score` repeats the metric that chooses the checkpoint, and the weight
      # is that of every whole batch.
      if (split and split not in _SPLITS) or name in ('score', 'weight'):
        continue
      steps, values = found.setdefault(name, {}).setdefault(split, ([], []))
      steps.append(record['step'])
      values.append(float('nan') if value is None else float(value))
  return found


def _draw_history(axes, lines) -> None:
  colors = {
    'train': svg.GREY,
    'validation': svg.BLUE,
    'test': svg.VERMILION,
  }
  for split, (steps, values) in lines.items():
    axes.plot(
      steps,
      values,
      color=colors.get(split, svg.BLUE),
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
