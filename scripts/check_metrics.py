"""Every figure of metrics.json on the full train.csv, held against others.

Usage: python scripts/check_metrics.py [--resamples 2000] [--seed 0]
Needs scikit-learn and RSNA_JAX_DATA (default ../shared/data), in which
rsna_csv/train.csv is. The scores are made up. The references are scikit-learn's
functions where there is one, else plain sums that share no code with the
package. Prints a Markdown table, and ends with 1 where a figure is off.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
import reference_metrics as reference
from sklearn import metrics as sk

from rsna_jax import foreign, results, schema
from rsna_jax.data import table as table_lib
from rsna_jax.stats import bootstrap, thresholds

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_CHECKED_RESAMPLES = 10
_EXACT, _FITTED = 1e-12, 1e-6  # a fit by another optimiser agrees less


class Checks:
  """The largest difference of each kind of figure, and how many there were."""

  def __init__(self):
    self.found = {}

  def add(self, name, ours, reference, by, allowed=_EXACT):
    ours = np.nan if ours is None else float(ours)
    reference = float(reference)
    gap = abs(ours - reference)
    if np.isnan(ours) and np.isnan(reference):
      gap = 0.0
    count, most, *_ = self.found.get(name, (0, 0.0))
    most = max(most, np.inf if np.isnan(gap) else gap)
    self.found[name] = count + 1, most, by, allowed

  def wrong(self) -> list[str]:
    return [x for x, (_, gap, _, most) in self.found.items() if gap > most]

  def text(self) -> str:
    lines = [
      '| figure | compared | largest difference | reference |',
      '| --- | --- | --- | --- |',
    ]
    lines += [
      f'| {name} | {count} | {gap:.1e} | {by} |'
      for name, (count, gap, by, _) in self.found.items()
    ]
    return '\n'.join(lines)


def make_scores(table, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """(N,) probabilities of cancer with ties, and (N, 8) of classes."""
  chance = np.random.default_rng(seed)
  cancer = table['cancer']
  logit = -4 + 2 * cancer + chance.normal(size=len(table))
  classes = chance.normal(size=(len(table), 8))
  label = schema.target_labels(table.columns, 'density_cancer')
  known = np.flatnonzero(label != schema.MISSING)
  classes[known, label[known]] += 2.5
  classes = np.exp(classes)
  classes /= classes.sum(axis=1, keepdims=True)
  return np.round(1 / (1 + np.exp(-logit)), 3), classes


def check_levels(checks, found, levels, seed):
  for name, (y, p, patients) in levels.items():
    level = found[name]
    checks.add('n', level['n'], len(y), 'count')
    checks.add('positives', level['positives'], y.sum(), 'count')
    checks.add('patients', level['patients'], len(set(patients)), 'count')
    checks.add('prevalence', level['prevalence'], y.mean(), 'plain sum')
    checks.add(
      'pf1_all_ones', level['pf1_all_ones'], sk.f1_score(y, y >= 0),
      'scikit-learn',
    )  # fmt: skip
    for figure, (value, by) in reference.ranked(y, p).items():
      checks.add(figure, level[figure]['value'], value, by)
    side = thresholds.divide(y, patients, seed)
    called = np.empty(len(y), bool)
    for own in (0, 1):
      cut = reference.best_f1(y[side != own], p[side != own])
      called[side == own] = p[side == own] >= cut
    best = level['pf1_best_threshold']
    checks.add(
      'pf1_best_threshold', best['value'], sk.f1_score(y, called),
      'scikit-learn',
    )  # fmt: skip
    checks.add(
      'threshold',
      best['threshold'],
      reference.best_f1(y, p),
      'scikit-learn, PR curve',
    )
    simple, clustered = reference.delong_errors(y, p, patients)
    for unit, error in (('by_example', simple), ('by_patient', clustered)):
      ours = level['roc_auc_delong'][unit]
      checks.add('DeLong: standard error', ours['se'], error, 'every pair')
      checks.add(
        'DeLong: interval', ours['low'],
        sk.roc_auc_score(y, p) - 1.959963984540054 * error, 'every pair',
      )  # fmt: skip


def check_decision(checks, found, group, seed):
  y, p, patients = group
  calibrated, called = reference.out_of_fold(y, p, patients, seed)
  section = found['decision']
  tn, fp, fn, tp = sk.confusion_matrix(y, called).ravel()
  by = 'scikit-learn, refitted'
  counted = {'tp': tp, 'fp': fp, 'fn': fn, 'tn': tn}
  for name, value in counted.items():
    checks.add('decision: counts', section['counts'][name], value, by)
  for name, value in {
    'f1': sk.f1_score(y, called),
    'sensitivity': sk.recall_score(y, called),
    'specificity': sk.recall_score(y, called, pos_label=0),
    'ppv': sk.precision_score(y, called),
    'npv': sk.precision_score(y, called, pos_label=0),
    'recall_rate': called.mean(),
  }.items():
    checks.add(
      f'decision: {name}', section['figures'][name]['value'], value, by
    )
  for name, value in (
    ('raw', reference.pf1(y, p)),
    ('calibrated', reference.pf1(y, calibrated)),
    ('thresholded', sk.f1_score(y, called)),
  ):
    checks.add(
      'expected_pf1', found['expected_pf1'][name]['value'], value, by, _FITTED
    )
  after = found['calibration']['after']
  for name in ('brier', 'log_loss', 'calibration_in_the_large'):
    value, _ = reference.ranked(y, calibrated)[name]
    checks.add(f'calibrated: {name}', after[name]['value'], value, by, _FITTED)
  return calibrated, called


def check_subgroups(checks, found, table, images, breasts, decided):
  """Groups of a column by plain comparison with its values."""
  bands = {'under 50': (0, 50), '50 to 59': (50, 60), '60 to 69': (60, 70)}
  for group in found['subgroups']:
    name, value = group['column'], group['value']
    level = images if group['level'] == 'image' else breasts
    column = table[name][level['rows']]
    if name == 'age':
      low, high = bands.get(value, (70, 999))
      rows = (column >= low) & (column < high)
      if value == 'unknown':
        rows = np.isnan(column)
    elif name == 'density':
      rows = column == ('ABCD'.index(value) + 1 if value in 'ABCD' else -1)
    else:
      rows = column.astype(str) == ('-1' if value == 'unknown' else value)
    y = level['y']
    own = {'invasive': y == 1, 'difficult_negative_case': y == 0}.get(name)
    mine = rows if own is None else rows & own
    judged = rows if own is None else mine | ~own
    checks.add('subgroup: n', group['n'], mine.sum(), 'count')
    if group['roc_auc']:
      checks.add(
        'subgroup: roc_auc', group['roc_auc']['value'],
        sk.roc_auc_score(y[judged], level['p'][judged]), 'scikit-learn',
      )  # fmt: skip
    if group['level'] == 'image':
      continue
    for figure, label in (('sensitivity', 1), ('specificity', 0)):
      if group[figure]:
        checks.add(
          f'subgroup: {figure}', group[figure]['value'],
          sk.recall_score(y[mine], decided[mine], pos_label=label),
          'scikit-learn',
        )  # fmt: skip


def check_classes(checks, found, table, classes):
  label = schema.target_labels(table.columns, 'density_cancer')
  known = label != schema.MISSING
  y, guess = label[known], classes[known].argmax(axis=1)
  density = classes[known].reshape(-1, 4, 2).sum(axis=2).argmax(axis=1)
  level, by = found['classes'], 'scikit-learn'
  for name, value in {
    'accuracy': sk.accuracy_score(y, guess),
    'macro_f1': sk.f1_score(y, guess, average='macro'),
    'quadratic_kappa': sk.cohen_kappa_score(
      y // 2, density, weights='quadratic'
    ),
    'linear_kappa': sk.cohen_kappa_score(y // 2, density, weights='linear'),
    'dense_kappa': sk.cohen_kappa_score(y // 2 >= 2, density >= 2),
    'ordinal_mae': sk.mean_absolute_error(y // 2, density),
    'density_accuracy': sk.accuracy_score(y // 2, density),
  }.items():
    checks.add(f'classes: {name}', level[name]['value'], value, by)
  pairs = (
    (level['recall'], sk.recall_score(y, guess, average=None)),
    (np.ravel(level['confusion']), sk.confusion_matrix(y, guess).ravel()),
    (
      [x['value'] for x in level['density_recall']],
      sk.recall_score(y // 2, density, average=None),
    ),
  )
  for ours, theirs in pairs:
    for a, b in zip(ours, theirs, strict=True):
      checks.add('classes: recalls and confusion', a, b, by)


def check_resamples(checks, group, seed):
  """A few resamples, written out row by row."""
  y, p, patients = group
  drawn = bootstrap.Resamples(patients, n=_CHECKED_RESAMPLES, seed=seed)
  ours = bootstrap.binary(y, p, patients, drawn)
  member = drawn.members(patients)
  for k in range(_CHECKED_RESAMPLES):
    rows = np.repeat(np.arange(len(y)), drawn.counts[k][member])
    for name, (value, by) in reference.ranked(y[rows], p[rows]).items():
      checks.add(
        'bootstrap: each figure of a resample', ours[name][k], value, by
      )


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--resamples', type=int, default=2_000)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  data = pathlib.Path(
    os.environ.get('RSNA_JAX_DATA', _ROOT / '..' / 'shared' / 'data')
  )
  path = data / 'rsna_csv' / 'train.csv'
  if not path.is_file():
    print(f'error: {path}: no such file: set RSNA_JAX_DATA', file=sys.stderr)
    return 2
  table = table_lib.read_csv(path)
  cancer, classes = make_scores(table, options.seed)
  with tempfile.TemporaryDirectory() as folder:
    said = pathlib.Path(folder) / 'predictions.csv'
    names = schema.DENSITY_CANCER_CLASSES
    columns = {'image_id': table['image_id'], 'cancer': cancer}
    columns |= {x: classes[:, k] for k, x in enumerate(names)}
    said.write_text(results.csv_text(columns))
    start = time.perf_counter()
    found = foreign.evaluate(
      said, path, calibration='platt', rule='pf1', bootstrap=options.resamples,
      seed=options.seed, write=False,
    ).metrics  # fmt: skip
    whole_s = time.perf_counter() - start
  images = {'rows': np.arange(len(table)), 'y': table['cancer'], 'p': cancer}
  groups = reference.joined(
    table['prediction_id'], range(len(table)), cancer.tolist()
  ).values()
  rows = np.array([group[0][0] for group in groups])
  breasts = {
    'rows': rows,
    'y': table['cancer'][rows],
    'p': np.array([reference.mean([x for _, x in g]) for g in groups]),
  }
  patients = reference.joined(
    table['patient_id'][rows], breasts['y'].tolist(), breasts['p'].tolist()
  )
  levels = {
    name: (level['y'], level['p'], table['patient_id'][level['rows']])
    for name, level in (('breast', breasts), ('image', images))
  }
  levels['patient'] = (
    np.array([max(y for y, _ in x) for x in patients.values()]),
    np.array([max(p for _, p in x) for x in patients.values()]),
    np.array(list(patients)),
  )
  checks = Checks()
  check_levels(checks, found, levels, options.seed)
  _, called = check_decision(checks, found, levels['breast'], options.seed)
  check_subgroups(checks, found, table, images, breasts, called)
  check_classes(checks, found, table, classes)
  check_resamples(checks, levels['image'], options.seed)
  print(checks.text())
  start = time.perf_counter()
  drawn = bootstrap.Resamples(
    table['patient_id'], n=options.resamples, seed=options.seed
  )
  draw_s = time.perf_counter() - start
  bootstrap.binary(*levels['image'], drawn)
  print(
    f'\n{len(table):,} images, {options.resamples:,} resamples of patients, '
    f'{os.cpu_count()} cores: {time.perf_counter() - start:.1f} s for every '
    f'figure of the images (of them {draw_s:.1f} s to draw); the whole '
    f'evaluation with its subgroups and classes {whole_s:.1f} s'
  )
  wrong = checks.wrong()
  if wrong:
    print(f'off: {", ".join(wrong)}', file=sys.stderr)
  return 1 if wrong else 0


if __name__ == '__main__':
  sys.exit(main())
