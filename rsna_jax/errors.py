"""The one error that a user can mend; every module's own errors derive from it.

The command line prints such an error as one line and exits with code 2.
"""


class Told(ValueError):
  """An error in words, that may also name what it is about.

  Attributes:
    about: of a file from outside: 'syntax' (of transfer), 'size' (rows and
      columns), 'frames', 'bits' (of a sample, and what samples there are),
      'codestream' (it and the header differ), 'elements' (too many), 'short'
      (the file ends early), 'modality', 'breast' (there is none), 'raw' (not
      made for eyes). '' for anything else, damage for the most part.
  """

  def __init__(self, message: str = '', about: str = ''):
    super().__init__(message)
    self.about = about


class InputError(Told):
  """Bad input: says which file or field, which value, and how to mend it."""


class DataError(InputError):
  """A data set, a table or a folder is not as it has to be."""


class ConfigError(InputError):
  """A configuration or an option is not usable."""


class RunError(InputError):
  """A run directory does not hold what was asked of it."""
