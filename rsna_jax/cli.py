"""The command line of `rsna-jax VERB`: its verbs and their options."""

import argparse
import os
import re
import sys
from collections.abc import Sequence

import rsna_jax
from rsna_jax import commands, compile_cache, errors, schema, shell
from rsna_jax.serve import verbs as serve_verbs

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line and exits with its code."""
  shell.set_up_logging()
  compile_cache.turn_on()
  sys.exit(shell.run(lambda: _main(argv)))


def _main(argv: Sequence[str] | None) -> int | None:
  parser = _parser()
  options, rest = parser.parse_known_args(argv)
  # Fields of a config are for its own parser.
  if hasattr(options, 'folds'):
    options.fields = rest
  elif rest:
    parser.error(f'unrecognized arguments: {" ".join(rest)}')
  return options.run(options)


class _Parser(argparse.ArgumentParser):
  """Answers a wrong option in one line, as every other mistake."""

  def error(self, message: str):
    raise errors.ConfigError(f'{self.prog}: {message}; {self.prog} --help')


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog='rsna-jax',
    description='Mammograms from DICOM to a trained, evaluated classifier. '
    'Training: python -m rsna_jax.main --config configs/NAME.py --workdir DIR. '
    f'{schema.NOTICE}',
  )
  parser.add_argument(
    '--version', action='version', version=f'rsna_jax {rsna_jax.__version__}'
  )
  verbs = parser.add_subparsers(metavar='VERB', required=True)

  verb = _verb(verbs, 'phantom', 'write made-up mammograms to try things on')
  verb.add_argument('out', metavar='OUT', help='folder to write')
  verb.add_argument('--patients', type=_count, default=40)
  verb.add_argument('--seed', type=int, default=0)
  verb.add_argument('--workers', type=_count, default=os.cpu_count())
  verb.set_defaults(run=commands.phantom)

  verb = _verb(
    verbs, 'cbis-ddsm', "turn TFDS's CBIS-DDSM into a layout to prepare"
  )
  verb.add_argument(
    'folders',
    metavar='FOLDER',
    nargs='+',
    help='curated_breast_imaging_ddsm/original-mass/3.0.0 and original-calc',
  )
  verb.add_argument('--out', required=True, help='folder of the layout')
  verb.set_defaults(run=commands.cbis_ddsm)

  verb = _verb(verbs, 'prepare', 'turn mammograms into a data set')
  verb.add_argument(
    'src',
    metavar='SRC',
    help='RSNA layout, or folders Density1Benign ...: a folder, a zip, or a '
    'URL such as gs://BUCKET/FOLDER or zip://::gs://BUCKET/rsna.zip',
  )
  verb.add_argument('--data-dir', required=True, help='where the data set goes')
  verb.add_argument('--size', type=_size, default=(512, 256), metavar='HxW')
  verb.add_argument('--bits', type=int, choices=(8, 16), default=8)
  verb.add_argument(
    '--window', choices=('full', 'linear', 'none'), default='full'
  )
  verb.add_argument('--train-csv', help='instead of SRC/train.csv')
  verb.add_argument('--workers', type=_count, help='default: one for each CPU')
  verb.add_argument('--bad-files', choices=('stop', 'skip'), default='stop')
  verb.add_argument(
    '--quality',
    choices=('fast', 'fine', 'exact'),
    default='fast',
    help='how much of a file is decoded: no more than shows, or all of it',
  )
  verb.add_argument(
    '--for-processing',
    choices=('refuse', 'accept'),
    default='refuse',
    help='raw images that are not made for eyes',
  )
  verb.add_argument(
    '--contact-sheet',
    action='store_true',
    help='pictures of what became of the most unlike images, in audit/',
  )
  verb.add_argument(
    '--beam-runner',
    metavar='R',
    help='of Apache Beam: DirectRunner, FlinkRunner, SparkRunner, '
    'DataflowRunner; see docs/scaling.md',
  )
  verb.add_argument(
    '--beam-options',
    type=_beam_options,
    default=[],
    metavar='O',
    help='as in --beam-options=--direct_num_workers=2,--streaming',
  )
  verb.set_defaults(run=commands.prepare)

  verb = _verb(verbs, 'convert', 'turn mammograms and volumes into pictures')
  verb.add_argument(
    'inputs',
    nargs='+',
    metavar='IN',
    help='files, folders, or one RSNA layout, whose tables are written as well',
  )
  verb.add_argument('out', metavar='OUT', help='folder to write')
  verb.add_argument(
    '--format',
    choices=('png16', 'png8', 'npy'),
    default='png16',
    help='png: as shown, bright on black; npy: modality values, in the stored '
    'type, or as float32 where they are rescaled',
  )
  verb.add_argument(
    '--frames',
    choices=('slices', 'slabs', 'both'),
    default='slices',
    help='of files of several frames',
  )
  verb.add_argument('--slab-frames', type=_count, help='default: 10')
  verb.add_argument('--slab-mm', type=_millimetres, metavar='MM')
  verb.add_argument(
    '--projection',
    choices=('max', 'mean', 'both'),
    default='max',
    help='of a slab; both makes two pictures of it',
  )
  verb.add_argument(
    '--window', choices=('full', 'linear', 'none'), default='full'
  )
  verb.add_argument(
    '--keep-labels', action='store_true', help='leave burned-in text in'
  )
  verb.add_argument('--workers', type=_count, default=os.cpu_count())
  verb.add_argument('--bad-files', choices=('stop', 'skip'), default='stop')
  verb.set_defaults(run=commands.convert)

  verb = _verb(verbs, 'audit', 'say what a set holds, lacks and leaks')
  verb.add_argument('src', metavar='SRC', help='RSNA layout, or any folder')
  verb.add_argument('--out', required=True, help='folder for page and JSON')
  verb.add_argument('--train-csv', help='instead of SRC/train.csv')
  verb.add_argument('--limit', type=_count, help='most images to read')
  verb.add_argument('--workers', type=_count, default=os.cpu_count())
  verb.set_defaults(run=commands.audit)

  verb = _verb(
    verbs, 'evaluate', 'judge a run on a split, or predictions of any model'
  )
  judged = verb.add_mutually_exclusive_group(required=True)
  judged.add_argument('--workdir', help='of a run')
  judged.add_argument(
    '--predictions',
    metavar='CSV',
    help='image_id,cancer or prediction_id,cancer, whoever made them',
  )
  verb.add_argument('--data-dir', help='default: as the run was trained on')
  verb.add_argument(
    '--split',
    help='of a run: train | validation (default) | test (of data.split=public, '
    'site, machine) | all (of other data) | submission (without labels)',
  )
  _checkpoint_option(verb)
  given = verb.add_argument_group('of --predictions')
  given.add_argument('--labels', metavar='CSV', help='train.csv')
  given.add_argument(
    '--out', help='folder; default: NAME_evaluation beside NAME.csv'
  )
  given.add_argument(
    '--aggregate',
    help='images to a breast: mean (default), max, noisy_or, view_max, learned',
  )
  given.add_argument(
    '--calibration',
    help='out of fold: none (default), temperature, platt, beta, isotonic',
  )
  given.add_argument(
    '--rule',
    help='of the threshold, out of fold: best_f1 (default), pf1, '
    'recall_rate=R, sensitivity=S, specificity=S',
  )
  given.add_argument(
    '--threshold', type=float, help='of the probability, from other data'
  )
  given.add_argument('--per-site', action='store_true', default=None)
  given.add_argument('--bootstrap', type=_not_negative, metavar='N')
  given.add_argument(
    '--subset',
    action='store_true',
    default=None,
    help='judge the rows that both files have',
  )
  given.add_argument(
    '--clip',
    action='store_true',
    default=None,
    help='probabilities below 0 are 0, above 1 are 1',
  )
  verb.set_defaults(run=commands.evaluate)

  verb = _verb(verbs, 'compare', 'hold runs or predictions against each other')
  verb.add_argument(
    'sources',
    nargs='+',
    metavar='W',
    help='run directories, folders of crossvalidate, or predictions.csv files',
  )
  verb.add_argument('--split', default='validation', help='of the runs')
  verb.add_argument('--labels', metavar='CSV', help='train.csv')
  verb.add_argument('--out', default='comparison', help='folder to write')
  verb.add_argument('--bootstrap', type=_not_negative, default=2_000)
  verb.add_argument(
    '--subset', action='store_true', help='judge the breasts that all have'
  )
  verb.set_defaults(run=commands.compare)

  verb = _verb(
    verbs,
    'crossvalidate',
    'train folds and pool their answers; takes --config.FIELD=VALUE as well',
  )
  verb.add_argument('--config', required=True, help='configs/NAME.py')
  verb.add_argument('--folds', help='as in 0,1,2,3; default: all')
  verb.add_argument('--workdir', required=True)
  verb.set_defaults(run=commands.crossvalidate)

  verb = _verb(verbs, 'predict', 'predict files, folders or an RSNA layout')
  verb.add_argument('inputs', nargs='+', metavar='INPUT')
  verb.add_argument('--workdir', required=True)
  verb.add_argument('--csv', help='rows of the images, as test.csv')
  verb.add_argument('--out', required=True, help='folder for the answers')
  verb.add_argument('--bad-files', choices=('stop', 'skip'), default='stop')
  verb.add_argument('--workers', type=_count, default=None)
  verb.add_argument(
    '--form',
    choices=('raw', 'calibrated', 'thresholded'),
    default='raw',
    help='of submission.csv; the latter two by what evaluate has chosen',
  )
  _checkpoint_option(verb)
  verb.set_defaults(run=commands.predict)

  verb = _verb(verbs, 'explain', 'show where in an image an answer comes from')
  verb.add_argument('inputs', nargs='*', metavar='IMAGE')
  verb.add_argument('--workdir', required=True)
  verb.add_argument('--out', required=True, help='folder for the pictures')
  verb.add_argument(
    '--method',
    choices=(
      'grad-cam',
      'hirescam',
      'integrated-gradients',
      'occlusion',
      'own-saliency',
    ),
    help='default: hirescam; of the pointing game: all; own-saliency: the map '
    'that global_local makes itself, with the patches that it looks at',
  )
  verb.add_argument('--target', help='a class, as in cancer or density_B')
  verb.add_argument(
    '--pointing-game',
    metavar='SRC',
    help='a phantom, whose lesions are known: how often is the peak on one?',
  )
  verb.add_argument('--limit', type=_count, help='images of the pointing game')
  verb.add_argument('--workers', type=_count, default=os.cpu_count())
  _checkpoint_option(verb)
  verb.set_defaults(run=commands.explain)

  verb = _verb(verbs, 'weights', 'make a start of published weights')
  verb.add_argument(
    'source',
    metavar='IN',
    help='.h5, .weights.h5 or .keras of Keras; .safetensors or .pth of timm',
  )
  verb.add_argument(
    '--model',
    required=True,
    help='xception | convnext_small | efficientnetv2_s',
  )
  verb.add_argument(
    '--out', required=True, help='folder to write, for config.model.init_from'
  )
  verb.set_defaults(run=commands.weights)

  verb = _verb(verbs, 'doctor', 'say what is installed and what would run')
  verb.set_defaults(run=commands.doctor)
  serve_verbs.add(verbs, _verb)
  return parser


def _verb(verbs, name: str, what: str) -> argparse.ArgumentParser:
  return verbs.add_parser(
    name, help=what, description=f'{what[0].upper()}{what[1:]}.'
  )


def _checkpoint_option(verb) -> None:
  verb.add_argument(
    '--checkpoint', choices=('best', 'latest'), help='default: as configured'
  )


def _count(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r}: a whole number, at least 1')
  return int(text)


def _not_negative(text: str) -> int:
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'{text!r}: a whole number, 0 for none')
  return int(text)


def _millimetres(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = 0.0
  if not 0 < value < 1000:
    raise argparse.ArgumentTypeError(f'{text!r}: millimetres, as in 10')
  return value


def _size(text: str) -> tuple[int, int]:
  height, x, width = text.lower().partition('x')
  if x and height.isdecimal() and width.isdecimal():
    size = int(height), int(width)
    if all(16 <= n <= 8192 for n in size):
      return size
  raise argparse.ArgumentTypeError(
    f'{text!r}: HEIGHTxWIDTH, each from 16 to 8192, as in 512x256'
  )


def _beam_options(text: str) -> list[str]:
  # A value may hold commas itself.
  return re.split(r',(?=--)', text)


if __name__ == '__main__':
  main()
