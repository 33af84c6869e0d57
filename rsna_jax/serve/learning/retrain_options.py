"""Options of a retraining, and how the command line sets them."""

import dataclasses
from collections.abc import Sequence

from rsna_jax import errors
from rsna_jax.serve.learning import promotion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What a person may choose; 0 or '' where the model or machine decides."""

  steps: int = 200
  share: float = 0.5  # of each batch, from the submissions
  batch_size: int = 0  # 0: the model's own
  learning_rate: float = 0.0  # 0: a tenth of the model's own
  data_dir: str = ''  # the original data; '': where they were
  workers: int = 0  # that decode; 0: one for each CPU
  margin: float = 0.02  # of AUC that it may be worse on the original set
  least_patients: int = 10  # with cancer, and without, to judge by
  contradiction: float = 0.01  # p of labels against the models; 0: any may be
  bootstrap: int = 2_000  # resamples of patients behind each interval
  fresh: bool = False  # gives an unfinished retraining up

  def rule(self) -> promotion.Rule:
    """What is asked of the new model."""
    return promotion.Rule(
      margin=self.margin,
      least_patients=self.least_patients,
      contradiction=self.contradiction,
      resamples=self.bootstrap,
    )

  def of_training(self) -> dict:
    """Those that the new weights depend on."""
    names = ('steps', 'share', 'batch_size', 'learning_rate')
    return {name: getattr(self, name) for name in names}

  def of_judging(self) -> dict:
    """Those that the decision depends on, besides."""
    names = ('margin', 'least_patients', 'contradiction', 'bootstrap')
    return {name: getattr(self, name) for name in names}


_LEAST = {'steps': 1, 'bootstrap': 100, 'least_patients': 2}


def parse(pairs: Sequence[str]) -> Options:
  """Options from NAME=VALUE pairs.

  Raises:
    errors.ConfigError: an unknown name, or a value that it cannot have.
  """
  fields = {field.name: field.default for field in dataclasses.fields(Options)}
  values = {}
  for pair in pairs:
    name, equals, text = pair.partition('=')
    if not equals or name not in fields:
      raise errors.ConfigError(
        f'--set {pair}: give NAME=VALUE, where NAME is one of '
        + ', '.join(fields)
      )
    default = fields[name]
    try:
      if isinstance(default, bool):
        value = {'true': True, 'false': False}[text.lower()]
      else:
        value = type(default)(text)
    except (ValueError, KeyError) as error:
      raise errors.ConfigError(
        f'--set {pair}: give a value such as {default}'
      ) from error
    least = _LEAST.get(name, 0)
    if not isinstance(value, str) and not least <= value < float('inf'):
      raise errors.ConfigError(f'--set {pair}: at least {least}, and finite')
    values[name] = value
  return Options(**values)
