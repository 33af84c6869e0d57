"""Where the time of a standard image goes, the floor beneath it, a pool's rate.

The stages are timed on the real way of a file: functions of the package are
wrapped where they stand, and what a wrapped one calls is not counted twice.
"""

import collections
import functools
import hashlib
import importlib
import multiprocessing
import os
import pathlib
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import bench_contestants
import bench_files
import numpy as np

from rsna_jax.data import convert, sandbox

# Stage, module and function. Those of _BY_LEVEL take a level of the pyramid as
# their second argument, and make a thumbnail from level 3 on.
STAGES = (
  ('read', 'rsna_jax.data.sources:read'),
  ('hash', 'hashlib:sha256'),
  ('header', 'rsna_jax.data.dicom_file:File.__init__'),
  ('header', 'rsna_jax.data.dicom_header:fields'),
  ('frame from file', 'pydicom.encaps:get_frame'),
  ('decode', 'rsna_jax.data.openjp2:decode'),
  ('decode', 'rsna_jax.data.fused:decode'),
  ('decode', 'imagecodecs:jpeg8_decode'),
  ('low-pass', 'rsna_jax.data.wavelet:low_pass'),
  ('find breast', 'rsna_jax.data.breast:find'),
  ('window', 'rsna_jax.data.grey:curve'),
  ('resize', 'rsna_jax.data.resize:area'),
  ('encode', 'rsna_jax.data.preprocess:encode_png'),
  ('facts for the audit', 'rsna_jax.data.survey:describe'),
)
_BY_LEVEL = (
  'rsna_jax.data.openjp2:decode',
  'rsna_jax.data.wavelet:low_pass',
)
_REST = 'rest'
_THUMBNAIL_LEVEL = 3


