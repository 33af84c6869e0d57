"""Whether a retrained model may take the place of the one that serves.

It decides from predictions alone: the new model may not be worse on the
original validation set by more than a margin, has to be better on the
submissions' validation side, both by the interval of a paired difference, and
the labels that it learned from must not contradict the models beyond chance.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rsna_jax import errors, schema
from rsna_jax.serve.learning import contradiction
from rsna_jax.stats import paired

READINGS = ('cancer', 'dense')  # what may be ranked, the first counts most
_OF_RANKS = ('roc_auc', 'average_precision')
_OF_PROBABILITIES = ('brier', 'log_loss')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
  """What is asked of a new model.

  Attributes:
    margin: of AUC, by which it may be worse on the original set.
    least_patients: with, and without, that submissions must have to judge by.
    contradiction: the p below which labels contradict the models; 0: any do.
    resamples: of patients, behind each interval.
    seed: of them.
  """

  margin: float = 0.02
  least_patients: int = 10
  contradiction: float = 0.01
  resamples: int = 2_000
  seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cases:
  """What the two models say of the same cases.

  Attributes:
    labels: (N,) 0, 1, or -1 for unknown.
    patients: (N,).
    old, new: (N,) probabilities, for the ranking.
    old_calibrated, new_calibrated: (N,), for log loss and Brier score; None:
      as they are.
  """

  labels: np.ndarray
  patients: np.ndarray
  old: np.ndarray
  new: np.ndarray
  old_calibrated: np.ndarray | None = None
  new_calibrated: np.ndarray | None = None

  def patients_of(self, label: int) -> int:
    """How many patients have a case with a label."""
    of = np.asarray(self.labels) == label
    return len(np.unique(np.asarray(self.patients)[of]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What was decided.

  Attributes:
    promote: whether the new model may serve.
    reason: one sentence.
    scores: plain values: {'original' and 'submissions': {reading: {'n',
      'positives', 'patients', 'figures': {name: {'old', 'new', 'difference'
      (new less old: value, low, high)}}}}, 'contradiction', 'rule'}.
  """

  promote: bool
  reason: str
  scores: dict


def decide(
  original: Mapping[str, Cases],
  submissions: Mapping[str, Cases],
  suspicion: contradiction.Suspicion | None = None,
  rule: Rule | None = None,
) -> Outcome:
  """Judges a new model against the one that serves.

  Args:
    original: reading -> cases of the original validation set. The first of
      `READINGS` that is there is held to the margin by its interval; a further
      one, of which there are fewer cases, may not be worse beyond noise.
    submissions: reading -> cases of the submissions' validation side. The
      first of `READINGS` that is there has to be better, and none may be worse
      beyond noise.
    suspicion: of the contributors.
    rule: what is asked.
  """
  rule = rule or Rule()
  scores = {
    'original': _compared(original, rule),
    'submissions': _compared(submissions, rule),
    'contradiction': None if suspicion is None else suspicion.to_json(),
    'rule': dataclasses.asdict(rule),
  }
  refusal = (
    _too_few(submissions, rule)
    or _contradicts(suspicion, rule)
    or _worse_on_original(scores['original'], rule)
    or _no_better(scores['submissions'], submissions)
  )
  if refusal:
    return Outcome(
      promote=False, reason=f'Not promoted: {refusal}.', scores=scores
    )
  name = _leading(submissions)
  return Outcome(
    promote=True,
    reason=(
      f'Promoted: on the submissions {_said(scores["submissions"], name)}, and '
      f'on the original validation set {_said(scores["original"], name)}, '
      f'within the margin of {rule.margin:g}.'
    ),
    scores=scores,
  )


def too_few(
  labels, patients, rule: Rule, reading: str = 'cancer'
) -> str | None:
  """Why cases cannot be judged by; None: they can.

  Args:
    labels: (N,) 0, 1 or -1.
    patients: (N,).
    rule: how many it takes.
    reading: what the labels are of; one of `READINGS`.
  """
  none = np.zeros(len(np.asarray(labels)))
  return _few(
    Cases(labels=labels, patients=patients, old=none, new=none), reading, rule
  )


def _leading(readings: Mapping) -> str | None:
  return next((name for name in READINGS if name in readings), None)


def _too_few(submissions: Mapping[str, Cases], rule: Rule) -> str | None:
  name = _leading(submissions)
  if name is None:
    return "the submissions' validation side is empty"
  return _few(submissions[name], name, rule)


