"""Runs and files of predictions, judged on the same breasts and held against
each other in pairs.
"""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from rsna_jax import errors, files, metrics, results, schema
from rsna_jax.scoring import compare_text, compared_sets, label_files
from rsna_jax.stats import bootstrap, boundary, paired, sums

FIGURES = ('roc_auc', 'average_precision', 'pf1')
_OF_CALLS = ('f1', 'sensitivity', 'specificity')
_LEVEL = 0.05


def compare(
  sources: Sequence[str | os.PathLike],
  *,
  split: str = 'validation',
  labels: str | os.PathLike | None = None,
  out: str | os.PathLike | None = None,
  subset: bool = False,
  resamples: int = 2_000,
  seed: int = 0,
) -> dict:
  """Judges sets of predictions on the same breasts, and each pair of them.

  Calls are those of the run's own calibration and rule: made by what the run
  stored where the split is not the one that chose it, and else out of fold.

  Args:
    sources: run directories, folders of crossvalidate, or CSV files of
      predictions; at least two.
    split: of the runs, which has to be evaluated already; folders of
      crossvalidate give out_of_fold for validation.
    labels: train.csv; None: the labels that the files themselves hold.
    out: folder for compare.json, compare.csv and compare.md; None: no files.
    subset: whether breasts that are not in every set are left out.
    resamples: of the patients; 0: no intervals, as where a class has one
      patient alone.
    seed: of them, and of the parts that choose for one another.

  Returns:
    {'notice', 'split', 'breasts', 'positives', 'patients', 'left_out', 'sets':
    [{'name', 'source', 'aggregate', 'calibration', 'rule', 'chosen_on',
    'figures': {name: {'value', 'low', 'high'}}, 'note'}], 'pairs': [{'first',
    'second', and what `paired.compare` returns, with 'p_holm' in figures,
    delong_by_patient and mcnemar['all']}], 'correction': 'holm' | 'none',
    'verdicts': one sentence a pair}.

  Raises:
    errors.InputError: a source is not usable, or the sets are not of the same
      breasts.
  """
  made = contextlib.nullcontext() if out is None else files.folder(out)
  with made as folder:
    found = _judged(sources, split, labels, subset, resamples, seed)
    if folder is not None:
      _write(folder, found)
  return found


def _judged(sources, split, labels, subset, resamples, seed) -> dict:
  if len(sources) < 2:
    raise errors.ConfigError(
      f'{len(sources)} set(s) of predictions: name at least two'
    )
  table = None if labels is None else (*label_files.read(labels), labels)
  names = _names(sources)
  sets = [
    compared_sets.load(source, name, split, table, subset=subset, seed=seed)
    for source, name in zip(sources, names, strict=True)
  ]
  sets, left_out = compared_sets.on_the_same(sets, subset=subset)
  y, patients = sets[0].label, sets[0].patient_id
  if bootstrap.lone(y, patients):
    resamples = 0
  drawn = None
  if resamples:
    drawn = bootstrap.Resamples(patients, n=resamples, seed=seed)
  calls = [one.decide(seed) for one in sets]
  found = {
    'notice': schema.NOTICE,
    'split': split,
    'breasts': len(y),
    'positives': int(y.sum()),
    'patients': len(np.unique(patients)),
    'left_out': left_out,
    'sets': [
      one.about() | {'figures': _figures(one, called, drawn), 'note': note}
      for one, (called, note) in zip(sets, calls, strict=True)
    ],
    'pairs': [],
    'correction': 'holm' if len(sets) > 2 else 'none',
    'bootstrap': {'resamples': resamples, 'unit': 'patient', 'level': 0.95},
  }
  for i, j in itertools.combinations(range(len(sets)), 2):
    called = (calls[i][0], calls[j][0])
    pair = paired.compare(
      y,
      sets[i].cancer,
      sets[j].cancer,
      patients,
      called=None if any(x is None for x in called) else called,
      names=FIGURES,
      bootstrap=resamples,
      seed=seed,
      titles=(names[i], names[j]),
    )
    found['pairs'].append({'first': names[i], 'second': names[j], **pair})
  _correct(found['pairs'])
  found['verdicts'] = [_verdict(pair) for pair in found['pairs']]
  return found


