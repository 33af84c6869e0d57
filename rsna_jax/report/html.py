"""The report of an evaluation: one HTML file that needs nothing else.

It is read without a network and without scripts, and it is made from the same
dict as metrics.json, so the two cannot disagree.
"""

import base64
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
import numpy as np

from rsna_jax import files, schema
from rsna_jax.report import (
  auxiliary_table,
  charts,
  checklist,
  decision_tables,
  tables,
  texts,
)

# Sections of a full page, in order.
SECTIONS = {
  'use': 'Intended use',
  'data': 'Data',
  'split': 'Split',
  'leaks': 'Leak checks',
  'figures': 'Figures',
  'operating': 'Operating point',
  'curves': 'Curves',
  'calibration': 'Calibration',
  'classes': 'Classes',
  'auxiliary': 'Auxiliary targets',
  'subgroups': 'Subgroups',
  'worst': 'Worst errors',
  'training': 'Training',
  'config': 'Configuration',
  'environment': 'Environment',
  'limits': 'Limits and harm',
  'checklists': 'Checklists',
}
# Those that not every model has.
OPTIONAL = ('classes', 'auxiliary')


def write_report(
  path: str | os.PathLike,
  *,
  title: str,
  run: Mapping[str, Any],
  metrics: Mapping[str, Any],
  breasts: Mapping[str, np.ndarray],
  history: Sequence[Mapping] = (),
  worst: Sequence[Mapping] = (),
) -> list[dict]:
  """Writes the page, and the answered checklists beside it.

  Args:
    path: of the HTML file; checklist.json goes into the same folder.
    title: names the run and the split.
    run: all optional: 'config' (nested), 'changes' (field -> (default, value)),
      'environment' (nested), 'data' (of `data_tables.summary`) and 'weights'
      (name -> hash or text).
    metrics: the content of metrics.json; its 'leaks', where there, is of
      `leaks.findings`.
    breasts: (B,) arrays `label` (-1 unknown), `cancer` (probability) and, where
      there is one, `calibrated`; may be empty.
    history: records of metrics.jsonl.
    worst: of `worst.pictures`.

  Returns:
    The checklists, as of `checklist.answer`.

  Raises:
    OSError: a file cannot be written.
  """
  shown = {
    'data': run.get('data') or {},
    'leaks': metrics.get('leaks') or {},
    'figures': tables.figures(metrics),
    'operating': decision_tables.operating(metrics),
    'curves': _curves(metrics, breasts),
    'calibration': decision_tables.calibration(metrics),
    'classes': tables.classes(metrics.get('classes')),
    'auxiliary': auxiliary_table.rows(metrics),
    'subgroups': tables.subgroups(metrics.get('subgroups') or []),
    'worst': [_pictured(one) for one in worst],
    'training': _training(history),
    'config': tables.flat(run.get('config') or {}),
    'environment': tables.flat(run.get('environment') or {})
    + tables.flat(run.get('weights') or {}),
    'limits': texts.limits(metrics),
    'use': texts.USE,
  }
  shown['split'] = shown['data'].get('parts')
  sections = {
    name: title
    for name, title in SECTIONS.items()
    if shown.get(name) or name == 'checklists'
  }
  answers = checklist.answer(sections, dict(shown['config']))
  wanted = [name for name in SECTIONS if name not in OPTIONAL]
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('rsna_jax', 'report'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  page = environment.get_template('report.html').render(
    title=title,
    disclaimer=schema.NOTICE,
    sections=sections,
    lacking=checklist.missing(sections, wanted, SECTIONS),
    metrics=metrics,
    shown=shown,
    cards=tables.cards(metrics),
    levels=[(name, tables.LEVELS[name]) for name in tables.levels(metrics)],
    delong=tables.interval(_delong(metrics), 3),
    applied=_applied(metrics),
    expected=decision_tables.expected_pf1(metrics),
    heterogeneity=decision_tables.heterogeneity(metrics),
    whole=tables.interval(tables.entry(metrics, 'breast', 'roc_auc'), 3),
    reliability=_reliability(metrics),
    changes=[
      (name, *(dict(tables.flat({name: x}))[name] for x in pair))
      for name, pair in (run.get('changes') or {}).items()
    ],
    has_changes='changes' in run,
    metadata=_metadata(shown['leaks']),
    checklists=answers,
  )
  files.write_text(path, page)
  files.write_json(pathlib.Path(path).with_name('checklist.json'), answers)
  return answers


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
  at, _ = decision_tables.point(metrics)
  best = tables.entry(metrics, 'breast', 'pf1_best_threshold') or {}
  applied = [x for x in best.get('applied', []) if x is not None]
  calibrated, of_which = cancer, 'raw probabilities'
  if 'calibrated' in breasts:
    calibrated = np.asarray(breasts['calibrated'], np.float64)[known]
    of_which = 'calibrated probabilities'
  on_roc = on_pr = None
  if {'sensitivity', 'specificity'} <= set(at):
    on_roc = at['sensitivity'], at['specificity']
  if {'sensitivity', 'ppv'} <= set(at):
    on_pr = at['sensitivity'], at['ppv']
  return [
    _picture(
      charts.roc(label, cancer, on_roc),
      'ROC',
      f'Area {auc}; breasts',
    ),
    _picture(
      charts.precision_recall(label, cancer, on_pr),
      'Precision and recall',
      f'Average precision {precision}; breasts',
    ),
    _picture(
      charts.threshold_sweep(label, cancer, applied),
      'Thresholds',
      'A breast is called from the threshold on. On these very data, so the '
      'top of F1 flatters; the grey lines mark the thresholds of "F1 at a '
      'threshold"',
    ),
    _picture(
      charts.histogram(label, cancer),
      'Probabilities by class',
      'Each class adds up to 1; the scale is logarithmic',
    ),
    _picture(
      charts.decision_curve(label, calibrated),
      'Decision curve',
      'Cancers called, less false alarms at the odds of the threshold, per '
      f'breast; {of_which}, at the prevalence of these data',
    ),
  ]


def _reliability(metrics: Mapping) -> dict | None:
  found = metrics.get('calibration')
  if not found or not found['before']['bins']:
    return None
  after = None if found['method'] == 'none' else found['after']['bins']
  return _picture(
    charts.reliability(found['before']['bins'], after),
    'Reliability',
    'Up to ten groups of equal number, with 95 % intervals of the observed '
    'rate',
  )


def _training(history: Sequence[Mapping]) -> list[dict]:
  return [
    _picture(svg, tables.title(name), '')
    for name, svg in charts.history(history).items()
  ]


def _picture(svg: str, title: str, caption: str) -> dict:
  # Every text in it went through html.escape.
  return {'svg': markupsafe.Markup(svg), 'title': title, 'caption': caption}


def _pictured(one: Mapping) -> dict:
  """A worst error with its pictures as URIs."""

  def uri(data: bytes | None) -> str:
    if data is None:
      return ''
    return 'data:image/jpeg;base64,' + base64.b64encode(data).decode('ascii')

  return {**one, 'picture': uri(one['picture']), 'map': uri(one['map'])}


def _applied(metrics: Mapping) -> dict | None:
  """The thresholds of 'F1 at a threshold'."""
  best = tables.entry(metrics, 'breast', 'pf1_best_threshold')
  if not best:
    return None
  return {
    'values': ' and '.join(tables.number(x, 3) for x in best['applied']),
    'chosen_on': best['chosen_on'],
  }


def _delong(metrics: Mapping) -> Mapping | None:
  found = tables.entry(metrics, 'breast', 'roc_auc_delong')
  return found and found['by_patient']


def _metadata(leaks: Mapping) -> dict | None:
  """The model beside one of metadata alone."""
  found = leaks.get('metadata_only')
  if not found:
    return None
  rows = []
  for name, x in found['figures'].items():
    p = x['p']
    rows.append(
      {
        'title': tables.title(name),
        'model': tables.number(x['first'], 3),
        'metadata': tables.number(x['second'], 3),
        'difference': tables.cell(x['difference'], 3),
        'p': '–' if p is None else '<0.001' if p < 0.001 else f'{p:.3f}',
      }
    )
  return {
    'rows': rows,
    'n': found['n'],
    'positives': found['positives'],
    'columns': ', '.join(found['columns']),
    'verdict': tables.words(found['verdict']),
  }
