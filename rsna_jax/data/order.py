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
_HARD = 32  # of the first set; of the next one 33


class Counts:
  """How many examples of a kind each batch has, and all before it had."""

  def __init__(self, each: np.ndarray | int):
    """Of numbers for the first steps, (S,) int; the last one holds for ever."""
    self.each = np.atleast_1d(np.asarray(each, np.int64))
    self._sums = np.concatenate([[0], np.cumsum(self.each)])

  def at(self, step: int) -> int:
    """In the batch of a step."""
    return int(self.each[min(step, len(self.each) - 1)])

  def before(self, step: int) -> int:
    """In all batches of earlier steps."""
    whole = min(step, len(self.each))
    return int(self._sums[whole] + (step - whole) * self.each[-1])


def linear(first: int, final: int, steps: int) -> np.ndarray:
  """(steps + 1,) int: from one number to another, to the nearest in between."""
  return np.rint(np.linspace(first, final, steps + 1)).astype(np.int64)


class TrainOrder:
  """Endless batches in which positives have a fixed or a scheduled share.

  Positives, hard negatives and the other negatives go through epochs of their
  own: an example returns when all others of its kind were drawn, whatever the
  shares.
  """

  def __init__(
    self,
    labels: np.ndarray,
    batch_size: int,
    positives_per_batch: int | np.ndarray,
    seed: int,
    which: int = 0,
    *,
    hard: np.ndarray | None = None,
    hard_weight: float = 1.0,
  ):
    """Prepares the order.

    Args:
      labels: (N,) int; 1 is positive, all else negative (-1, missing, too).
      batch_size: examples of a batch; may be larger than N.
      positives_per_batch: positives in every batch, the rest being negatives;
        or (S,) numbers for the first S steps, the last of which holds for ever.
        0 throughout draws from all examples as they come.
      seed: another seed is another order.
      which: of the sets that one seed orders; each is shuffled by itself.
      hard: (N,) bool, of negatives that are drawn `hard_weight` times as often
        as others; None: of none.
      hard_weight: positive. Over any number of batches it holds but for one
        draw.

    Raises:
      errors.DataError: an example of a kind that batches need is not there.
    """
    labels = np.asarray(labels)
    wanted = np.atleast_1d(np.asarray(positives_per_batch, np.int64))
    fits = (wanted >= 0).all() and (wanted <= batch_size).all()
    if not fits or batch_size < 1:
      raise errors.DataError(
        f'data.positives_per_batch={_text(wanted)}: from 0 to the batch size, '
        f'{batch_size}'
      )
    self.batch_size = batch_size
    self.seed = seed % 2**64
    self._first_stream = _STREAMS * which
    self._hard_stream = _HARD + which
    positive = labels == 1 if wanted.any() else np.zeros(len(labels), bool)
    self._positives = np.flatnonzero(positive)
    self._positive_counts = Counts(wanted)
    self._negative_counts = Counts(batch_size - wanted)
    hard = np.zeros(len(labels), bool) if hard is None else np.asarray(hard)
    hard = hard & (labels != 1)
    if hard_weight == 1:  # one kind: as orders were before there were two
      hard = np.zeros(len(labels), bool)
    self._negatives = np.flatnonzero(~positive & ~hard)
    self._hard = np.flatnonzero(hard)
    heavy = hard_weight * len(self._hard)
    self._hard_share = heavy / max(heavy + len(self._negatives), 1)
    for kind, there, count in (
      ('positive ', len(self._positives), wanted.max()),
      (
        'negative ' if wanted.any() else '',
        len(self._negatives) + len(self._hard),
        batch_size - wanted.min(),
      ),
    ):
      if count and not there:
        raise errors.DataError(
          f'data.positives_per_batch={_text(wanted)}: a batch of '
          f'{batch_size} needs {count} {kind}examples and the training rows '
          f'have none: choose other rows' + (' or 0' if kind else '')
        )

  def indices(self, step: int) -> np.ndarray:
    """Positions into `labels` of the batch of a step, (B,) int64."""
    start = self._negative_counts.before(step)
    count = self._negative_counts.at(step)
    hard_start = self._hard_before(start)
    hard_count = self._hard_before(start + count) - hard_start
    first = self._first_stream
    drawn = [
      self._draw(
        first + _POSITIVES,
        self._positives,
        self._positive_counts.before(step),
        self._positive_counts.at(step),
      ),
      self._draw(
        first + _NEGATIVES,
        self._negatives,
        start - hard_start,
        count - hard_count,
      ),
      self._draw(self._hard_stream, self._hard, hard_start, hard_count),
    ]
    # Devices take consecutive parts of a batch: none should get all positives.
    shuffle = _generator(self.seed, first + _SHUFFLE, step)
    return shuffle.permutation(np.concatenate(drawn))

  def _hard_before(self, negatives: int) -> int:
    """How many of the first draws of negatives are of hard ones."""
    if not len(self._negatives):
      return negatives if len(self._hard) else 0
    return int(self._hard_share * negatives)

  def _draw(
    self, stream: int, members: np.ndarray, start: int, count: int
  ) -> np.ndarray:
    """(count,) members, from the draw `start` of their epochs on."""
    chosen = np.empty(count, np.int64)
    if count:
      epochs, places = np.divmod(start + np.arange(count), len(members))
      for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        order = _permutation(self.seed, stream, epoch, len(members))
        chosen[here] = members[order[places[here]]]
    return chosen


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
    positives_per_batch: int | np.ndarray,
    seed: int,
    *,
    hard: np.ndarray | None = None,
    extra_hard: np.ndarray | None = None,
    hard_weight: float = 1.0,
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
      hard: (N,) bool, as in `TrainOrder`.
      extra_hard: (M,) bool of the second set.
      hard_weight: as in `TrainOrder`, within each set.

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
    wanted = np.atleast_1d(np.asarray(positives_per_batch, np.int64))
    positive = np.asarray(extra_labels) == 1
    extra_wanted = np.zeros_like(wanted)
    if positive.any() and not positive.all():
      extra_wanted = np.rint(wanted * extra_examples / batch_size).astype(int)
    own = batch_size - extra_examples
    if (wanted - extra_wanted > own).any():
      raise errors.DataError(
        f'data.positives_per_batch={_text(wanted)}: data.extra has not '
        f'both kinds, and the {own} other examples of a batch do not hold so '
        'many: lower it, or data.extra_share'
      )
    self._first = TrainOrder(
      labels,
      own,
      wanted - extra_wanted,
      seed,
      hard=hard,
      hard_weight=hard_weight,
    )
    self._second = TrainOrder(
      extra_labels,
      extra_examples,
      extra_wanted,
      seed,
      which=1,
      hard=extra_hard,
      hard_weight=hard_weight,
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


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, stream: int, epoch: int, n: int) -> np.ndarray:
  order = _generator(seed, stream, epoch).permutation(n)
  order.setflags(write=False)  # the cache hands it out again
  return order


def _text(wanted: np.ndarray) -> str:
  """One number, or the first and the last of a schedule."""
  first, final = int(wanted[0]), int(wanted[-1])
  return f'{first}' if first == final else f'{first} to {final}'