def holm(values: Sequence[float | None]) -> list[float | None]:
  """p values, corrected for how many there are; None stays None.

  Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
  """
  known = sorted((p, i) for i, p in enumerate(values) if p is not None)
  found: list[float | None] = [None] * len(values)
  highest = 0.0
  for rank, (p, i) in enumerate(known):
    highest = max(highest, min(1.0, p * (len(known) - rank)))
    found[i] = highest
  return found


def _write(folder: pathlib.Path, found: Mapping) -> None:
  rows = results.csv_text(compare_text.rows(found))
  files.write_json(folder / 'compare.json', found)
  files.write_text(folder / 'compare.csv', rows)
  files.write_text(folder / 'compare.md', compare_text.text(found) + '\n')


def _names(sources) -> list[str]:
  """The last parts of the paths that tell them apart."""
  paths = [pathlib.Path(source).absolute() for source in sources]
  if len({path.resolve() for path in paths}) < len(paths):
    raise errors.ConfigError('a set of predictions is named twice: name others')
  for parts in range(1, max(len(path.parts) for path in paths) + 1):
    names = ['/'.join(path.parts[-parts:]) for path in paths]
    if len(set(names)) == len(names):
      break
  return names


def _figures(one, called, drawn) -> dict:
  of_sums = sums.figures(one.label, one.cancer, called)
  names = (*FIGURES, *(() if called is None else _OF_CALLS))
  counts = metrics.counts(one.label, one.cancer)
  samples = {}
  if drawn is not None:
    samples = bootstrap.binary(
      one.label,
      one.cancer,
      one.patient_id,
      drawn,
      predicted=called,
      names=names,
    )
  behind = boundary.patients_behind(one.label, one.patient_id, called)
  found = {}
  for name in names:
    value = (
      sums.value(of_sums[name])
      if name in of_sums
      else float(bootstrap.OF_COUNTS[name](counts))
    )
    figure = bootstrap.figure(value, samples.get(name))
    found[name] = boundary.mended(figure, behind.get(name))
  return found


def _correct(pairs: list[dict]) -> None:
  """Adds p_holm, over the pairs, to each test."""
  names = list(dict.fromkeys(x for pair in pairs for x in pair['figures']))
  families = [[pair['figures'].get(name) for pair in pairs] for name in names]
  families.append([pair['delong_by_patient'] for pair in pairs])
  families.append([(pair['mcnemar'] or {}).get('all') for pair in pairs])
  for family in families:
    corrected = holm([test['p'] if test else None for test in family])
    for test, p in zip(family, corrected, strict=True):
      if test:
        test['p_holm'] = p


def _verdict(pair: Mapping) -> str:
  """Whether any difference is more than noise, after the correction."""
  beyond, within = [], []
  for name, x in pair['figures'].items():
    # Of the AUC, DeLong's test is the sharper one.
    test = pair['delong_by_patient'] if name == 'roc_auc' else None
    p = (test or x).get('p_holm')
    if p is None or x['difference']['value'] is None:
      continue
    if p < _LEVEL:
      higher = 'first' if x['difference']['value'] > 0 else 'second'
      beyond.append(
        f'{compare_text.TITLES[name]} is higher of {pair[higher]} (p {p:.3g})'
      )
    else:
      within.append(compare_text.TITLES[name])
  title = f'{pair["first"]} and {pair["second"]}: '
  if not beyond and not within:
    return title + 'no difference can be tested.'
  if not beyond:
    return title + f'within noise ({", ".join(within)}).'
  rest = f'; within noise: {", ".join(within)}' if within else ''
  return title + f'beyond noise: {", ".join(beyond)}{rest}.'