def _few(cases: Cases, name: str, rule: Rule) -> str | None:
  with_it, without = cases.patients_of(1), cases.patients_of(0)
  if min(with_it, without) >= rule.least_patients:
    return None
  kind = {'cancer': 'cancer', 'dense': 'dense breasts'}[name]
  return (
    f"the submissions' validation side has {with_it} patients with {kind} and "
    f'{without} without, and it takes {rule.least_patients} of each to tell'
  )


def _contradicts(
  suspicion: contradiction.Suspicion | None, rule: Rule
) -> str | None:
  if suspicion is None or suspicion.p >= rule.contradiction:
    return None
  count = len(suspicion.contributors)
  who = ', '.join(map(str, suspicion.contributors[:8]))
  return (
    f'the labels of {count} contributor{"s" if count > 1 else ""} ({who}'
    f'{", ..." if count > 8 else ""}) contradict the models more than chance '
    f'allows (p {suspicion.p:.2g}; the models lean to '
    f'{suspicion.agreement:.0%} of theirs, {suspicion.cases} images,'
    + (
      ''
      if suspicion.others is None
      else f' and to {suspicion.others:.0%} of the others'
    )
    + '): review them again'
  )


def _worse_on_original(scores: Mapping, rule: Rule) -> str | None:
  if not scores:
    return 'the original validation set has no labels to judge by'
  leading = _leading(scores)
  gap = scores[leading]['figures']['roc_auc']['difference']
  if gap['low'] is None:
    return (
      f'the original validation set cannot tell, {_ranked(leading)} is not '
      'defined on it'
    )
  if gap['low'] <= -rule.margin:
    return (
      f'on the original validation set {_said(scores, leading)}, so it may be '
      f'worse by more than the margin of {rule.margin:g}'
    )
  for name in scores:
    gap = scores[name]['figures']['roc_auc']['difference']
    if gap['high'] is not None and gap['high'] < 0:
      return (
        f'on the original validation set it is worse: {_said(scores, name)}'
      )
  return None


def _no_better(scores: Mapping, submissions: Mapping[str, Cases]) -> str | None:
  leading = _leading(submissions)
  gap = scores[leading]['figures']['roc_auc']['difference']
  if gap['low'] is None or gap['low'] <= 0:
    return (
      f'on the submissions {_said(scores, leading)}, so it is not known to be '
      'better'
    )
  for name in scores:
    gap = scores[name]['figures']['roc_auc']['difference']
    if gap['high'] is not None and gap['high'] < 0:
      return f'on the submissions it is worse: {_said(scores, name)}'
  return None


def _ranked(name: str) -> str:
  return {'cancer': 'the AUC of cancer', 'dense': 'the AUC of dense breasts'}[
    name
  ]


def _said(scores: Mapping, name: str) -> str:
  """One figure and its difference."""
  if name not in scores:
    return f'{_ranked(name)} is not defined'
  figure = scores[name]['figures']['roc_auc']
  gap = figure['difference']
  if gap['value'] is None:
    return f'{_ranked(name)} is not defined'
  return (
    f'{_ranked(name)} is {figure["new"]:.3f} against {figure["old"]:.3f} '
    f'({gap["value"]:+.3f}, {gap["low"]:+.3f} to {gap["high"]:+.3f})'
  )


def _compared(cases: Mapping[str, Cases], rule: Rule) -> dict:
  found = {}
  for name, one in cases.items():
    if name not in READINGS:
      raise errors.ConfigError(
        f'reading {name!r}: choose from {", ".join(READINGS)}'
      )
    known = np.asarray(one.labels) != schema.MISSING
    if known.any():
      found[name] = _figures(one, known, rule)
  return found


def _figures(one: Cases, known: np.ndarray, rule: Rule) -> dict:
  def compare(new, old, names):
    return paired.compare(
      np.asarray(one.labels)[known],
      np.asarray(new)[known],
      np.asarray(old)[known],
      np.asarray(one.patients)[known],
      names=names,
      bootstrap=rule.resamples,
      seed=rule.seed,
    )

  ranks = compare(one.new, one.old, _OF_RANKS)
  figures = dict(ranks['figures'])
  figures |= compare(
    one.new if one.new_calibrated is None else one.new_calibrated,
    one.old if one.old_calibrated is None else one.old_calibrated,
    _OF_PROBABILITIES,
  )['figures']
  return {
    'n': ranks['n'],
    'positives': ranks['positives'],
    'patients': ranks['patients'],
    'figures': {
      name: {
        'old': figure['second'],
        'new': figure['first'],
        'difference': figure['difference'],
      }
      for name, figure in figures.items()
    },
  }
