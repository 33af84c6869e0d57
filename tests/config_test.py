import json
import pathlib

import pytest

from rsna_jax import config, errors, schema
from rsna_jax.options import data as data_options

_CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'


def _set(c, field, value):
  group, name = field.split('.')
  with c.ignore_type():
    c[group][name] = value


def test_the_defaults_are_valid():
  config.validate(config.default())


@pytest.mark.parametrize(
  'path', sorted(_CONFIGS.glob('*.py')), ids=lambda path: path.stem
)
def test_every_config_of_the_project_is_valid(path):
  c = config.load(path)
  config.validate(c)
  assert config.from_json(config.to_json(c)).to_dict() == c.to_dict()


@pytest.mark.parametrize('seed', [-1, 2**32])
def test_a_seed_that_generators_cannot_take_is_refused(seed):
  c = config.default()
  c.seed = seed
  with pytest.raises(errors.ConfigError, match=f'seed={seed}: from 0 to '):
    config.validate(c)


def test_unknown_and_ill_typed_fields_cannot_be_set():
  c = config.default()
  with pytest.raises(AttributeError):
    c.train.epochs = 3
  with pytest.raises(TypeError):
    c.train.steps = 'many'
  with pytest.raises(TypeError):
    c.data.size = 512


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('parallel.mode', 'xmap'),
    ('data.name', 'cbis'),
    ('data.reader', 'torch'),
    ('data.window', 'sigmoid'),
    ('data.bits', 12),
    ('data.size', (512,)),
    ('data.size', (512, 256, 1)),
    ('data.size', (8, 256)),
    ('data.size', (512, 10_000)),
    ('data.size', ('512', '256')),
    ('data.size', (512.5, 256)),
    ('data.split', 'random'),
    ('data.folds', 1),
    ('data.fold', 4),
    ('data.fold', -1),
    ('data.target', 'biopsy'),
    ('data.positives_per_batch', 32),
    ('data.positives_per_batch', -1),
    ('data.extra', ('',)),
    ('data.extra', ('a', './a')),
    ('data.extra', ('data',)),
    ('data.extra_rows', 'some'),
    ('data.positives_final', 0),
    ('data.positives_final', 32),
    ('data.positives_until', 100),
    ('data.hard_negatives', ('hard',)),
    ('data.hard_weight', 0.0),
    ('data.threads', 0),
    ('data.views', 0),
    ('data.views', 65),
    ('eval.views', 65),
    ('augment.flip_vertical', 1.5),
    ('augment.scale', -0.1),
    ('augment.contrast', float('nan')),
    ('augment.scale', 1.0),
    ('augment.shear_deg', 60.0),
    ('augment.box_jitter', 0.5),
    ('augment.crop', -0.1),
    ('augment.elastic', 0.5),
    ('augment.grid', 1.0),
    ('augment.gamma', -1.0),
    ('augment.tone_curve', 1.0),
    ('augment.polarity', 2.0),
    ('augment.downscale', float('inf')),
    ('augment.noise', -0.1),
    ('augment.cutout', -1),
    ('augment.cutout_size', 1.5),
    ('augment.mixup', 1.1),
    ('augment.cutmix', -0.1),
    ('augment.sheet', -1),
    ('model.pool', 'median'),
    ('model.width', 0.0),
    ('model.dropout', -0.1),
    ('model.metadata', ('age', 'age')),
    ('model.metadata', ('weight',)),
    ('train.steps', 0),
    ('train.accumulate', 0),
    ('parallel.space', 0),
    ('train.dtype', 'float16'),
    ('loss.positive_weight', 0.0),
    ('optim.clip_norm', float('inf')),
    ('loss.label_smoothing', 2.0),
    ('optim.learning_rate', 0.0),
    ('optim.learning_rate', float('nan')),
    ('optim.learning_rate', float('inf')),
    ('optim.schedule', 'step'),
    ('optim.warmup_steps', -1),
    ('optim.floor', 1.5),
    ('optim.climb', 0.0),
    ('optim.boundaries', (5,)),
    ('optim.boundaries', (5, 5)),
    ('optim.boundaries', (0.5,)),
    ('optim.factors', (0.5,)),
    ('optim.factors', (0.0,)),
    ('optim.momentum', 1.0),
    ('optim.b1', -0.1),
    ('optim.b2', 1.0),
    ('optim.eps', -1e-8),
    ('optim.clip_value', -1.0),
    ('optim.layer_decay', 0.0),
    ('optim.layer_decay', 1.1),
    ('optim.lookahead', -1),
    ('optim.lookahead_rate', 0.0),
    ('optim.freeze', ('trunk/',)),
    ('optim.freeze', (3,)),
    ('optim.freeze_steps', -2),
    ('eval.aggregate', 'median'),
    ('eval.bootstrap', -1),
  ],
)
def test_a_bad_value_is_named_with_its_field(field, value):
  c = config.default()
  _set(c, field, value)
  with pytest.raises(errors.ConfigError) as caught:
    config.validate(c)
  message = str(caught.value)
  assert f'{field}={value!r}: ' in message and '\n' not in message


