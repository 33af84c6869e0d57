"""The one error that becomes an answer of the server, with its HTTP status."""

import types

from rsna_jax import errors

# Code -> HTTP status.
STATUSES = types.MappingProxyType(
  {
    'E_EMPTY': 400,
    'E_DAMAGED': 400,
    'E_REQUEST': 400,
    'E_LOGIN': 401,
    'E_FORBIDDEN': 403,
    'E_NOT_FOUND': 404,
    'E_METHOD': 405,
    'E_DUPLICATE': 409,
    'E_SIZE': 413,
    'E_TYPE': 415,
    'E_TS': 422,
    'E_DIMS': 422,
    'E_FRAMES': 422,
    'E_CODESTREAM': 422,
    'E_PREAMBLE': 422,
    'E_BITS': 422,
    'E_NOT_MAMMO': 422,
    'E_UNUSABLE': 422,
    'E_LIMITS': 422,
    'E_FIELD': 422,
    'E_RATE': 429,
    'E_QUOTA': 429,
    'E_FAULT': 500,
    'E_BUSY': 503,
    'E_STARTING': 503,
  }
)


class Problem(errors.InputError):
  """Why a request is not answered as it was asked.

  Attributes:
    code: a key of `STATUSES`.
    status: its HTTP status.
    message: one sentence for the person who asked; no path of the server and
      nothing of a patient in it.
    retry_after_s: seconds after which the same may work, or None.
  """

  def __init__(
    self, code: str, message: str, retry_after_s: float | None = None
  ):
    super().__init__(message)
    self.code = code
    self.status = STATUSES[code]
    self.message = message
    self.retry_after_s = retry_after_s
