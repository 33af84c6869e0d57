"""The layers of the package: a module imports from its own layer or below."""

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_PACKAGE = _ROOT / 'rsna_jax'

# Top to bottom. `name.*` stands for a folder, all of whose modules have one
# place. A new module needs a place here, and a test says so.
LAYERS = (
  (
    'main',
    'cli',
    'commands',
    'doctor',
    'crossvalidate',
    'serve.verbs',
    'serve.store_commands',
    'serve.pages',
    'serve.pages.*',
    'serve.web',
    'serve.web.*',
  ),
  ('serve.learning', 'serve.learning.*', 'interop', 'interop.*'),
  ('serve.answering', 'serve.answering.*'),
  ('serve.intake', 'serve.intake.*'),
  ('serve.store', 'serve.store.*'),
  ('serve', 'serve.problems', 'serve.settings'),
  (
    'train',
    'loop',
    'inference',
    'ensemble',
    'predict',
    'explain',
    'explain_files',
    'explanation',
    'ensemble_file',
    'pointing',
    'transfer',
    'transfer_report',
  ),
  ('evaluate', 'foreign', 'compare', 'scoring.compared_sets'),
  ('results', 'reporting', 'error_maps', 'division', 'mixing'),
  (
    'submission',
    'report',
    'report.*',
    'audit',
    'audit.*',
  ),
  (
    'steps',
    'accumulation',
    'tta',
    'joining',
    'saliency',
    'checkpoint',
    'arrays',
    'integrity',
    'step_folders',
    'writers',
    'run',
    'divergence',
    'watch',
  ),
  (
    'parallel',
    'placement',
    'losses',
    'losses.*',
    'optim',
    'optim.*',
    'models',
    'models.*',
    'weights',
    'weights_folder',
    'data.augment',
    'data.augment.*',
  ),
  (
    'data.reader',
    'data.records',
    'data.beam',
    'data.cbis_ddsm',
    'data.build',
    'data.manifest',
    'data.store',
    'data.survey',
    'data.progress',
    'data.stream_np',
    'data.stream_tf',
    'data.dataset',
    'data.joined',
    'data.phantom_patient',
    'data.phantom_lesions',
    'data.phantom_fields',
    'data.rows',
    'data.convert',
    'data.shown',
    'data.layout',
    'data.inventory',
    'data.deidentify',
    'data.slabs',
    'data.pictures',
    'data.picture_journal',
    'data.picture_plan',
    'data.picture_set',
    'data.picture_sources',
    'data.features',
    'data.phantom',
    'data.damage',
    'data.phantom_image',
    'data.phantom_dicom',
    'data.rsna_mammography',
    'data.rsna_mammography.*',
    'data.mammography_folders',
    'data.mammography_folders.*',
  ),
  ('scoring.*',),
  (
    'metrics',
    'heat',
    'stats.*',
    'aggregate',
    'data.preprocess',
    'data.spec',
    'data.folds',
    'data.order',
    'data.groups',
  ),
  ('data.breast', 'data.grey', 'data.image', 'data.metadata', 'data.table'),
  (
    'data.dicom',
    'data.raster',
    'data.components',
    'data.morphology',
    'data.resize',
  ),
  (
    'data.archive',
    'data.sandbox',
    'data.sandbox_worker',
    'data.sources',
    'data.tree',
    'data.mammogram',
    'data.dicom_file',
    'data.dicom_stream',
    'data.dicom_header',
    'data.dicom_attributes',
    'data.functional_groups',
    'data.grey_fields',
    'data.header_values',
    'data.colour',
    'data.jpeg_ls',
    'data.jpeg2000',
    'data.jpeg_lossless',
    'data.jpeg_markers',
    'data.openjp2',
    'data.fused',
    'data.fused_kernels',
    'data.codestream',
    'data.pyramid',
    'data.wavelet',
    'data.cells',
    'data.csv_text',
  ),
  ('weight_files', 'weight_files.*'),
  ('config',),
  ('options.*',),
  ('schema', 'auxiliary'),
  ('errors', 'files', 'shell', 'compile_cache', 'heap'),
  # A package that holds nothing but its docstring or version.
  ('', 'data', 'options', 'scoring', 'stats'),
)

# Imported where they are used, and there inside functions.
_LAZY = ('apache_beam', 'matplotlib')


def _modules() -> dict[str, pathlib.Path]:
  """Name below the package -> file; '' is the package itself."""
  modules = {}
  for path in sorted(_PACKAGE.rglob('*.py')):
    parts = path.relative_to(_PACKAGE).with_suffix('').parts
    if parts[-1] == '__init__':
      parts = parts[:-1]
    modules['.'.join(parts)] = path
  return modules


def _layer(module: str) -> int | None:
  """Place of a module, by its name first and then by its folders."""
  names = [module]
  while '.' in module:
    module = module.rpartition('.')[0]
    names.append(f'{module}.*')
  for name in names:
    for i, layer in enumerate(LAYERS):
      if name in layer:
        return i
  return None


