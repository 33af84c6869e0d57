"""The whole loop of submissions on phantoms, and attacks on it, measured.

A model learns from too few patients; simulated contributors submit pictures of
others through the real intake and store; a reviewer who knows the truth
corrects them, or a blind one lets an attack pass; the model is retrained and
judged. Prints a Markdown table. About 10 minutes on two cores alone.

  python scripts/loop_phantoms.py OUT [--only honest,flipped,...]
"""

import argparse
import json
import pathlib
import shutil
import sys
import time

import loop_attacks
import loop_cases
import numpy as np

from rsna_jax import errors
from rsna_jax.serve import problems
from rsna_jax.serve.learning import (
  judging,
  promotion,
  retrain,
  retrain_options,
  review,
)
from rsna_jax.serve.store import (
  accounts,
  blobs,
  database,
  frozen_index,
  labels,
  submissions,
  verdicts,
  versions,
)

OPTIONS = (
  *('workers=2', 'steps=250', 'learning_rate=0.001'),
  'share=0.75',  # there is little to replay
)
ERRORS = 0.05  # of honest labels


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('out', type=pathlib.Path)
  parser.add_argument('--only', default=','.join(loop_attacks.VARIANTS))
  parser.add_argument('--set', action='append', default=[])
  options = parser.parse_args()
  start = time.monotonic()
  out = options.out
  base = loop_cases.make_base(out)
  third = loop_cases.make_third(out, base)
  cases, copies = loop_cases.take_in(out, base)
  rows = []
  for name in options.only.split(','):
    rows.append(play(name, out, base, cases, copies, third, options.set))
    print(f'--- {name}: {time.monotonic() - start:.0f} s', file=sys.stderr)
  print(table(rows))


def play(name, out, base, cases, copies, third, pairs) -> dict:
  """One variant, from an empty store to the decision."""
  folder = out / f'store_{name}'
  shutil.rmtree(folder, ignore_errors=True)
  db = database.Database(None, folder)
  db.migrate()
  models = versions.Models(db, folder)
  models.register_first(base)
  frozen_index.ensure(db, folder, base)
  with db.session() as session:
    people = [
      accounts.create(session, f'user{i}', 'a long password', 'contributor')
      for i in range(loop_attacks.USERS)
    ]
    reviewer = accounts.create(session, 'chief', 'a long password', 'reviewer')
  pictures = blobs.Blobs(folder / 'blobs')
  given = loop_attacks.VARIANTS[name](cases)
  for i, (case, kept, cancer) in enumerate(given):
    with_errors = np.random.default_rng(i).random() < ERRORS
    submit(
      db,
      pictures,
      kept,
      1 - cancer if with_errors else cancer,
      case,
      people[loop_attacks.user_of(case, cases)],
    )
  caught = 0
  if name == 'honest':
    for i, kept in enumerate(copies):
      row = submit(db, pictures, kept, i % 2, cases[i], people[0], f'copy{i}')
      caught += row is None or row['status'] == 'quarantined'
  flagged = judge_queue(db, reviewer, cases, blind=name != 'honest')
  row = {'name': name, 'caught': caught, 'flagged': flagged}
  options = retrain_options.parse([*OPTIONS, *pairs])
  try:
    result = retrain.run(db, options, say=lambda line: print(line, flush=True))
    row |= {'reason': result.outcome.reason, 'scores': result.outcome.scores}
    row['promoted'] = result.outcome.promote
    new = judging.Reader(result.model.folder)
  except errors.InputError as error:
    row |= {'reason': str(error), 'scores': None, 'promoted': False}
    db.close()
    return row
  old = judging.Reader(models.get(1).folder)
  everything = np.arange(len(third))
  pair = judging.cases(old.read(third, everything), new.read(third, everything))
  outcome = promotion.decide(pair, pair)
  row['third'] = outcome.scores['original']['cancer']
  row['patched'] = loop_attacks.auc_with_patch(third, old, new)
  (out / f'{name}.json').write_text(json.dumps(row, indent=2))
  db.close()
  return row


def submit(db, pictures, kept, cancer, case, user, patient=None):
  """One submission; None where it is refused as a duplicate."""
  fields = {
    'cancer': str(cancer),
    'density': str(case.density),
    'evidence': 'biopsy',
    'confidence': '4',
    'text_checked': 'true',
    'patient': patient or f'p{case.patient}',
  }
  try:
    return submissions.add(
      db,
      pictures,
      kept,
      labels.Labels.parse(fields),
      case.upload.attributes,
      user,
      case.said,
      frozen_index.load(db),
    )
  except problems.Problem as problem:
    if problem.code != 'E_DUPLICATE':
      raise
    return None


def judge_queue(db, reviewer, cases, blind: bool) -> list[str]:
  """Reviews the queue; returns who is flagged before anything is accepted.

  The reviewer knows the truth and corrects what is wrong; a blind one accepts
  all as it is.
  """
  truth = {f'p{case.patient}': case.cancer for case in cases}
  with db.reading() as session:
    flagged = [x.name for x in review.contributors(session) if x.flags]
    queue = submissions.queue(session, limit=10_000)
  for row in queue:
    right = truth.get(row['patient'], row['cancer'])
    with db.session() as session:
      if not blind and row['cancer'] != right:
        verdicts.correct(
          session, row['id'], reviewer, row['density'], right, distinct=True
        )
      else:
        verdicts.accept(session, row['id'], reviewer, distinct=True)
  return flagged


def table(rows) -> str:
  """The Markdown table of all variants."""
  lines = [
    '| submissions | (a) original validation | (b) submissions | '
    '(c) untouched | with a patch | flagged in review | decision |',
    '| --- | --- | --- | --- | --- | --- | --- |',
  ]
  for row in rows:
    name = row['name']
    if row['name'] == 'honest':
      name += (
        f' ({row["caught"]} of {loop_cases.COPIES} copies of frozen images '
        'quarantined)'
      )
    cells = ['-'] * 4
    if row['scores'] is not None:
      cells = [
        _cell(row['scores']['original']['cancer']),
        _cell(row['scores']['submissions']['cancer']),
        _cell(row['third']),
        f'{row["patched"][0]:.3f} to {row["patched"][1]:.3f}',
      ]
    who = ', '.join(row['flagged']) or 'nobody'
    cells += [who, row['reason']]
    lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def _cell(scores) -> str:
  figure = scores['figures']['roc_auc']
  gap = figure['difference']
  return (
    f'{figure["old"]:.3f} to {figure["new"]:.3f} ({gap["value"]:+.3f}, '
    f'{gap["low"]:+.3f} to {gap["high"]:+.3f})'
  )


if __name__ == '__main__':
  main()
