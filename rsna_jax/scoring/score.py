"""Everything that metrics.json says, from the predictions of images.

Breasts come first, since a breast is what is diagnosed; intervals resample
patients. Values that are not defined are None, because JSON has no NaN.
"""

from collections.abc import Mapping

import numpy as np

from rsna_jax import aggregate as aggregate_lib
from rsna_jax import errors, schema
from rsna_jax.scoring import class_score, level_score, scored_sets
from rsna_jax.stats import bootstrap as bootstrap_lib
from rsna_jax.stats import decision as decision_lib
from rsna_jax.stats import pooling, rules, subgroups


def score(
  images: Mapping[str, np.ndarray],
  *,
  aggregate: str = 'mean',
  bootstrap: int = 2_000,
  seed: int = 0,
  threshold: float | None = None,
  calibration: str = 'none',
  rule: str | float = 'best_f1',
  per_site: bool = False,
  decision: decision_lib.Decision | None = None,
  learned: pooling.Pooling | None = None,
  clip: bool = False,
) -> dict:
  """Figures of cancer probabilities, for breasts, images and subgroups.

  Args:
    images: (N,) arrays: prediction_id, patient_id, label (0, 1, or -1 for
      unknown), probability; and any of the subgroup columns of the schema, of
      view and of image_id.
    aggregate: images to a breast, as in `aggregate.breasts`.
    bootstrap: resamples of the patients behind each interval; 0: none, as where
      a class has one patient alone.
    seed: of the resamples and of the parts that choose for one another.
    threshold: a probability chosen on other data, from which on a breast is
      called positive; None: cross-fitted on these.
    calibration: of breasts, as in `calibration.fit`, fitted out of fold.
    rule: of the operating point on calibrated probabilities, as in
      `operating.choose`, chosen out of fold.
    per_site: whether sites of enough cases get their own of both.
    decision: a calibration and an operating point made on other data, in place
      of the three above; None and a threshold: that threshold.
    learned: the aggregation `learned` fitted on other data; None: cross-fitted.
    clip: whether probabilities outside [0, 1] are clipped, not refused.

  Returns:
    A figure is {'value', 'low', 'high'}, with None for what is not defined.

    - 'breast', 'image', 'patient' (its highest breast): {'n', 'positives',
      'patients', 'prevalence', 'pf1_all_ones', the figures roc_auc,
      average_precision, sensitivity_at_90_specificity,
      specificity_at_90_sensitivity, sensitivity_at_10_recall_rate,
      partial_auc_10, pf1, brier, log_loss, ece, calibration_in_the_large,
      'roc_auc_delong': {'by_example', 'by_patient': a figure and 'se'},
      'pf1_best_threshold': a figure, 'threshold', 'applied', 'chosen_on'}.
    - 'subgroups': as `subgroups.roc_aucs`; 'heterogeneity': as
      `subgroups.heterogeneous`, one for each column that can be tested.
    - 'threshold': {'value' (of F1 on raw probabilities, for use on other data),
      'chosen_on', 'rule'}.
    - 'decision': {'calibration', 'rule', 'per_site', 'chosen_on', 'applied'
      (thresholds on calibrated probabilities), 'counts': {tp, fp, fn, tn},
      'figures': {f1, sensitivity, specificity, ppv, npv, recall_rate},
      'at_screening_prevalence': {'prevalence', 'ppv', 'npv'}, 'for_others':
      what `decision.Decision.from_json` reads, to be stored with the model,
      'note': why there is none, or ''}.
    - 'calibration': {'method', 'before', 'after'}, each {'slope', 'intercept',
      'brier', 'log_loss', 'ece', 'calibration_in_the_large', 'bins'} of
      breasts; or None.
    - 'expected_pf1': {'raw', 'calibrated', 'thresholded'}: figures; or None.
    - 'learned': what `pooling.Pooling.from_json` reads, or None.
    - 'aggregate', 'bootstrap': how it was computed.

  Raises:
    errors.DataError: there is no image, one occurs twice, a probability is NaN
      or (without `clip`) not from 0 to 1, or labels differ within a breast.
    errors.ConfigError: no such aggregate, calibration or rule.
  """
  rules.parse(rule)
  if threshold is not None and not 0 <= threshold <= 1:
    raise errors.ConfigError(
      f'threshold {threshold}: give a probability, from 0 to 1'
    )
  if decision is None and threshold is not None:
    decision = decision_lib.fixed(threshold)
  patient = np.asarray(images['patient_id'])
  label = np.asarray(images['label']).astype(np.int64)
  probability = scored_sets.probabilities(images, clip)
  columns = {
    name: np.asarray(images[name])
    for name in (*subgroups.OF_BREASTS, *subgroups.OF_IMAGES)
    if name in images
  }
  breasts, fitted = scored_sets.breasts(
    images,
    probability,
    columns,
    how=aggregate,
    learned=learned,
    seed=seed,
  )
  seen = label != schema.MISSING
  resamples = None
  lone = bootstrap_lib.lone(label[seen], patient[seen])
  if bootstrap and seen.any() and not lone:
    resamples = bootstrap_lib.Resamples(patient[seen], n=bootstrap, seed=seed)
  levels, sections = {}, {}
  known = breasts['label'] != schema.MISSING
  breasts = {name: column[known] for name, column in breasts.items()}
  of_patients = aggregate_lib.patients(
    breasts['patient_id'], breasts['cancer'], breasts['label']
  )
  for name, group in (
    ('breast', (breasts['label'], breasts['cancer'], breasts['patient_id'])),
    ('image', (label[seen], probability[seen], patient[seen])),
    ('patient', [of_patients[x] for x in ('label', 'cancer', 'patient_id')]),
  ):
    levels[name] = level_score.figures(
      *group,
      resamples,
      seed=seed,
      threshold=threshold if name == 'breast' else None,
    )
    if name == 'patient':
      continue
    sites = None
    if per_site and 'site_id' in columns:
      sites = (
        columns['site_id'][seen] if name == 'image' else breasts['site_id']
      )
    calibrated, called, section = level_score.decide(
      *group,
      resamples if name == 'breast' else None,
      method=calibration,
      rule=rule,
      sites=sites,
      seed=seed,
      # A decision for breasts does not fit their single images.
      given=decision if name == 'breast' else None,
    )
    sections[name] = group, calibrated, called, section
  groups, tests = [], []
  for name, column, values in (
    *(('breast', x, breasts.get(x)) for x in subgroups.OF_BREASTS),
    *(('image', x, columns.get(x)) for x in subgroups.OF_IMAGES),
  ):
    if values is None:
      continue
    values = values[seen] if name == 'image' else values
    group, calibrated, called, section = sections[name]
    groups += subgroups.roc_aucs(
      name,
      column,
      values,
      *group,
      resamples,
      called=called,
      calibrated=calibrated,
      whole=level_score.whole(levels[name], section),
    )
    tests.append(subgroups.heterogeneous(name, column, values, *group))
  group, calibrated, called, section = sections['breast']
  return {
    **levels,
    'subgroups': groups,
    'heterogeneity': [x for x in tests if x is not None],
    'threshold': {
      'value': (levels['breast']['pf1_best_threshold'] or {}).get('threshold'),
      'chosen_on': 'these breasts' if threshold is None else 'other data',
      'rule': 'positive from this probability on',
    },
    'decision': section,
    **level_score.of_decision(group, calibrated, called, section, resamples),
    'learned': None if fitted is None else fitted.to_json(),
    'aggregate': aggregate,
    'bootstrap': {'resamples': bootstrap, 'unit': 'patient', 'level': 0.95},
  }


