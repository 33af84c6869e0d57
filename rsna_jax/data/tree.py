"""Files below a root, of whatever kind: what `data/layout.py` looks through.

An ordinary folder is looked at as it is asked for, and an archive or a bucket
once, as a whole.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol


class Tree(Protocol):
  """Files below a root; names are relative to it, with '/' between parts."""

  name: str  # of the root, for messages

  def is_file(self, name: str) -> bool: ...

  def is_folder(self, name: str) -> bool: ...

  def folders(self) -> list[str]:
    """Names of the folders at the root."""
    ...

  def files(self, folder: str) -> list[str]:
    """Names of the files in a folder of the root, in no order."""
    ...

  def walk(self, folder: str) -> Iterator[tuple[str, list[str]]]:
    """(name, names of its files) of each folder in a folder of the root."""
    ...

  def path(self, name: str) -> str:
    """What `sources.read` takes."""
    ...

  def relative(self, path: str) -> str:
    """The name of what `path` gave."""
    ...

  def states(self, paths: Sequence[str]) -> Iterator[tuple]:
    """Size of each file, and what else changes when the file does."""
    ...


class Folder:
  """A `Tree` of an ordinary folder."""

  def __init__(self, root: str):
    self.name = self._root = root

  def is_file(self, name: str) -> bool:
    return os.path.isfile(self.path(name))

  def is_folder(self, name: str) -> bool:
    return os.path.isdir(self.path(name))

  def folders(self) -> list[str]:
    with os.scandir(self._root) as entries:
      return [entry.name for entry in entries if entry.is_dir()]

  def files(self, folder: str) -> list[str]:
    with os.scandir(self.path(folder)) as entries:
      return [entry.name for entry in entries]

  def walk(self, folder: str) -> Iterator[tuple[str, list[str]]]:
    with os.scandir(self.path(folder)) as entries:
      for entry in entries:
        if entry.is_dir():
          with os.scandir(entry.path) as inner:
            yield entry.name, [file.name for file in inner]

  def path(self, name: str) -> str:
    return os.path.join(self._root, name)

  def relative(self, path: str) -> str:
    return path[len(os.path.join(self._root, '')) :]

  def states(self, paths: Sequence[str]) -> Iterator[tuple]:
    for path in paths:
      try:
        found = os.stat(path)
      except FileNotFoundError:
        # Gone since it was listed; who reads it will say so.
        yield -1, 0
      else:
        yield found.st_size, found.st_mtime_ns


class Listed:
  """A `Tree` of files that one listing told of."""

  def __init__(
    self,
    name: str,
    before: str,
    after: str,
    files: Iterable[tuple[str, int, str]],
  ):
    """Takes the listing in.

    Args:
      name: of the root, for messages.
      before: what stands before a file's name in its path.
      after: what stands after it.
      files: name, bytes and state of each.
    """
    self.name = name
    self._before, self._after = before, after
    self._folders: dict[str, set[str]] = {'': set()}
    self._files: dict[str, dict[str, tuple[int, str]]] = {'': {}}
    for path, size, state in files:
      folder, _, file = path.rpartition('/')
      if folder not in self._files:
        self._add(folder)
      self._files[folder][file] = (size, state)

  def _add(self, folder: str) -> None:
    while folder not in self._files:
      self._files[folder] = {}
      self._folders.setdefault(folder, set())
      above, _, last = folder.rpartition('/')
      self._folders.setdefault(above, set()).add(last)
      folder = above

  def is_file(self, name: str) -> bool:
    folder, _, file = name.rpartition('/')
    return file in self._files.get(folder, ())

  def is_folder(self, name: str) -> bool:
    return name in self._files

  def folders(self) -> list[str]:
    return sorted(self._folders[''])

  def files(self, folder: str) -> list[str]:
    return list(self._files[folder])

  def walk(self, folder: str) -> Iterator[tuple[str, list[str]]]:
    for inner in sorted(self._folders[folder]):
      yield inner, list(self._files[f'{folder}/{inner}'])

  def path(self, name: str) -> str:
    return f'{self._before}{name}{self._after}'

  def relative(self, path: str) -> str:
    return path[len(self._before) : len(path) - len(self._after)]

  def states(self, paths: Sequence[str]) -> Iterator[tuple]:
    for path in paths:
      folder, _, file = self.relative(path).rpartition('/')
      yield self._files[folder][file]