class Clock:
  """CPU time by stage, each moment counted for the innermost one."""

  def __init__(self):
    self.seconds: dict[str, float] = collections.defaultdict(float)
    self._open = [_REST]
    self._last = time.process_time()

  def _tick(self) -> None:
    now = time.process_time()
    self.seconds[self._open[-1]] += now - self._last
    self._last = now

  def timed(
    self, stage: str, function: Callable[..., Any], by_level: bool = False
  ) -> Any:
    """The function, and any function it returns, on this clock."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
      name = stage
      if by_level:
        level = args[1] if len(args) > 1 else kwargs['level']
        name = 'thumbnail' if level >= _THUMBNAIL_LEVEL else stage
      self._tick()
      self._open.append(name)
      try:
        found = function(*args, **kwargs)
      finally:
        self._tick()
        self._open.pop()
      return self.timed(stage, found) if callable(found) else found

    return wrapped

  def stop(self) -> dict[str, float]:
    """Seconds by stage since the last call."""
    self._tick()
    found, self.seconds = self.seconds, collections.defaultdict(float)
    return dict(found)


def _wrap(clock: Clock) -> list[str]:
  """Puts the functions of STAGES on a clock; returns those that are absent."""
  absent = []
  for stage, target in STAGES:
    module, _, path = target.partition(':')
    *parents, name = path.split('.')
    try:
      owner = importlib.import_module(module)
      for parent in parents:
        owner = getattr(owner, parent)
      timed = clock.timed(stage, getattr(owner, name), target in _BY_LEVEL)
      setattr(owner, name, timed)
    except (ImportError, AttributeError):
      absent.append(target)
  return absent


def _measured(
  paths: Sequence[str], spec: dict, repeats: int
) -> tuple[dict[str, float], list[str]]:
  """Mean milliseconds of each stage over the files; in a process of its own."""
  for path in paths[:2]:
    bench_contestants.ours(path, spec)
  clock = Clock()
  absent = _wrap(clock)
  sums: dict[str, float] = collections.defaultdict(float)
  for path in paths:
    runs = []
    for _ in range(repeats):
      clock.stop()
      bench_contestants.ours(path, spec)
      runs.append(clock.stop())
    runs.sort(key=lambda run: sum(run.values()))
    for stage, seconds in runs[len(runs) // 2].items():
      sums[stage] += 1e3 * seconds / len(paths)
  return dict(sums), absent


def stages(
  files: Sequence[bench_files.File],
  size: tuple[int, int],
  quality: str,
  repeats: int,
  with_numba: bool,
) -> list[str]:
  """Lines of a Markdown table: the stages of each codec, and their shares."""
  columns, notes = {}, []
  for codec in sorted({file.codec for file in files}):
    paths = [file.path for file in files if file.codec == codec]
    for numba in (False, True) if with_numba else (False,):
      context = multiprocessing.get_context('spawn')
      spec = bench_contestants.spec_of(size, quality)
      with bench_contestants.environment(True, numba), context.Pool(1) as pool:
        found, absent = pool.apply(_measured, (paths, spec, repeats))
      columns[f'{codec}{", numba" if numba else ""}'] = found
      notes = [f'Not found, so not timed apart: {", ".join(absent)}.']
  order = dict.fromkeys(stage for stage, _ in STAGES)
  names = ['thumbnail', *order, _REST]
  lines = [
    f'| stage | {" | ".join(f"{name}, ms | share" for name in columns)} |',
    '| --- ' * (1 + 2 * len(columns)) + '|',
  ]
  for name in names:
    if not any(name in found for found in columns.values()):
      continue
    cells = []
    for found in columns.values():
      share = found.get(name, 0) / sum(found.values())
      cells.append(f'{found.get(name, 0):.1f} | {share:.0%}')
    lines.append(f'| {name} | {" | ".join(cells)} |')
  totals = [f'{sum(found.values()):.1f} | ' for found in columns.values()]
  lines.append(f'| all | {" | ".join(totals)} |')
  return lines + (['', *notes] if absent else [])


def floor(files: Sequence[bench_files.File], repeats: int) -> list[str]:
  """Lines of a Markdown table: what merely touching the bytes would cost."""
  lines = [
    '| files | memcpy of the pixels, ms | crc32 of the file | sum of its bytes '
    '| SHA-256 of it |',
    '| --- ' * 5 + '|',
  ]
  for codec in sorted({file.codec for file in files}):
    group = [file for file in files if file.codec == codec]
    sums = np.zeros(4)
    for file in group:
      data = pathlib.Path(file.path).read_bytes()
      rows, columns = map(int, file.size.split('x'))
      source = np.ones((rows, columns), np.uint16)
      target = np.zeros_like(source)
      packed = np.frombuffer(data, np.uint8)
      sums += [
        _median_ms(function, repeats)
        for function in (
          functools.partial(np.copyto, target, source),
          functools.partial(zlib.crc32, data),
          functools.partial(np.add.reduce, packed, dtype=np.uint64),
          lambda data=data: hashlib.sha256(data).digest(),
        )
      ]
    cells = ' | '.join(f'{value:.1f}' for value in sums / len(group))
    lines.append(f'| {codec} | {cells} |')
  return lines


def pool(
  files: Sequence[bench_files.File],
  size: tuple[int, int],
  quality: str,
  numba: Sequence[bool],
) -> list[str]:
  """Lines of a Markdown table: pictures a second of the pool of `prepare`."""
  spec = bench_contestants.spec_of(size, quality)
  cores = os.cpu_count() or 1
  lines = ['| workers | numba | pictures a second |', '| --- ' * 3 + '|']
  for workers in sorted({1, cores}):
    for extra in numba:
      items = [(file.path, spec, None) for file in files]
      with (
        bench_contestants.environment(True, extra),
        sandbox.Pool(convert.standard_example, workers) as children,
      ):
        list(children.map(items[:1] * workers * 2))
        start = time.monotonic()
        done = sum(isinstance(a, dict) for _, a in children.map(items * 2))
        seconds = time.monotonic() - start
      lines.append(f'| {workers} | {extra} | {done / seconds:.1f} |')
  return lines


def _median_ms(function: Callable[[], Any], repeats: int) -> float:
  times = []
  for _ in range(max(3, repeats)):
    start = time.process_time()
    function()
    times.append(time.process_time() - start)
  return 1e3 * float(np.median(times))
