"""Trains or evaluates: python -m rsna_jax.main --config C --workdir W.

Any field of the config can be set on the command line, as in
--config.train.steps=100.
"""

import difflib
import os
import re
import sys

# TensorFlow, where it is installed, reads images only: no chatter about it.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import ml_collections
from absl import flags
from ml_collections import config_flags

from rsna_jax import compile_cache, errors, heap, shell
from rsna_jax import config as config_lib

_USAGE = (
  'usage: python -m rsna_jax.main --config configs/NAME.py --workdir DIR '
  '[--mode train|evaluate] [--config.FIELD=VALUE ...] [--coordinator '
  'auto|HOST:PORT [--num-processes N --process-id I]]'
)

_NUMBERS = ('num_processes', 'process_id')


def main(argv: list[str]) -> int:
  """Runs the command line `argv`, and returns the exit code."""
  shell.set_up_logging()
  compile_cache.turn_on()
  heap.keep()
  return shell.run(lambda: _main(argv))


def _main(argv: list[str]) -> None:
  values = parse(argv)
  c = values.config
  config_lib.validate(c)
  # After the flags, so that a mistake in them is answered at once.
  from rsna_jax import parallel

  parallel.start_distributed(
    coordinator=values.coordinator,
    num_processes=values.num_processes,
    process_id=values.process_id,
  )
  if values.mode == 'evaluate':
    from rsna_jax import evaluate

    result = evaluate.evaluate(
      values.workdir, data_dir=c.data.dir, split=values.split, options=c.eval
    )
    print(evaluate.summary(result))
    return
  from rsna_jax import train

  train.train_and_evaluate(c, values.workdir)


def parse(argv: list[str]) -> flags.FlagValues:
  """The flags of a command line: config, workdir, mode, split.

  Raises:
    errors.ConfigError: a flag is unknown, ill-typed or missing.
  """
  # A set of flags of our own: the global one holds those of every library.
  values = flags.FlagValues()
  # The overrides are looked for in sys_argv, whatever is parsed later.
  config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
  flags.DEFINE_string('workdir', None, 'run directory', flag_values=values)
  flags.DEFINE_enum(
    'mode', 'train', ['train', 'evaluate'], 'what to do', flag_values=values
  )
  flags.DEFINE_string('split', 'validation', 'to evaluate', flag_values=values)
  flags.DEFINE_string(
    'coordinator',
    None,
    'of several processes: auto, or host:port of the first',
    flag_values=values,
  )
  for name in _NUMBERS:
    flags.DEFINE_integer(
      name, None, 'of the processes', lower_bound=0, flag_values=values
    )
    # As every other command of this package spells its options.
    argv = [
      re.sub(f'^--{name.replace("_", "-")}(=|$)', f'--{name}\\1', word)
      for word in argv
    ]
  flags.DEFINE_bool('help', False, 'this text', flag_values=values)
  if any(word in ('-h', '--help', '-help') for word in argv[1:]):
    print(f'{_USAGE}\n\nFields and their defaults:\n{config_lib.default()}')
    raise SystemExit(0)
  try:
    rest = values(argv)
  except errors.InputError:
    raise
  except FileNotFoundError as error:
    raise errors.ConfigError(
      f'--config: {error}; see the folder configs/'
    ) from error
  except SyntaxError as error:
    raise errors.ConfigError(
      f'--config: {error.filename}:{error.lineno}: {error.msg}'
    ) from error
  except (
    flags.Error,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ImportError,
    OSError,
  ) as error:
    _refuse_unknown(argv)
    text = str(error.args[0] if error.args else error)
    # What names its flag needs no other; what names none may be of any.
    where = '' if text.startswith('flag --') else f'{" ".join(argv[1:])}: '
    raise errors.ConfigError(
      f'{where}{text}; --help lists the fields'
    ) from error
  if len(rest) > 1:
    raise errors.ConfigError(f'{rest[1]!r}: not an option; {_USAGE}')
  try:
    given = values.config is not None and values.config.to_dict()
  except OSError as error:
    # What went wrong with the file is the last line of a long account.
    text = str(error).strip().splitlines()[-1].strip()
    raise errors.ConfigError(f'--config: {text}') from error
  if not given:
    raise errors.ConfigError(f'--config is missing; {_USAGE}')
  if not values.workdir:
    raise errors.ConfigError(f'--workdir is missing; {_USAGE}')
  return values


def _refuse_unknown(argv: list[str]) -> None:
  """Refuses the first --config.FIELD that is no field, with what is near it."""
  for word in argv[1:]:
    if not word.startswith('--config.'):
      continue
    node, parts = config_lib.default(), word.partition('=')[0].split('.')[1:]
    for i, part in enumerate(parts):
      if not isinstance(node, ml_collections.ConfigDict) or part not in node:
        group = '.'.join(parts[:i])
        near = difflib.get_close_matches(part, _names_in(node), 3)
        raise errors.ConfigError(
          f'{word}: {f"{group} has" if group else "there is"} no field {part}; '
          + (f'did you mean {" or ".join(near)}? ' if near else '')
          + '--help lists the fields'
        )
      node = node[part]


def _names_in(node) -> list[str]:
  return list(node) if isinstance(node, ml_collections.ConfigDict) else []


if __name__ == '__main__':
  shell.leave(main(sys.argv))
