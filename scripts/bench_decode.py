#!/usr/bin/env python3
"""Times DICOM files to training images: the usual scripts and this package.

  pip install --target PEERS --no-deps opencv-python-headless \\
    dicomsdl==0.109.4 python-gdcm numba llvmlite
  PYTHONPATH=PEERS python scripts/bench_decode.py --files CACHE \\
    --check --stages --quality

Made-up files go to CACHE once; real ones are found by RSNA_JAX_DATA. All
contestants take turns at each file, each in a process of its own with one
thread, which measures its own CPU time, wall time and peak memory. Prints
Markdown.
"""

import argparse
import collections
import datetime
import importlib.metadata
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Sequence

import bench_contestants
import bench_files
import bench_quality
import bench_stages
import imagecodecs
import numpy as np

_PACKAGES = (
  'rsna_jax',
  'numpy',
  'pydicom',
  'pylibjpeg-openjpeg',
  'imagecodecs',
  'opencv-python-headless',
  'dicomsdl',
  'python-gdcm',
  'pylibjpeg-libjpeg',
  'numba',
)
# (file, contestant) -> measurements, at one size
Results = dict[
  tuple[bench_files.File, str], list[bench_contestants.Measurement]
]


def header() -> list[str]:
  """Date, machine, versions and command, for the record."""
  versions = []
  for name in _PACKAGES:
    try:
      versions.append(f'{name} {importlib.metadata.version(name)}')
    except importlib.metadata.PackageNotFoundError:
      versions.append(f'{name} absent')
  model = platform.processor() or platform.machine()
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  if cpuinfo.exists():
    for line in cpuinfo.read_text(encoding='utf-8').splitlines():
      if line.startswith('model name'):
        model = line.partition(':')[2].strip()
  load = ' '.join(f'{value:.2f}' for value in os.getloadavg())
  return [
    f'{datetime.datetime.now():%Y-%m-%d %H:%M}, {os.cpu_count()} cores of '
    f'{model}, load average {load}, Python {platform.python_version()}.',
    f'{", ".join(versions)}.',
    f'`python {" ".join(sys.argv)}`',
  ]


def run(
  workers: Sequence[bench_contestants.Worker],
  files: Sequence[bench_files.File],
  size: tuple[int, int],
  repeats: int,
) -> Results:
  """Measures every contestant at every file, in turns."""
  found: Results = collections.defaultdict(list)
  # Compiling, importing and growing the heap are not what is compared.
  for file in {f.codec: f for f in sorted(files, key=lambda f: -f.bytes)}:
    first = min((f for f in files if f.codec == file), key=lambda f: f.bytes)
    for worker in workers:
      worker.measure(first.path, size)
  for turn in range(repeats):
    for file in files:
      pathlib.Path(file.path).read_bytes()  # into the page cache
      for i in range(len(workers)):
        worker = workers[(i + turn) % len(workers)]
        measured = worker.measure(file.path, size)
        found[file, worker.name].append(measured)
  return found


def _median(
  found: Results, file: bench_files.File, name: str, what: str
) -> float:
  return float(np.median([getattr(m, what) for m in found[file, name]]))


def table(
  found: Results,
  files: Sequence[bench_files.File],
  names: Sequence[str],
  what: str,
  reduce: Callable[[Sequence[float]], float] = np.mean,
) -> list[str]:
  """Lines of a Markdown table by codec and size."""
  groups = collections.defaultdict(list)
  for file in files:
    groups[file.codec, file.size].append(file)
  lines = [
    f'| codec | size | files | MB | {" | ".join(names)} |',
    '| --- ' * (4 + len(names)) + '|',
  ]
  rows = [*groups.items(), (('all', ''), list(files))]
  for (codec, size), group in rows:
    cells = [
      f'{reduce([_median(found, f, name, what) for f in group]):.0f}'
      for name in names
    ]
    megabytes = np.mean([f.bytes for f in group]) / 1e6
    lines.append(
      f'| {codec} | {size} | {len(group)} | {megabytes:.1f} '
      f'| {" | ".join(cells)} |'
    )
  return lines


def ratios(
  found: Results,
  files: Sequence[bench_files.File],
  names: Sequence[str],
  what: str,
) -> list[str]:
  """Lines of a Markdown table: how many times as fast as the usual scripts."""
  totals = {
    name: sum(_median(found, file, name, what) for file in files)
    for name in names
  }
  peers = [name for name in names if name.endswith('script')]
  lines = [
    f'| times as fast as | {" | ".join(n for n in names if n not in peers)} |',
    '| --- ' * (1 + len(names) - len(peers)) + '|',
  ]
  for peer in peers:
    cells = [
      f'{totals[peer] / totals[name]:.1f}'
      for name in names
      if name not in peers
    ]
    lines.append(f'| {peer} | {" | ".join(cells)} |')
  return lines


