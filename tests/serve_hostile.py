"""Hostile uploads, each made from nothing, and how they have to be answered.

The letters and numbers are those of the list of attacks that the server was
designed against: A01 is an empty file, A31 an unusual PNG.
"""

import collections
import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator

# Put wherever a file can hold text; it must never come out again.
CANARY = 'CANARY-7F3A'
OK = 'OK'
# (where, attack, code) of each that was tried, for the summary of the tests.
ANSWERS: list[tuple[str, str, str]] = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """An upload.

  Attributes:
    attack: its number, as in 'A07'.
    name: of the case.
    make: gives the bytes of the file.
    filename: that goes with it.
    answers: the codes that are right, `OK` for a picture that is taken.
    warned: a word that has to stand in a warning, or ''.
  """

  attack: str
  name: str
  make: Callable[[], bytes]
  answers: frozenset[str]
  filename: str = 'a'
  warned: str = ''

  def __str__(self) -> str:
    return f'{self.attack} {self.name}'


def case(
  attack: str,
  name: str,
  make: bytes | Callable[[], bytes],
  *answers: str,
  filename: str = 'a',
  warned: str = '',
) -> Case:
  """A case of bytes, or of a function that makes them when they are needed."""
  return Case(
    attack=attack,
    name=name,
    make=make if callable(make) else lambda: make,
    answers=frozenset(answers),
    filename=filename,
    warned=warned,
  )


def cases() -> Iterator[Case]:
  """All of them; their names are unique."""
  import serve_hostile_damaged
  import serve_hostile_dicom
  import serve_hostile_headers
  import serve_hostile_pictures
  import serve_hostile_streams
  import serve_hostile_types

  seen = set()
  for module in (
    serve_hostile_types,
    serve_hostile_dicom,
    serve_hostile_headers,
    serve_hostile_streams,
    serve_hostile_pictures,
    serve_hostile_damaged,
  ):
    for found in module.cases():
      assert str(found) not in seen, found
      seen.add(str(found))
      yield found


def each(ask: Callable[[Case], None], threads: int) -> None:
  """Calls a function with each case, from several threads.

  A case is made when its turn comes and dropped after it: some are big.
  """
  lock = threading.Lock()
  remaining = cases()

  def work():
    while True:
      with lock:
        found = next(remaining, None)
      if found is None:
        return
      ask(found)

  with concurrent.futures.ThreadPoolExecutor(threads) as executor:
    for future in [executor.submit(work) for _ in range(threads)]:
      future.result()


def table(answers: Iterable[tuple[str, str, str]]) -> list[str]:
  """How many were tried and how they were answered, as lines of text.

  Args:
    answers: (where, attack, code) of each input.
  """
  counts: dict[str, collections.Counter] = collections.defaultdict(
    collections.Counter
  )
  attacks: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
  for where, attack, code in answers:
    counts[where][code] += 1
    attacks[where, code].add(attack)
  lines = []
  for where, codes in counts.items():
    lines.append(f'{where}: {codes.total()} hostile inputs')
    for code, count in sorted(codes.items()):
      named = ' '.join(sorted(attacks[where, code]))
      lines.append(f'  {code:<14}{count:>5}  {named}')
  return lines
