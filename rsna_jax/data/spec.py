"""How standard images are made: the part of a data set that a run remembers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsna_jax import errors
from rsna_jax.data import grey

# Raised whenever the same file and spec give other pixels than before.
VERSION = 2
# Samples of a level for each pixel of the output, at least.
SLACK = {'fast': 1.0, 'fine': 1.3}
QUALITIES = (*SLACK, 'exact')


class PreprocessError(errors.InputError):
  """A picture cannot be made a standard image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
  """How standard images are made.

  Attributes:
    size: height and width in pixels.
    bits: 8 or 16, of a pixel.
    window: 'full', 'linear' or 'none': see `grey.presentation`.
    quality: how much of a file is decoded: 'fast' (at least 1 decoded pixel for
      each of the output, on both axes), 'fine' (1.3) or 'exact' (all).
    for_processing: 'refuse' or 'accept' raw images that are not made for eyes
      (PresentationIntentType FOR PROCESSING).
  """

  size: tuple[int, int] = (512, 256)
  bits: int = 8
  window: str = 'full'
  quality: str = 'fast'
  for_processing: str = 'refuse'

  def __post_init__(self):
    size = tuple(self.size) if isinstance(self.size, list) else self.size
    object.__setattr__(self, 'size', size)
    if (
      not isinstance(size, tuple)
      or len(size) != 2
      or not all(isinstance(n, int) and 16 <= n <= 8192 for n in size)
    ):
      raise PreprocessError(
        f'size={size}: two numbers from 16 to 8192, height and width'
      )
    if self.bits not in (8, 16):
      raise PreprocessError(f'bits={self.bits!r}: choose 8 or 16')
    if self.window not in grey.WINDOWS:
      raise PreprocessError(
        f'window={self.window!r}: choose {", ".join(grey.WINDOWS)}'
      )
    if self.quality not in QUALITIES:
      raise PreprocessError(
        f'quality={self.quality!r}: choose {", ".join(QUALITIES)}'
      )
    if self.for_processing not in ('refuse', 'accept'):
      raise PreprocessError(
        f'for_processing={self.for_processing!r}: choose refuse or accept'
      )

  def name(self) -> str:
    """A short name, such as '512x256' or '1024x512_16bit_linear'."""
    parts = [f'{self.size[0]}x{self.size[1]}']
    if self.bits != 8:
      parts.append(f'{self.bits}bit')
    if self.window != 'full':
      parts.append(self.window)
    if self.quality != 'fast':
      parts.append(self.quality)
    if self.for_processing != 'refuse':
      parts.append('processing')
    return '_'.join(parts)

  def to_json(self) -> dict[str, Any]:
    """The fields, and the version of the code, as plain JSON values."""
    return {
      'version': VERSION,
      'size': list(self.size),
      'bits': self.bits,
      'window': self.window,
      'quality': self.quality,
      'for_processing': self.for_processing,
    }

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> 'Spec':
    """The spec that `to_json` wrote.

    Raises:
      PreprocessError: another version, an unknown field or an unusable value.
    """
    if not isinstance(value, Mapping):
      raise PreprocessError('preprocessing: no fields, but another value')
    value = dict(value)
    version = value.pop('version', VERSION)
    if version != VERSION:
      raise PreprocessError(
        f'preprocessing version {version!r}, this is {VERSION}: prepare the '
        'data again'
      )
    unknown = set(value) - {field.name for field in dataclasses.fields(cls)}
    if unknown:
      raise PreprocessError(
        f'preprocessing has unknown fields {", ".join(sorted(unknown))}'
      )
    try:
      return cls(**value)
    except TypeError as error:
      raise PreprocessError(f'preprocessing: {error}') from error
