"""What a person does to a page in a test's browser: click, drag, type."""

import json
import pathlib
import time

WAIT_S = 30
# Key -> code, virtual key code, and the text that it types.
_KEYS = {
  'Tab': ('Tab', 9, ''),
  'Enter': ('Enter', 13, '\r'),
  'Space': ('Space', 32, ' '),
  'Escape': ('Escape', 27, ''),
  'Home': ('Home', 36, ''),
  'ArrowLeft': ('ArrowLeft', 37, ''),
  'ArrowUp': ('ArrowUp', 38, ''),
  'ArrowRight': ('ArrowRight', 39, ''),
  'ArrowDown': ('ArrowDown', 40, ''),
}
_SHIFT = 8


class Inputs:
  """Of `browser.Browser`, whose `_call` and `evaluate` it uses."""

  def wait(self, expression: str, seconds: float = WAIT_S):
    """The value of an expression, as soon as it is true; of a node, True."""
    end = time.monotonic() + seconds
    # A node by value would be an empty dict.
    known = f'Promise.resolve({expression}).then(x => x instanceof Node || x)'
    while not (found := self.evaluate(known)):
      assert time.monotonic() < end, f'still false: {expression}'
      time.sleep(0.05)
    return found

  def choose(self, selector: str, *paths: pathlib.Path) -> None:
    """Puts files into a file input, as its dialog does."""
    self._call(
      'DOM.setFileInputFiles',
      {
        'files': [str(path.resolve()) for path in paths],
        'objectId': self._object(selector),
      },
    )

  def click(self, selector: str) -> None:
    """Clicks in the middle of an element with the mouse."""
    x, y = self.middle(selector)
    self.mouse('mousePressed', x, y)
    self.mouse('mouseReleased', x, y)

  def middle(self, selector: str) -> tuple[float, float]:
    """Where in the window the middle of an element is; scrolls it there."""
    x, y, under = self.evaluate(
      f"""(() => {{
        const one = document.querySelector({json.dumps(selector)});
        one.scrollIntoView({{block: 'center', behavior: 'instant'}});
        const r = one.getBoundingClientRect();
        const x = r.x + r.width / 2, y = r.y + r.height / 2;
        const top = document.elementFromPoint(x, y);
        return [x, y, one === top || one.contains(top) || top?.contains(one)];
      }})()"""
    )
    assert under, f'{selector} is covered'
    return x, y

  def drag(self, selector: str, by_x: float, by_y: float) -> None:
    """Presses the mouse in the middle of an element, moves and lets go."""
    x, y = self.middle(selector)
    self.mouse('mousePressed', x, y)
    for i in range(1, 5):
      self.mouse('mouseMoved', x + by_x * i / 4, y + by_y * i / 4)
    self.mouse('mouseReleased', x + by_x, y + by_y)

  def mouse(self, kind: str, x: float, y: float) -> None:
    """One event of the mouse, with its left button."""
    params = {'type': kind, 'x': x, 'y': y, 'button': 'left', 'clickCount': 1}
    self._call('Input.dispatchMouseEvent', {**params, 'buttons': 1})

  def press(self, key: str, shift: bool = False, times: int = 1) -> None:
    """Presses a key of `_KEYS` and lets it go."""
    code, number, text = _KEYS[key]
    params = {
      'key': ' ' if key == 'Space' else key,
      'code': code,
      'windowsVirtualKeyCode': number,
      'modifiers': _SHIFT if shift else 0,
    }
    for _ in range(times):
      down = {'type': 'keyDown' if text else 'rawKeyDown', **params}
      if text:
        down['text'] = text
      self._call('Input.dispatchKeyEvent', down)
      self._call('Input.dispatchKeyEvent', {'type': 'keyUp', **params})

  def type(self, text: str) -> None:
    """Types into what has the focus, a key at a time."""
    for letter in text:
      key = {'key': letter, 'text': letter}
      self._call('Input.dispatchKeyEvent', {'type': 'keyDown', **key})
      self._call('Input.dispatchKeyEvent', {'type': 'keyUp', 'key': letter})

  def _object(self, selector: str) -> str:
    """The browser's name for an element."""
    found = self._call(
      'Runtime.evaluate',
      {'expression': f'document.querySelector({json.dumps(selector)})'},
    )
    return found['result']['objectId']