def check(found: Results, names: Sequence[str]) -> list[str]:
  """Lines of a Markdown table: correlation with the first of our pictures."""
  files = list(dict.fromkeys(file for file, _ in found))
  ours = next(name for name in names if not name.endswith('script'))
  pictures = {
    key: imagecodecs.png_decode(measured[0].png).astype(np.float64).ravel()
    for key, measured in found.items()
  }
  lines = [
    f'| | least correlation with {ours} | mean | of |',
    '| --- ' * 4 + '|',
  ]
  for name in names:
    values = [
      np.corrcoef(pictures[f, name], pictures[f, ours])[0, 1] for f in files
    ]
    worst = pathlib.Path(files[int(np.argmin(values))].path).name
    lines.append(
      f'| {name} | {min(values):.4f} | {np.mean(values):.4f} | {worst} |'
    )
  return lines


def _sizes(text: str) -> list[tuple[int, int]]:
  return [tuple(map(int, part.split('x'))) for part in text.split(',')]


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--files', type=pathlib.Path, required=True)
  parser.add_argument('--sets', default='synthetic,real')
  parser.add_argument('--sizes', type=_sizes, default='1024x512,512x256')
  parser.add_argument('--qualities', default='fast', help='fast,fine,exact')
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--only', default='', help='files whose path has this')
  parser.add_argument('--no-speed', action='store_true')
  parser.add_argument('--check', action='store_true', help='compare pictures')
  parser.add_argument('--stages', action='store_true', help='and the floor')
  parser.add_argument('--quality', action='store_true')
  parser.add_argument('--pool', action='store_true', help='workers together')
  return parser.parse_args()


def _speed(
  options: argparse.Namespace,
  files: Sequence[bench_files.File],
  workers: Sequence[bench_contestants.Worker],
) -> None:
  names = [worker.name for worker in workers]
  for size in options.sizes:
    title = f'{size[0]}x{size[1]}'
    if options.check:
      found = run(workers, files, size, 1)
      _print(f'Pictures alike, {title}', check(found, names))
    if options.no_speed:
      continue
    found = run(workers, files, size, options.repeats)
    for what, unit in (('cpu_ms', 'CPU'), ('wall_ms', 'wall')):
      _print(
        f'{unit} milliseconds, {title}, medians of {options.repeats}',
        table(found, files, names, what),
      )
      _print(f'{unit} time, {title}', ratios(found, files, names, what))
    _print(
      f'Peak memory of the process in MB, {title}',
      table(found, files, names, 'peak_mb', max),
    )


def _print(title: str, lines: Sequence[str]) -> None:
  print(f'\n### {title}\n', *lines, sep='\n', flush=True)


def main() -> None:
  """Runs the command line."""
  options = _options()
  print(*header(), sep='\n\n')
  qualities = tuple(options.qualities.split(','))
  present = []
  for contestant in bench_contestants.contestants(qualities):
    if missing := contestant.missing():
      print(f'\n{contestant.name}: left out; pip install {" ".join(missing)}')
    else:
      present.append(contestant)
  if any(c.script == 'pydicom' for c in present):
    print(
      '\nThe pydicom script decodes JPEG 2000 by pylibjpeg-openjpeg and JPEG '
      f'lossless by {bench_contestants.lossless_plugin()}.'
    )
  numba = sorted({c.numba for c in present if c.script == 'ours'})
  for kind in options.sets.split(','):
    files = (
      bench_files.synthetic(options.files)
      if kind == 'synthetic'
      else bench_files.real()
    )
    files = [file for file in files if options.only in file.path]
    if not files:
      print(f'\nNo {kind} files: see --only and RSNA_JAX_DATA.')
      continue
    mean = np.mean([file.bytes for file in files]) / 1e6
    print(f'\n## {kind}: {len(files)} files of {mean:.2f} MB on average')
    if options.check or not options.no_speed:
      workers = [bench_contestants.Worker(c) for c in present]
      _speed(options, files, workers)
      for worker in workers:
        worker.close()
    for size in options.sizes:
      title = f'{size[0]}x{size[1]}, {qualities[0]}'
      if options.stages:
        _print(
          f'Stages, CPU ms, {title}',
          bench_stages.stages(
            files, size, qualities[0], options.repeats, True in numba
          ),
        )
      if options.pool:
        _print(
          f'Throughput, {title}',
          bench_stages.pool(files, size, qualities[0], numba),
        )
    if options.stages:
      _print('The floor, CPU ms', bench_stages.floor(files, options.repeats))
    if options.quality:
      _print('Quality', bench_quality.quality(files, options.sizes))


if __name__ == '__main__':
  main()
