"""The command `rsna-jax VERB`; each verb calls a module below."""

import argparse
import os
import re
import sys
from collections.abc import Sequence

import rsna_jax
from rsna_jax import errors, shell

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line and exits with its code."""
  shell.set_up_logging()
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
    'Research use only, not a medical device.',
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
  verb.set_defaults(run=_phantom)

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
  verb.set_defaults(run=_prepare)

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
  verb.set_defaults(run=_convert)

  verb = _verb(verbs, 'audit', 'say what a set holds, lacks and leaks')
  verb.add_argument('src', metavar='SRC', help='RSNA layout, or any folder')
  verb.add_argument('--out', required=True, help='folder for page and JSON')
  verb.add_argument('--train-csv', help='instead of SRC/train.csv')
  verb.add_argument('--limit', type=_count, help='most images to read')
  verb.add_argument('--workers', type=_count, default=os.cpu_count())
  verb.set_defaults(run=_audit)

  verb = _verb(verbs, 'evaluate', 'judge a run on a split, with intervals')
  verb.add_argument('--workdir', required=True)
  verb.add_argument('--data-dir', help='default: as the run was trained on')
  verb.add_argument(
    '--split',
    default='validation',
    help='train | validation | test (of data.split=public, site, machine) | '
    'all (of other data) | submission (without labels)',
  )
  _checkpoint_option(verb)
  verb.set_defaults(run=_evaluate)

  verb = _verb(
    verbs,
    'crossvalidate',
    'train folds and pool their answers; takes --config.FIELD=VALUE as well',
  )
  verb.add_argument('--config', required=True, help='configs/NAME.py')
  verb.add_argument('--folds', help='as in 0,1,2,3; default: all')
  verb.add_argument('--workdir', required=True)
  verb.set_defaults(run=_crossvalidate)

  verb = _verb(verbs, 'predict', 'predict files, folders or an RSNA layout')
  verb.add_argument('inputs', nargs='+', metavar='INPUT')
  verb.add_argument('--workdir', required=True)
  verb.add_argument('--csv', help='rows of the images, as test.csv')
  verb.add_argument('--out', required=True, help='folder for the answers')
  verb.add_argument('--bad-files', choices=('stop', 'skip'), default='stop')
  verb.add_argument('--workers', type=_count, default=None)
  _checkpoint_option(verb)
  verb.set_defaults(run=_predict)

  verb = _verb(verbs, 'doctor', 'say what is installed and what would run')
  verb.set_defaults(run=_doctor)
  return parser


def _verb(verbs, name: str, what: str) -> argparse.ArgumentParser:
  return verbs.add_parser(name, help=what, description=f'{what}.'.capitalize())


def _checkpoint_option(verb) -> None:
  verb.add_argument(
    '--checkpoint', choices=('best', 'latest'), help='default: as configured'
  )


def _count(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r}: a whole number, at least 1')
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


def _phantom(options) -> None:
  from rsna_jax.data import phantom

  phantom.write(
    options.out,
    patients=options.patients,
    seed=options.seed,
    workers=options.workers,
  )


def _prepare(options) -> None:
  from rsna_jax import audit
  from rsna_jax.data import convert, preprocess

  spec = preprocess.Spec(
    size=options.size,
    bits=options.bits,
    window=options.window,
    quality=options.quality,
    for_processing=options.for_processing,
  )
  folder = convert.prepare(
    options.src,
    options.data_dir,
    spec=spec,
    workers=options.workers,
    bad_files=options.bad_files,
    train_csv=options.train_csv,
    beam_runner=options.beam_runner,
    beam_options=options.beam_options,
  )
  found = audit.of_prepared(
    folder,
    options.src,
    train_csv=options.train_csv,
    spec=spec,
    contact_sheet=options.contact_sheet,
  )
  print(audit.summary(found))


def _convert(options) -> None:
  from rsna_jax.data import picture_plan, picture_set, pictures, slabs

  both = options.projection == 'both'
  outcome = picture_set.convert(
    options.inputs,
    options.out,
    options=pictures.Options(
      format=options.format,
      window=options.window,
      keep_labels=options.keep_labels,
    ),
    frames=picture_plan.Frames(
      kind=options.frames,
      projections=slabs.PROJECTIONS if both else (options.projection,),
      slab_frames=options.slab_frames,
      slab_mm=options.slab_mm,
    ),
    workers=options.workers,
    bad_files=options.bad_files,
  )
  if outcome.skipped:
    print(
      f'{len(outcome.skipped)} left out, listed in '
      f'{outcome.out / "skipped.csv"}'
    )


def _audit(options) -> None:
  from rsna_jax import audit

  found = audit.audit(
    options.src,
    options.out,
    workers=options.workers,
    train_csv=options.train_csv,
    limit=options.limit,
  )
  print(audit.summary(found))
  print(f'in {options.out}: audit.html, audit.json, contact_sheet_N.png')


def _evaluate(options) -> None:
  from rsna_jax import evaluate

  result = evaluate.evaluate(
    options.workdir,
    data_dir=options.data_dir,
    split=options.split,
    which=options.checkpoint,
  )
  print(evaluate.summary(result))


def _crossvalidate(options) -> None:
  from rsna_jax import crossvalidate

  crossvalidate.crossvalidate(
    options.config, options.folds, options.workdir, options.fields
  )


def _predict(options) -> int:
  from rsna_jax import predict

  outcome = predict.predict_files(
    options.workdir,
    options.inputs,
    options.out,
    csv=options.csv,
    bad_files=options.bad_files,
    workers=options.workers,
    which=options.checkpoint,
  )
  print(f'{outcome.predicted} image(s) predicted, in {outcome.folder}')
  if outcome.skipped:
    print(
      f'{len(outcome.skipped)} left out, listed in '
      f'{outcome.folder / "skipped.csv"}'
    )
  if outcome.submission:
    print(f'submission: {outcome.submission}')
  if outcome.note:
    print(outcome.note)
  print('Research use only, not a medical device.')
  return 0


def _doctor(unused_options) -> int:
  from rsna_jax import doctor

  return doctor.doctor()


if __name__ == '__main__':
  main()