def score_target(
  columns: Mapping[str, np.ndarray],
  probabilities: np.ndarray,
  target: str,
  *,
  aggregate: str = 'mean',
  bootstrap: int = 2_000,
  seed: int = 0,
  threshold: float | None = None,
  **options,
) -> dict:
  """Figures of whatever a target speaks of: cancer, classes, or both.

  Args:
    columns: the columns of a table, (N,) each.
    probabilities: (N, K) float, K being `schema.TARGETS[target]`.
    target: a key of `schema.TARGETS`.
    aggregate: as in `score`, like the others.
    bootstrap: resamples.
    seed: of them.
    threshold: chosen on other data, or None.
    options: the other arguments of `score`.

  Returns:
    'notice', 'target', what `score` returns, and `class_score.score_classes`
    under 'classes'.
  """
  probabilities = np.asarray(probabilities, np.float64)
  found = {'notice': schema.NOTICE, 'target': target}
  if target != 'density':
    cancer = (
      probabilities[:, 0]
      if target == 'cancer'
      else probabilities[:, 1::2].sum(axis=1)
    )
    # A sum of a softmax may exceed 1 by a rounding error.
    cancer = np.minimum(cancer, 1.0)
    found |= score(
      {**columns, 'label': columns['cancer'], 'probability': cancer},
      aggregate=aggregate,
      bootstrap=bootstrap,
      seed=seed,
      threshold=threshold,
      **options,
    )
  if schema.TARGETS[target] > 1:
    found['classes'] = class_score.score_classes(
      schema.target_labels(columns, target),
      probabilities,
      columns['patient_id'],
      bootstrap=bootstrap,
      seed=seed,
    )
  return found


def text(found: Mapping) -> str:
  """The main figures as lines of text, for a terminal."""
  lines = []
  if 'breast' in found:
    level = found['breast']
    lines.append(
      f'{level["n"]:,} breasts of {level["patients"]:,} patients, '
      f'{level["positives"]:,} positive'
    )
    for name, title in (
      ('roc_auc', 'ROC AUC'),
      ('average_precision', 'average precision'),
      ('pf1', 'pF1'),
      ('pf1_best_threshold', 'F1 at a threshold'),
    ):
      lines.append(f'  {title:18} {_shown(level.get(name))}')
  if 'classes' in found:
    level = found['classes']
    lines.append(f'{level["n"]:,} images of {len(level["names"])} classes')
    for name, title in (
      ('accuracy', 'accuracy'),
      ('macro_f1', 'macro F1'),
      ('quadratic_kappa', 'density kappa'),
    ):
      lines.append(f'  {title:18} {_shown(level.get(name))}')
  return '\n'.join(lines)


def _shown(figure: Mapping | None) -> str:
  if not figure or figure['value'] is None:
    return 'not defined'
  shown = f'{figure["value"]:.4f}'
  if figure['low'] is not None:
    shown += f'  (95 % interval {figure["low"]:.4f} to {figure["high"]:.4f})'
  return shown
