"""What each verb of `rsna-jax` does: it calls a module below, and prints.

Modules are imported where they are used, so that a verb starts with its own.
"""

from rsna_jax import errors, schema


def phantom(options) -> None:
  from rsna_jax.data import phantom

  phantom.write(
    options.out,
    patients=options.patients,
    seed=options.seed,
    workers=options.workers,
  )


def cbis_ddsm(options) -> None:
  from rsna_jax.data import cbis_ddsm

  count = cbis_ddsm.export(options.folders, options.out)
  print(f'{options.out}: {count} images; next: rsna-jax prepare {options.out}')


def prepare(options) -> None:
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


def convert(options) -> None:
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


def audit(options) -> None:
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


_OF_RUNS = ('data_dir', 'split', 'checkpoint')
_OF_PREDICTIONS = (
  'labels',
  'out',
  'aggregate',
  'calibration',
  'rule',
  'threshold',
  'per_site',
  'bootstrap',
  'subset',
  'clip',
)


def evaluate(options) -> None:
  given = {
    name: getattr(options, name)
    for name in (*_OF_RUNS, *_OF_PREDICTIONS)
    if getattr(options, name) is not None
  }
  one, others = '--workdir', _OF_PREDICTIONS
  if options.predictions:
    one, others = '--predictions', _OF_RUNS
  for name in others:
    if name in given:
      raise errors.ConfigError(
        f'rsna-jax evaluate: --{name.replace("_", "-")} does not go with {one}'
        + ('; set config.eval before the training' * (one == '--workdir'))
      )
  if options.predictions:
    from rsna_jax import foreign

    if 'labels' not in given:
      raise errors.ConfigError(
        'rsna-jax evaluate: --predictions needs --labels train.csv'
      )
    labels = given.pop('labels')
    print(foreign.text(foreign.evaluate(options.predictions, labels, **given)))
    return
  from rsna_jax import evaluate

  result = evaluate.evaluate(
    options.workdir,
    data_dir=options.data_dir,
    split=options.split or 'validation',
    which=options.checkpoint,
  )
  print(evaluate.summary(result))


def compare(options) -> None:
  from rsna_jax import compare
  from rsna_jax.scoring import compare_text

  found = compare.compare(
    options.sources,
    split=options.split,
    labels=options.labels,
    out=options.out,
    subset=options.subset,
    resamples=options.bootstrap,
  )
  print(compare_text.text(found))
  print(f'written to {options.out}')


def crossvalidate(options) -> None:
  from rsna_jax import crossvalidate

  crossvalidate.crossvalidate(
    options.config, options.folds, options.workdir, options.fields
  )


def predict(options) -> int:
  from rsna_jax import predict

  outcome = predict.predict_files(
    options.workdir,
    options.inputs,
    options.out,
    csv=options.csv,
    bad_files=options.bad_files,
    workers=options.workers,
    which=options.checkpoint,
    form=options.form,
  )
  print(f'{outcome.predicted} image(s) predicted, in {outcome.folder}')
  if outcome.skipped:
    print(
      f'{len(outcome.skipped)} left out, listed in '
      f'{outcome.folder / "skipped.csv"}'
    )
  if outcome.submission:
    print(f'submission: {outcome.submission} ({options.form})')
  if outcome.expected:
    print(outcome.expected)
  if outcome.note:
    print(outcome.note)
  print(schema.NOTICE)
  return 0


def explain(options) -> None:
  from rsna_jax import explain_files, pointing

  if bool(options.inputs) == bool(options.pointing_game):
    raise errors.ConfigError(
      'rsna-jax explain: name images, or a phantom with --pointing-game SRC'
    )
  if options.pointing_game:
    pointing.play(
      options.workdir,
      options.pointing_game,
      options.out,
      methods=[options.method] if options.method else None,
      limit=options.limit,
      which=options.checkpoint,
      workers=options.workers,
    )
    return
  for folder, one in explain_files.explain_files(
    options.workdir,
    options.inputs,
    options.out,
    method=options.method or 'hirescam',
    target=options.target,
    which=options.checkpoint,
    workers=options.workers,
  ):
    where = 'nowhere'
    if one.peak is not None:
      where = f'most at x={one.peak[0]:.0f}, y={one.peak[1]:.0f}'
    print(f'{folder}: {one.target} {one.probability:.3f}, {where}')
  print(schema.NOTICE)


def weights(options) -> None:
  from rsna_jax import weights, weights_folder

  found = weights.convert(options.source, options.model, options.out)
  print(weights_folder.text(found))
  print(f'written to {options.out}: start with --config.model.init_from')


def doctor(unused_options) -> int:
  from rsna_jax import doctor

  return doctor.doctor()
