"""What a run took of other weights, and what it left and why, as a table."""

import dataclasses
import pathlib
from collections.abc import Mapping

from rsna_jax import files

_NAME = 'transfer'  # of the files in the run directory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What became of each array.

  Attributes:
    source: what the weights are of, in words.
    loaded: paths of our arrays that were taken, with their numbers of values.
    left: paths of our arrays that stay as they were made, and why; an array
      of which a part was taken is in both.
    unused: paths of their arrays that have no place here.
  """

  source: str
  loaded: Mapping[str, int]
  left: Mapping[str, str]
  unused: tuple[str, ...] = ()

  def rows(self) -> list[dict]:
    """A row for each module: a first name, or a second where they differ."""
    names = sorted(self.loaded.keys() | self.left.keys())
    rows = []
    for first, members in _grouped(names, 1).items():
      parts = {first: members}
      if len({(n in self.loaded, self.left.get(n)) for n in members}) > 1:
        parts = _grouped(members, 2)
      rows += [self._row(module, names) for module, names in parts.items()]
    return rows

  def text(self) -> str:
    """The table, below a line that says where the weights are from."""
    table = [('module', 'loaded', 'values', 'left as made, and why')]
    for row in self.rows():
      reasons = ['; '.join(row['left'])] if row['left'] else ['']
      count = f'{row["loaded"]} of {row["arrays"]}'
      table.append((row['module'], count, f'{row["values"]:,}', *reasons))
    widths = [max(len(row[i]) for row in table) for i in range(3)]
    lines = [f'starting from {self.source}: {len(self.loaded)} arrays loaded']
    for module, count, values, why in table:
      line = f'  {module:{widths[0]}}  {count:>{widths[1]}}'
      lines.append(f'{line}  {values:>{widths[2]}}  {why}'.rstrip())
    for module, members in _grouped(self.unused, 2).items():
      lines.append(f'  not used: {len(members)} of their {module}')
    return '\n'.join(lines)

  def write(self, workdir: pathlib.Path) -> None:
    """Keeps transfer.txt and transfer.json in a run directory."""
    files.write_text(workdir / f'{_NAME}.txt', self.text() + '\n')
    files.write_json(
      workdir / f'{_NAME}.json',
      {
        'source': self.source,
        'modules': self.rows(),
        'loaded': sorted(self.loaded),
        'left': dict(sorted(self.left.items())),
        'unused': sorted(self.unused),
      },
    )

  def _row(self, module: str, names: list[str]) -> dict:
    reasons: dict[str, list[str]] = {}
    for name in names:
      if name in self.left:
        inner = name.removeprefix(module).lstrip('/') or name
        reasons.setdefault(self.left[name], []).append(inner)
    return {
      'module': module,
      'arrays': len(names),
      'loaded': sum(name in self.loaded for name in names),
      'values': sum(self.loaded.get(name, 0) for name in names),
      'left': [
        (why if len(inner) == len(names) else f'{_few(inner)}: {why}')
        for why, inner in reasons.items()
      ],
    }


def _few(names: list[str]) -> str:
  more = f' and {len(names) - 2} more' if len(names) > 2 else ''
  return ', '.join(names[:2]) + more


def _grouped(names, count: int) -> dict[str, list[str]]:
  groups: dict[str, list[str]] = {}
  for name in names:
    groups.setdefault('/'.join(name.split('/')[:count]), []).append(name)
  return groups
