"""A44 to A47: run directories that somebody else has made.

Each function spoils a copy of a sound one.
"""

import hashlib
import json
import shutil

BOMB = b"cposix\nsystem\n(S'touch MARKER'\ntR."


def _config(change):
  def spoil(run):
    path = run / 'config.json'
    path.write_text(json.dumps(change(json.loads(path.read_text()))))

  return spoil


def _text(name, data):
  def spoil(run):
    content = data(run) if callable(data) else data
    (run / name).write_bytes(content)

  return spoil


def _set(*keys_and_value):
  *keys, value = keys_and_value

  def change(values):
    inner = values
    for key in keys[:-1]:
      inner = inner[key]
    inner[keys[-1]] = value
    return values

  return change


def _preprocess(*keys_and_value):
  def spoil(run):
    path = run / 'preprocess.json'
    values = _set(*keys_and_value)(json.loads(path.read_text()))
    path.write_text(json.dumps(values))

  return spoil


def _step(run):
  """The folder of the only step that is left."""
  steps = sorted((run / 'checkpoints').iterdir(), key=lambda p: int(p.name))
  for step in steps[:-1]:
    shutil.rmtree(step)
  return steps[-1]


def _largest(step):
  files = [p for p in (step / 'default').rglob('*') if p.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def _flip(run):
  path = _largest(_step(run))
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _link(run):
  path = _largest(_step(run))
  path.unlink()
  path.symlink_to('/etc/passwd')


def _add(name, data):
  def spoil(run):
    path = _step(run) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)

  return spoil


def _sparse(run):
  path = _largest(_step(run))
  with path.open('r+b') as file:
    file.truncate(4 << 40)


def _manifest(data):
  return lambda run: (_step(run) / 'manifest.json').write_bytes(data)


def _listed(name):
  """A file of the checkpoint that the manifest knows, and that is elsewhere."""

  def spoil(run):
    path = _step(run) / 'manifest.json'
    found = json.loads(path.read_text())
    found[name] = next(iter(found.values()))
    path.write_text(json.dumps(found))

  return spoil


def _instead(data):
  """Every file of the step is this, and the manifest says so."""

  def spoil(run):
    step = _step(run)
    digests = {}
    for path in (step / 'default').rglob('*'):
      if path.is_file():
        path.write_bytes(data)
    for path in step.rglob('*'):
      if path.is_file() and path.name != 'manifest.json':
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        digests[path.relative_to(step).as_posix()] = digest
    (step / 'manifest.json').write_text(json.dumps(digests))

  return spoil


def _no_steps(run):
  shutil.rmtree(run / 'checkpoints')


_YAML = b"!!python/object/apply:os.system ['touch MARKER']\n"
_ALIASES = b'a: &a [x,x,x,x,x,x,x,x,x]\n' + b''.join(
  b'%c: &%c [%s]\n' % (98 + i, 98 + i, b','.join([b'*%c' % (97 + i)] * 9))
  for i in range(9)
)
HDF5 = b'\x89HDF\r\n\x1a\n' + b'/etc/passwd\0' * 99
_KERAS = {'class_name': 'Lambda', 'config': {'function': 'touch MARKER'}}

RUNS = {
  'A44 pickle for config.json': _text('config.json', BOMB),
  'A44 pickle for preprocess.json': _text('preprocess.json', BOMB),
  'A44 pickles for the weights': _instead(BOMB),
  'A44 pickle beside the weights': _add('default/a.pkl', BOMB),
  'A44 Keras config for config.json': _text(
    'config.json', json.dumps(_KERAS).encode()
  ),
  'A45 HDF5 for the weights': _instead(HDF5),
  'A45 HDF5 for config.json': _text('config.json', HDF5),
  'A45 weights of 4 TiB': _sparse,
  'A46 a flipped bit': _flip,
  'A46 link for the weights': _link,
  'A46 path out in the manifest': _listed('../../../config.json'),
  'A46 absolute path in the manifest': _listed('/etc/passwd'),
  'A46 manifest of junk': _manifest(b'x'),
  'A46 manifest 10^5 deep': _manifest(b'[' * 100_000),
  'A46 safetensors for the weights': _instead(
    (1 << 60).to_bytes(8, 'little') + b'{}'
  ),
  'A46 msgpack for the weights': _instead(b'\x91' * 100_000),
  'A46 empty weights': _instead(b''),
  'A46 no steps': _no_steps,
  'A47 YAML that calls': _text('config.json', _YAML),
  'A47 YAML of aliases': _text('config.json', _ALIASES),
  'A47 10^5 deep': _text('config.json', b'[' * 100_000 + b']' * 100_000),
  'A47 10^5 dicts deep': _text(
    'config.json', b'{"a":' * 100_000 + b'1' + b'}' * 100_000
  ),
  'A47 deep preprocess.json': _text('preprocess.json', b'[' * 100_000),
  'A47 unknown key': _config(_set('surprise', 1)),
  'A47 unknown key within': _config(_set('model', 'surprise', 1)),
  'A47 1e999': _text(
    'config.json',
    lambda run: (
      (run / 'config.json').read_bytes().replace(b'"seed": 0', b'"seed": 1e999')
    ),
  ),
  'A47 list for a dict': _config(_set('model', [])),
  'A47 text for a number': _config(_set('train', 'steps', 'x')),
  'A47 unknown model': _config(_set('model', 'name', '../../evil')),
  'A47 model of os': _config(_set('model', 'name', 'os.system')),
  'A47 width of 10^9': _config(_set('model', 'width', 1e9)),
  'A47 empty config.json': _text('config.json', b''),
  'A47 list for config.json': _text('config.json', b'[]'),
  'A47 null for config.json': _text('config.json', b'null'),
  'A47 Latin-1': _text('config.json', b'{"name": "\xff"}'),
  'A47 spec of 10^9': _preprocess('spec', 'size', [10**9, 10**9]),
  'A47 spec of text': _preprocess('spec', 'size', 'x'),
  'A47 spec of another version': _preprocess('spec', 'version', 99),
  'A47 spec is a list': _preprocess('spec', []),
  'A47 metadata is a list': _preprocess('metadata', []),
  'A47 metadata of os': _preprocess('metadata', 'columns', ['os.system']),
  'A47 preprocess.json is a number': _text('preprocess.json', b'7'),
}


# Of what only a training asks for, a server may think nothing.
HARMLESS = {
  'A47 NaN': _config(_set('optim', 'learning_rate', float('nan'))),
  'A47 size of 10^9': _config(_set('data', 'size', [10**9, 10**9])),
  'A47 source of data': _config(_set('data', 'dir', '/etc/passwd')),
}