@pytest.mark.parametrize(
  'column',
  sorted(set(schema.TRAIN_COLUMNS) - set(schema.TEST_COLUMNS)),
)
def test_columns_that_leak_the_label_are_refused_as_inputs(column):
  c = config.default()
  c.model.metadata = ('age', column)
  with pytest.raises(errors.ConfigError, match=f'{column}.* leak the label'):
    config.validate(c)


def test_all_legal_metadata_is_accepted():
  c = config.default()
  c.model.metadata = schema.METADATA_COLUMNS
  config.validate(c)


def test_all_errors_are_found_at_once():
  c = config.default()
  c.train.steps = 0
  c.model.pool = 'median'
  c.data.fold = 7
  with pytest.raises(errors.ConfigError) as caught:
    config.validate(c)
  for field in ('train.steps=0', "model.pool='median'", 'data.fold=7'):
    assert field in str(caught.value)


def test_a_surrogate_of_a_whole_batch_is_refused_with_parts_of_it():
  c = config.default()
  c.train.accumulate, c.loss.surrogate = 2, 'pf1'
  with pytest.raises(errors.ConfigError, match=r'loss\.surrogate=pf1 looks'):
    config.validate(c)
  c.loss.surrogate = ''
  config.validate(c)


@pytest.mark.parametrize('split', ['site', 'machine'])
def test_holding_out_needs_an_id(split):
  c = config.default()
  c.data.split = split
  with pytest.raises(errors.ConfigError, match=r'data\.held_out=-1'):
    config.validate(c)
  c.data.held_out = 2
  config.validate(c)


def test_a_table_without_images_takes_the_metadata_model_alone():
  c = config.default()
  c.data.name = 'csv'
  with pytest.raises(errors.ConfigError, match='choose meta'):
    config.validate(c)
  c.model.name = 'meta'
  with pytest.raises(errors.ConfigError, match='at least one column'):
    config.validate(c)
  c.model.metadata = ('age',)
  config.validate(c)


def test_a_file_of_differences_is_loaded(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from rsna_jax import config\n'
    'def get_config():\n'
    '  c = config.default()\n'
    '  c.train.steps = 7\n'
    '  return c\n'
  )
  assert config.load(path).train.steps == 7


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('def get_config(:\n', 'SyntaxError'),
    ('x = 1\n', 'get_config'),
    ('def get_config():\n  return {}\n', 'default'),
    ('import no_such_module\n', 'no_such_module'),
    (
      'from rsna_jax import config\n'
      'def get_config():\n  c = config.default()\n  c.tran.steps = 1\n',
      'tran',
    ),
    (
      'from rsna_jax import config\n'
      'def get_config():\n  c = config.default()\n  c.seed = "a"\n',
      'seed',
    ),
  ],
)
def test_a_config_that_does_not_run_is_one_line(tmp_path, text, message):
  path = tmp_path / 'mine.py'
  path.write_text(text)
  with pytest.raises(errors.ConfigError) as caught:
    config.load(path)
  assert str(path) in str(caught.value) and message in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['nothing.py', 'folder', 'config.txt'])
