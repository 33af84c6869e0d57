"""A real browser for tests: Chromium without a window, spoken to by a pipe.

A page is loaded as it is, from a file or a server of this machine, with every
name of the network unknown; what it asks for and complains of is kept.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import browser_inputs

NAMES = ('chromium', 'chromium-browser', 'google-chrome')


def find() -> str | None:
  """Path of an installed Chromium, or None."""
  return next((x for x in map(shutil.which, NAMES) if x), None)


class Browser(browser_inputs.Inputs):
  """One page at a time.

  Attributes:
    complaints: texts of errors and warnings of the console.
    asked: addresses that the page asked for.
    history: the same of all pages since the browser was started.
  """

  def __init__(self):
    self.complaints: list[str] = []
    self.asked: list[str] = []
    self.history: list[str] = []
    self._number = 0
    self._buffer = b''
    self._loaded = False

  def __enter__(self) -> 'Browser':
    self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    theirs, self._out = os.pipe()
    self._in, their_out = os.pipe()
    # Chromium reads from 3 and writes to 4; dup2 puts the pipes there.
    script = f'exec "$@" 3<&{theirs} 4>&{their_out}'
    self._process = subprocess.Popen(
      ['bash', '-c', script, 'chromium', find(), *self._flags()],
      pass_fds=(theirs, their_out),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(their_out)
    target = self._call('Target.createTarget', {'url': 'about:blank'})
    self._session = None
    attached = self._call(
      'Target.attachToTarget',
      {'targetId': target['targetId'], 'flatten': True},
    )
    self._session = attached['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network', 'DOM'):
      self._call(f'{domain}.enable')
    return self

  def __exit__(self, *unused) -> None:
    self._process.terminate()
    try:
      self._process.wait(20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._in)
    os.close(self._out)
    self._home.cleanup()

  _session = None

  def open(
    self, where: pathlib.Path | str, width: int, height: int = 900
  ) -> None:
    """Loads a file or an address into a window of so many CSS pixels."""
    self.complaints, self.asked = [], []
    if isinstance(where, pathlib.Path):
      where = where.resolve().as_uri()
    self.resize(width, height)
    with self.loading():
      found = self._call('Page.navigate', {'url': where})
      assert 'errorText' not in found, found

  def resize(self, width: int, height: int = 900) -> None:
    """Gives the window so many CSS pixels; below 600 it is a phone's."""
    self._call(
      'Emulation.setDeviceMetricsOverride',
      {
        'width': width,
        'height': height,
        'deviceScaleFactor': 1,
        'mobile': width < 600,
      },
    )
    self._call('Emulation.setTouchEmulationEnabled', {'enabled': width < 600})

  @contextlib.contextmanager
  def loading(self):
    """Waits until what is done within has loaded another page."""
    self._loaded = False
    yield
    end = time.monotonic() + 60
    while not self._loaded:
      self._read(end)

  def scheme(self, name: str) -> None:
    """Asks for a colour scheme: light or dark."""
    feature = {'name': 'prefers-color-scheme', 'value': name}
    self._call('Emulation.setEmulatedMedia', {'features': [feature]})

  def scripts(self, allowed: bool) -> None:
    """Whether pages may run scripts; what is evaluated here always may."""
    self._call('Emulation.setScriptExecutionDisabled', {'value': not allowed})

  def forget(self) -> None:
    """Drops all cookies."""
    self._call('Network.clearBrowserCookies')

  def evaluate(self, expression: str):
    """Value of a JavaScript expression in the page; promises are awaited."""
    found = self._call(
      'Runtime.evaluate',
      {
        'expression': expression,
        'returnByValue': True,
        'awaitPromise': True,
      },
    )
    assert 'exceptionDetails' not in found, found
    return found['result'].get('value')

  def screenshot(
    self, path: pathlib.Path, clip: tuple[int, int, int, int] | None = None
  ) -> None:
    """Writes a PNG of x, y, width, height; None: of the whole page."""
    if clip is None:
      size = self._call('Page.getLayoutMetrics')['cssContentSize']
      clip = 0, 0, size['width'], size['height']
    x, y, width, height = clip
    found = self._call(
      'Page.captureScreenshot',
      {
        'captureBeyondViewport': True,
        'clip': {'x': x, 'y': y, 'width': width, 'height': height, 'scale': 1},
      },
    )
    path.write_bytes(base64.b64decode(found['data']))

  def pdf(self) -> bytes:
    """The page as it is printed."""
    found = self._call('Page.printToPDF', {'preferCSSPageSize': True})
    return base64.b64decode(found['data'])

  def _flags(self) -> list[str]:
    return [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
      '--remote-debugging-pipe',
      f'--user-data-dir={self._home.name}',
      'about:blank',
    ]

  def _call(self, method: str, params: dict | None = None) -> dict:
    self._number += 1
    number = self._number
    message = {'id': number, 'method': method, 'params': params or {}}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._out, json.dumps(message).encode() + b'\0')
    end = time.monotonic() + 60
    while True:
      found = self._read(end)
      if found.get('id') == number:
        assert 'error' not in found, found
        return found['result']

  def _read(self, end: float) -> dict:
    """The next message; events are noted."""
    while b'\0' not in self._buffer:
      assert time.monotonic() < end, 'the browser does not answer'
      part = os.read(self._in, 1 << 20)
      assert part, 'the browser has ended'
      self._buffer += part
    line, _, self._buffer = self._buffer.partition(b'\0')
    found = json.loads(line)
    params = found.get('params', {})
    match found.get('method'):
      case 'Page.loadEventFired':
        self._loaded = True
      case 'Network.requestWillBeSent':
        self.asked.append(params['request']['url'])
        self.history.append(params['request']['url'])
      case 'Log.entryAdded':
        self.complaints.append(params['entry']['text'])
      case 'Runtime.consoleAPICalled' | 'Runtime.exceptionThrown':
        self.complaints.append(json.dumps(params))
    return found
