"""Which examples make up a batch, as a pure function of the seed and the step.

So a checkpoint needs to hold the step alone, and any reader, process or
restart draws the same batches. Numpy only.
"""

import functools

import numpy as np

from rsna_jax import errors

# Streams of random numbers that must not coincide.
_POSITIVES, _NEGATIVES, _SHUFFLE, _MIX = 0, 1, 2, 3
_STREAMS = 4  # of a set of examples


class TrainOrder:
  """Endless batches in which positives have a fixed share.

  Positives and negatives go through epochs of their own: an example returns
  when all others of its kind were drawn, whatever the share.
  """

  def __init__(
    self,
    labels: np.ndarray,
    batch_size: int,
    positives_per_batch: int,
    seed: int,
    which: int = 0,
  ):
    """Prepares the order.

    Args:
      labels: (N,) int; 1 is positive, all else negative (-1, missing, too).
      batch_size: examples of a batch; may be larger than N.
      positives_per_batch: positives in every batch, the rest being negatives;
        0 draws from all examples as they come.
      seed: another seed is another order.
      which: of the sets that one seed orders; each is shuffled by itself.

    Raises:
      errors.DataError: an example of a kind that batches need is not there.
    """
    labels = np.asarray(labels)
    if not 0 <= positives_per_batch <= batch_size or batch_size < 1:
      raise errors.DataError(
        f'data.positives_per_batch={positives_per_batch}: from 0 to the batch '
        f'size, {batch_size}'
      )
    self.batch_size = batch_size
    self.seed = seed % 2**64
    self._first_stream = _STREAMS * which
    if positives_per_batch:
      pools = [
        (_POSITIVES, np.flatnonzero(labels == 1), positives_per_batch),
        (
          _NEGATIVES,
          np.flatnonzero(labels != 1),
          batch_size - positives_per_batch,
        ),
      ]
    else:
      pools = [(_NEGATIVES, np.arange(len(labels)), batch_size)]
    self._pools = [pool for pool in pools if pool[2]]
    for stream, members, count in self._pools:
      if not len(members):
        kind = ('positive ', 'negative ')[stream] if positives_per_batch else ''
        raise errors.DataError(
          f'data.positives_per_batch={positives_per_batch}: a batch of '
          f'{batch_size} needs {count} {kind}examples and the training rows '
          f'have none: choose other rows'
          + (' or 0' if positives_per_batch else '')
        )

  def indices(self, step: int) -> np.ndarray:
    """Positions into `labels` of the batch of a step, (B,) int64."""
    drawn = []
    for stream, members, count in self._pools:
      counter = step * count + np.arange(count)
      epochs, places = np.divmod(counter, len(members))
      chosen = np.empty(count, np.int64)
      for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        order = _permutation(
          self.seed, self._first_stream + stream, epoch, len(members)
        )
        chosen[here] = members[order[places[here]]]
      drawn.append(chosen)
    # Devices take consecutive parts of a batch: none should get all positives.
    shuffle = _generator(self.seed, self._first_stream + _SHUFFLE, step)
    return shuffle.permutation(np.concatenate(drawn))


class MixedOrder:
  """Endless batches of which a fixed share comes from a second set.

  Each set goes through epochs of its own, as `TrainOrder` does. Positives are
  shared out like all examples, where the second set has both kinds.
  """

  def __init__(
    self,
    labels: np.ndarray,
    extra_labels: np.ndarray,
    batch_size: int,
    extra_examples: int,
    positives_per_batch: int,
    seed: int,
  ):
    """Prepares the order.

    Args:
      labels: (N,) int of the first set, as in `TrainOrder`.
      extra_labels: (M,) int of the second.
      batch_size: examples of a batch.
      extra_examples: those of them that come from the second set; from 1 to
        batch_size - 1.
      positives_per_batch: as in `TrainOrder`, of both sets together.
      seed: another seed is another order.

    Raises:
      errors.DataError: an example of a kind that batches need is not there.
    """
    if not 0 < extra_examples < batch_size:
      raise errors.DataError(
        f'data.extra_share: {extra_examples} of {batch_size} examples: from 1 '
        f'to {batch_size - 1}'
      )
    self.batch_size = batch_size
    self.seed = seed % 2**64
    positive = np.asarray(extra_labels) == 1
    extra_positives = 0
    if positive.any() and not positive.all():
      extra_positives = round(positives_per_batch * extra_examples / batch_size)
    own = batch_size - extra_examples
    if positives_per_batch - extra_positives > own:
      raise errors.DataError(
        f'data.positives_per_batch={positives_per_batch}: data.extra has not '
        f'both kinds, and the {own} other examples of a batch do not hold so '
        'many: lower it, or data.extra_share'
      )
    self._first = TrainOrder(
      labels, own, positives_per_batch - extra_positives, seed
    )
    self._second = TrainOrder(
      extra_labels, extra_examples, extra_positives, seed, which=1
    )
    self._start = len(np.asarray(labels))

  def indices(self, step: int) -> np.ndarray:
    """(B,) int64 positions; those of the second set follow the first's."""
    drawn = [self._first.indices(step), self._second.indices(step)]
    drawn[1] = drawn[1] + self._start
    shuffle = _generator(self.seed, _MIX, step)
    return shuffle.permutation(np.concatenate(drawn))


class EvalOrder:
  """Every example once, in order; the last batch is padded."""

  def __init__(self, n: int, batch_size: int):
    self.n = n
    self.batch_size = batch_size
    self.steps = -(-n // batch_size)

  def indices(self, step: int) -> np.ndarray:
    """Positions of the batch, (B,) int64; the last example is the padding."""
    return np.minimum(self._counter(step), self.n - 1)

  def weights(self, step: int) -> np.ndarray:
    """(B,) float32: 1 for an example, 0 for padding."""
    return (self._counter(step) < self.n).astype(np.float32)

  def _counter(self, step: int) -> np.ndarray:
    if not 0 <= step < self.steps:
      raise IndexError(f'step {step}: there are {self.steps}')
    return step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)


def _generator(seed: int, stream: int, count: int) -> np.random.Generator:
  key = np.array([seed, (stream << 56) + count], np.uint64)
  return np.random.Generator(np.random.Philox(key=key))


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, stream: int, epoch: int, n: int) -> np.ndarray:
  order = _generator(seed, stream, epoch).permutation(n)
  order.setflags(write=False)  # the cache hands it out again
  return order