def _imports(
  path: pathlib.Path, name: str, top_level: bool = False
) -> list[tuple[str, int]]:
  """(absolute dotted name, line) of everything that a file imports.

  `from a import b` counts as a.b: whether b is a module is for the caller.
  With `top_level` the bodies of functions are passed over.
  """
  found = []
  todo = list(ast.parse(path.read_text(encoding='utf-8')).body)
  while todo:
    node = todo.pop()
    if isinstance(node, ast.Import):
      found += [(alias.name, node.lineno) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      origin = node.module or ''
      if node.level:
        package = ('rsna_jax.' + name).rstrip('.').split('.')
        if path.name != '__init__.py':
          package = package[:-1]
        base = package[: len(package) - node.level + 1]
        origin = '.'.join([*base, *origin.split('.')]).rstrip('.')
      found += [(f'{origin}.{alias.name}', node.lineno) for alias in node.names]
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    if not (top_level and is_function):
      todo += ast.iter_child_nodes(node)
  return found


def _module_of(imported: str, modules) -> str | None:
  """The module of this package that an imported name is or lies in."""
  parts = imported.split('.')
  if parts[0] != 'rsna_jax':
    return None
  for end in range(len(parts), 0, -1):
    name = '.'.join(parts[1:end])
    if name in modules:
      return name
  return ''


def test_every_module_has_a_place_in_the_layers():
  homeless = [name for name in _modules() if _layer(name) is None]
  assert not homeless, f'give them a place in LAYERS: {homeless}'


def test_no_module_stands_in_two_layers():
  names = [name for layer in LAYERS for name in layer]
  assert len(names) == len(set(names))


def test_imports_go_down_or_sideways_only():
  modules, up = _modules(), []
  for name, path in modules.items():
    if name == '':
      continue  # `load_model` is looked up lazily, tested below
    for imported, line in _imports(path, name):
      other = _module_of(imported, modules)
      layers = (_layer(name), None if other is None else _layer(other))
      if None not in layers and layers[1] < layers[0]:
        up.append(f'{path.relative_to(_ROOT)}:{line} imports {other}')
  assert not up, 'imports that go up:\n' + '\n'.join(up)


def test_only_the_tensorflow_reader_imports_tensorflow():
  found = []
  for name, path in _modules().items():
    for imported, line in _imports(path, name):
      if imported.split('.')[0] == 'tensorflow' and name != 'data.stream_tf':
        found.append(f'{path.relative_to(_ROOT)}:{line}')
  assert not found, f'tensorflow belongs into data/stream_tf.py: {found}'


def test_beam_and_matplotlib_are_imported_inside_functions():
  found = []
  for name, path in _modules().items():
    for imported, line in _imports(path, name, top_level=True):
      if imported.split('.')[0] in _LAZY:
        found.append(f'{path.relative_to(_ROOT)}:{line} imports {imported}')
  assert not found, f'import these where they are used: {found}'


def test_the_parser_of_imports_sees_every_form(tmp_path):
  path = tmp_path / 'm.py'
  path.write_text(
    'import a.b as c\n'
    'from d import e\n'
    'from . import f\n'
    'from .g import h\n'
    'from .. import errors\n'
    'try:\n  import i\nexcept ImportError:\n  pass\n'
    'def x():\n  import j\n'
    'class Y:\n  def z(self):\n    from k import l\n'
  )
  everything = {name for name, _ in _imports(path, 'data.m')}
  lazy = {'j', 'k.l'}
  assert everything == lazy | {
    'a.b',
    'd.e',
    'rsna_jax.data.f',
    'rsna_jax.data.g.h',
    'rsna_jax.errors',
    'i',
  }
  assert {n for n, _ in _imports(path, 'data.m', True)} == everything - lazy


def _loaded_by(statement: str, packages) -> list[str]:
  code = (
    f'{statement}\nimport sys\n'
    f'print(*[name for name in {packages!r} if name in sys.modules])'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    timeout=120,
    cwd=_ROOT,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.split()


def test_importing_the_package_imports_nothing_heavy():
  assert not _loaded_by('import rsna_jax', ('jax', 'numpy', 'flax', 'pydicom'))


def test_training_imports_no_tensorflow_beam_matplotlib_or_web_framework():
  if not (_PACKAGE / 'train.py').exists():
    pytest.skip('rsna_jax/train.py is not written yet')
  heavy = ('tensorflow', 'apache_beam', 'matplotlib', 'fastapi')
  assert not _loaded_by('import rsna_jax.train', heavy)


@pytest.mark.parametrize('name', ['table', 'folds', 'metadata', 'order'])
def test_tables_and_splits_need_neither_jax_nor_pandas(name):
  heavy = ('jax', 'pandas', 'sklearn', 'tensorflow')
  assert not _loaded_by(f'import rsna_jax.data.{name}', heavy)
