#!/usr/bin/env python3
"""Gives damaged mammograms to the decoders and counts what becomes of them.

  python scripts/fuzz_decode.py                    2,000 files, every syntax
  python scripts/fuzz_decode.py --files 100 --seed 7 --list
  python scripts/fuzz_decode.py --corrupt-share 0.01,0.1,1.0

The files take the way of `rsna-jax prepare`: through a pool of child processes.
The exit code is 1 if the pool ended, a file took over 10 s, a refusal was not
one line, or a file was accepted whose codestream and header disagree; and, of
the last form, if the files left out are not exactly those that were damaged.
"""

import argparse
import collections
import concurrent.futures
import csv
import dataclasses
import functools
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import fuzz_files
import numpy as np

from rsna_jax import errors
from rsna_jax.data import convert, phantom, preprocess, sandbox

LIMIT_S = 10.0
SPEC = preprocess.Spec(size=(256, 128))
IDENTICAL, DIFFERENT, ACCEPTED = 'identical', 'different', 'accepted'
REFUSED, FAULT, MEMORY = 'refused', 'unforeseen error', 'over its memory'
DIED, SLOW = 'worker died', f'over {LIMIT_S:g} s'
# How the pool words what was not the function's own refusal.
_WORDS = {
  'decoding it crashed': DIED,
  'not done after': SLOW,
  'needs more than': MEMORY,
}
_FAULT = re.compile(r'[A-Z]\w*(Error|Exception|Exit|Interrupt|Iteration)\b')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What became of a damaged file: its stored values and standard image."""

  index: int
  syntax: str
  kind: str
  pixels: str
  example: str
  disagreement: str
  seconds: float
  messages: tuple[str, ...]


def outcomes(count: int, seed: int, workers: int = 2) -> Iterator[Outcome]:
  """Damages files and yields what becomes of each, in order.

  Args:
    count: of files.
    seed: of all damage.
    workers: child processes of each of the two pools.
  """
  pools = [
    sandbox.Pool(function, workers, time_s=LIMIT_S)
    for function in (convert.standard_example, 'fuzz_files:look')
  ]
  with (
    pools[0],
    pools[1],
    tempfile.TemporaryDirectory() as folder,
    concurrent.futures.ThreadPoolExecutor(workers) as threads,
  ):
    one = functools.partial(_outcome, pathlib.Path(folder), pools, seed)
    yield from threads.map(one, range(count))


def _outcome(
  folder: pathlib.Path, pools: Sequence[sandbox.Pool], seed: int, index: int
) -> Outcome:
  file = fuzz_files.damaged(index, seed)
  path = folder / f'{index}.dcm'
  path.write_bytes(file.data)
  name, seconds, messages = str(path), [], []

  def ask(pool: sandbox.Pool, item: object) -> tuple[str, object]:
    start = time.monotonic()
    try:
      return ACCEPTED, pool.call(item, name=name)
    except sandbox.SandboxError as error:
      messages.append(str(error))
      return _refusal(str(error).removeprefix(f'{name}: ')), None
    finally:
      seconds.append(time.monotonic() - start)

  example, _ = ask(pools[0], (name, SPEC.to_json(), None))
  pixels, found = ask(pools[1], ('stored', name))
  said, heard = '', tuple(messages)
  if ACCEPTED in (example, pixels):
    # What pydicom cannot read it cannot judge either.
    judged, answer = ask(pools[1], ('disagreement', name))
    said = str(answer) if judged == ACCEPTED else ''
  if pixels == ACCEPTED:
    pixels = IDENTICAL if found == fuzz_files.digest(file.pixels) else DIFFERENT
  path.unlink()
  return Outcome(
    index=index,
    syntax=file.syntax.name,
    kind=file.kind,
    pixels=pixels,
    example=example,
    disagreement=said,
    seconds=max(seconds[:2]),
    messages=heard,
  )


def _refusal(message: str) -> str:
  for words, what in _WORDS.items():
    if message.startswith(words):
      return what
  return FAULT if _FAULT.match(message) else REFUSED


def is_bad(outcome: Outcome) -> bool:
  """Whether an outcome must not happen."""
  return (
    SLOW in (outcome.pixels, outcome.example)
    or outcome.seconds > LIMIT_S
    or bool(outcome.disagreement)
    or any('\n' in message for message in outcome.messages)
  )


def table(found: Sequence[Outcome], key: Callable[[Outcome], str]) -> str:
  """A Markdown table of outcomes, by syntax or by kind of damage."""
  groups = collections.defaultdict(list)
  for outcome in found:
    groups[key(outcome)].append(outcome)
  columns = (IDENTICAL, REFUSED, DIFFERENT, FAULT, MEMORY, DIED, SLOW)
  lines = [
    f'| damaged | files | {" | ".join(columns)} | disagree | images made '
    '| worst s |',
    '| --- ' * (len(columns) + 5) + '|',
  ]
  for name, group in (*groups.items(), ('all', list(found))):
    counts = collections.Counter(o.pixels for o in group)
    cells = [len(group), *(counts[column] for column in columns)]
    cells += [sum(bool(o.disagreement) for o in group)]
    cells += [sum(o.example == ACCEPTED for o in group)]
    worst = max(o.seconds for o in group)
    lines.append(f'| {name} | {" | ".join(map(str, cells))} | {worst:.1f} |')
  return '\n'.join(lines)


def fuzz(options: argparse.Namespace) -> int:
  """Prints what became of the files, and says how many must not have."""
  start, found = time.monotonic(), []
  for outcome in outcomes(options.files, options.seed, options.workers):
    found.append(outcome)
    if options.list or is_bad(outcome):
      print(
        f'{outcome.index} {outcome.syntax}: {outcome.kind}: {outcome.pixels}, '
        f'{outcome.example} {outcome.disagreement} {outcome.seconds:.2f} s '
        f'{"; ".join(outcome.messages)}'
      )
  died = sum(DIED in (o.pixels, o.example) for o in found)
  bad = sum(map(is_bad, found))
  print(f'{len(found)} damaged files, seed {options.seed}\n')
  print(table(found, lambda o: o.syntax), end='\n\n')
  print(table(found, lambda o: o.kind), end='\n\n')
  for syntax in fuzz_files.MISSING:
    print(f'not among them: {syntax.name}')
  print(
    f'{time.monotonic() - start:.0f} s; {died} killed a worker, and the pool '
    f'went on; {bad} hung, were accepted though codestream and header '
    'disagree, or were not refused in one line'
  )
  return 1 if bad else 0


def corrupt(folder: pathlib.Path, share: float, options) -> int:
  """Prepares a phantom of which a share is damaged; 1 if not found exactly."""
  src = folder / f'phantom_{share}'
  phantom.write(
    src,
    patients=options.patients,
    seed=options.seed,
    scale=0.3,
    workers=options.workers,
  )
  rng = np.random.default_rng(options.seed)
  paths = sorted(src.glob('*_images/*/*.dcm'))
  count = max(1, round(share * len(paths)))
  injected = {
    paths[i].stem for i in rng.choice(len(paths), count, replace=False)
  }
  for path in paths:
    if path.stem in injected:
      data = path.read_bytes()
      forms = (b'', data[:100], data[: len(data) // 2], data[4:], data[:-64])
      path.write_bytes(forms[int(rng.integers(len(forms)))])
  start, note = time.monotonic(), ''
  try:
    built = convert.prepare(
      src,
      folder / f'data_{share}',
      spec=SPEC,
      bad_files='skip',
      workers=options.workers,
    )
    with (built / 'skipped.csv').open(encoding='utf-8', newline='') as file:
      left_out = {row['image_id'] for row in csv.DictReader(file)}
  except errors.DataError as error:
    # Without one good image there is no data set, and the message says so.
    note = str(error)
    left_out = injected if f'all {len(paths)} images are bad' in note else set()
  equal = left_out == injected
  print(
    f'| {share:.0%} | {len(paths)} | {len(injected)} | {len(left_out)} '
    f'| {"yes" if equal else "NO"} | {time.monotonic() - start:.0f} '
    f'| {note.replace(str(folder), "")[:60]} |'
  )
  return 0 if equal else 1


def parser() -> argparse.ArgumentParser:
  """The command line."""
  found = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  found.add_argument('--files', type=int, default=2000)
  found.add_argument('--seed', type=int, default=0)
  found.add_argument('--workers', type=int, default=2)
  found.add_argument('--list', action='store_true', help='name every file')
  found.add_argument('--corrupt-share', help='as in 0.01,0.1,1.0')
  found.add_argument('--patients', type=int, default=25, help='of the phantom')
  return found


def main() -> int:
  """Runs the command line."""
  options = parser().parse_args()
  if not options.corrupt_share:
    return fuzz(options)
  lines = '| share | files | damaged | left out | the same | s | message |'
  print(lines + '\n' + '| --- ' * 7 + '|')
  with tempfile.TemporaryDirectory() as folder:
    shares = [float(share) for share in options.corrupt_share.split(',')]
    return max(corrupt(pathlib.Path(folder), s, options) for s in shares)


if __name__ == '__main__':
  sys.exit(main())
