"""The one error that a user can mend; every module's own errors derive from it.

The command line prints such an error as one line and exits with code 2.
"""


class InputError(ValueError):
  """Bad input: says which file or field, which value, and how to mend it."""


class DataError(InputError):
  """A data set, a table or a folder is not as it has to be."""


class ConfigError(InputError):
  """A configuration or an option is not usable."""


class RunError(InputError):
  """A run directory does not hold what was asked of it."""