def test_what_is_no_config_file_is_named(tmp_path, name):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'config.txt').write_text('')
  with pytest.raises(errors.ConfigError, match=name):
    config.load(tmp_path / name)


def test_json_brings_back_the_same_config():
  c = config.default()
  c.data.size = (128, 64)
  c.model.metadata = ('age', 'view')
  c.optim.learning_rate = 1 / 3
  again = config.from_json(config.to_json(c))
  assert again.to_dict() == c.to_dict() and again.is_locked
  assert isinstance(again.data.size, tuple)


def test_fields_that_an_old_file_lacks_keep_their_defaults():
  c = config.from_json('{"train": {"steps": 3}}')
  assert c.train.steps == 3 and c.data.folds == config.default().data.folds


@pytest.mark.parametrize(
  'value',
  [
    '{',
    '[1]',
    'null',
    '3',
    '"text"',
    json.dumps({'epochs': 3}),
    json.dumps({'train': {'epochs': 3}}),
    json.dumps({'train': {'steps': 'many'}}),
    json.dumps({'train': 5}),
    json.dumps({'seed': {'a': 1}}),
  ],
)
def test_json_of_something_else_is_refused(value):
  with pytest.raises(
    errors.ConfigError, match=r'^run/config\.json: '
  ) as caught:
    config.from_json(value, 'run/config.json')
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('share', [0.0, 0.01, 0.99, 1.0, float('nan')])
def test_every_set_of_a_mixture_has_an_example_in_a_batch(share):
  c = config.default()
  c.data.extra_share = share  # says nothing without a set to mix in
  config.validate(c)
  c.data.extra = ('other',)
  with pytest.raises(errors.ConfigError, match=r'data\.extra_share='):
    config.validate(c)
  c.data.extra_share = 0.3
  config.validate(c)
  assert data_options.extra_examples(c) == 10


@pytest.mark.parametrize(
  ('fields', 'named'),
  [
    ({'augment.mixup': 0.7, 'augment.cutmix': 0.5}, 'add up to 1'),
    ({'augment.mixup': 0.5, 'train.batch_size': 9}, 'even train.batch_size'),
    ({'augment.mixup': 0.5, 'augment.mixup_alpha': 0.0}, 'mixup_alpha=0.0'),
    ({'augment.elastic': 0.1, 'augment.elastic_cells': 0}, 'elastic_cells=0'),
    ({'augment.grid': 0.1, 'augment.grid_cells': 0}, 'grid_cells=0'),
    (
      {
        'data.positives_per_batch': 0,
        'data.positives_final': 2,
        'data.positives_until': 9,
      },
      'beside a data.positives_per_batch',
    ),
    ({'data.positives_final': 4}, 'positives_until=0: at least 1'),
    ({'data.hard_weight': 2.0, 'data.hard_negatives': ()}, 'hard_weight=2.0'),
  ],
)
def test_fields_that_need_each_other_are_checked_together(fields, named):
  c = config.default()
  for field, value in fields.items():
    _set(c, field, value)
  with pytest.raises(errors.ConfigError, match=named):
    config.validate(c)


def test_a_schedule_of_positives_and_hard_negatives_can_be_asked_for():
  c = config.default()
  c.data.positives_per_batch, c.data.positives_final = 8, 2
  c.data.positives_until, c.data.hard_weight = 1000, 3.0
  c.augment.mixup, c.augment.cutmix = 0.5, 0.5
  config.validate(c)
