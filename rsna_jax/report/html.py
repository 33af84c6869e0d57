"""The report of an evaluation: one HTML file that needs nothing else.

It is read without a network and without scripts, and it is made from the same
dict as metrics.json, so the two cannot disagree.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from rsna_jax import files, schema
from rsna_jax.report import plots, tables

DISCLAIMER = 'Research use only, not a medical device.'


def write_report(
  path: str | os.PathLike,
  *,
  title: str,
  run: Mapping[str, Any],
  metrics: Mapping[str, Any],
  breasts: Mapping[str, np.ndarray],
  history: Sequence[Mapping] = (),
  pictures: Sequence[Mapping] = (),
) -> None:
  """Writes the page.

  Args:
    path: of the HTML file.
    title: names the run and the split.
    run: 'config' (nested), 'environment' (nested) and 'data' (name -> count).
    metrics: the content of metrics.json.
    breasts: (B,) arrays `label` (-1 unknown) and `cancer` (probability); may be
      empty.
    history: records of metrics.jsonl.
    pictures: dicts of `png` (bytes), `alt` and `caption`.

  Raises:
    OSError: the file cannot be written.
  """
  hint, curves, training = '', [], []
  try:
    curves = _curves(metrics, breasts)
    training = [
      _picture(svg, tables.title(name), 'Over the training steps')
      for name, svg in plots.history_curves(history).items()
    ]
  except plots.PlotsMissingError as error:
    hint = str(error)
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('rsna_jax', 'report'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  page = environment.get_template('report.html').render(
    title=title,
    disclaimer=DISCLAIMER,
    metrics=metrics,
    data=run.get('data') or {},
    cards=tables.cards(metrics),
    figures=tables.figures(metrics),
    classes=tables.classes(metrics.get('classes')),
    subgroups=tables.subgroups(metrics.get('subgroups') or []),
    whole=tables.interval(tables.entry(metrics, 'breast', 'roc_auc'), 3),
    operating=tables.operating(metrics),
    curves=curves,
    training=training,
    pictures=[
      {
        'uri': 'data:image/png;base64,'
        + base64.b64encode(picture['png']).decode('ascii'),
        'alt': picture.get('alt', ''),
        'caption': picture.get('caption', ''),
      }
      for picture in pictures
    ],
    hint=hint,
    config=tables.flat(run.get('config') or {}),
    environment=tables.flat(run.get('environment') or {}),
  )
  files.write_text(path, page)


def _curves(metrics: Mapping, breasts: Mapping) -> list[dict]:
  """The curves that the labels of the breasts allow."""
  if 'label' not in breasts:
    return []
  label = np.asarray(breasts['label'])
  known = label != schema.MISSING
  label = label[known]
  cancer = np.asarray(breasts['cancer'], np.float64)[known]
  if len(set(label.tolist())) < 2:
    return []
  auc = tables.interval(tables.entry(metrics, 'breast', 'roc_auc'), 3)
  precision = tables.interval(
    tables.entry(metrics, 'breast', 'average_precision'), 3
  )
  best = tables.entry(metrics, 'breast', 'pf1_best_threshold') or {}
  applied = [x for x in best.get('applied', []) if x is not None]
  return [
    _picture(plots.roc(label, cancer), 'ROC', f'Area {auc}'),
    _picture(
      plots.precision_recall(label, cancer),
      'Precision and recall',
      f'Average precision {precision}',
    ),
    _picture(
      plots.threshold_sweep(label, cancer, applied),
      'Thresholds',
      'A breast is called positive from the threshold on. On these very data, '
      'so the top of F1 flatters; the grey lines mark the thresholds applied',
    ),
    _picture(
      plots.reliability(label, cancer),
      'Reliability',
      'Ten groups of equal number with 95 % intervals; the dashed line is '
      'perfect calibration',
    ),
    _picture(
      plots.histogram(label, cancer),
      'Probabilities by class',
      'Each class adds up to 1; the scale is logarithmic',
    ),
  ]


def _picture(svg: str, title: str, caption: str) -> dict:
  return {
    'uri': plots.data_uri(svg),
    'title': title,
    'caption': caption,
    'alt': f'Curve: {title}. {caption}.',
  }
