"""Threads for what would block the event loop, apart by what they wait for.

Decoding may take seconds for a file; looking up a login must not wait for it.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

from rsna_jax.serve import settings as settings_lib

_STORE_THREADS = 4
_PICTURE_THREADS = 2


class Workers:
  """Pools of threads; each method runs a function in one of them."""

  def __init__(self, settings: settings_lib.Settings):
    make = concurrent.futures.ThreadPoolExecutor
    # One more than the children, so that a child is asked without a pause.
    self._decode = make(settings.decoders + 1, 'decode')
    self._store = make(_STORE_THREADS, 'store')
    self._pictures = make(_PICTURE_THREADS, 'pictures')

  def decode(
    self, function: Callable, *arguments: Any
  ) -> concurrent.futures.Future:
    """Queues the reading of a file."""
    return self._decode.submit(function, *arguments)

  async def store(self, function: Callable, *arguments: Any) -> Any:
    """Runs what asks the database or the disk."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._store, function, *arguments)

  async def picture(self, function: Callable, *arguments: Any) -> Any:
    """Runs what makes a PNG."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._pictures, function, *arguments)

  def stop(self) -> None:
    """Ends what has begun, and begins nothing more."""
    for pool in (self._decode, self._store, self._pictures):
      pool.shutdown(wait=False, cancel_futures=True)
