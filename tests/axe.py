"""axe-core in the page of a test's browser, where it is installed.

scripts/test_tools.sh installs it. It is put in through the browser's debugger,
so the page's own policy can stay as strict as it is.
"""

import os
import pathlib

_INSTALLED = pathlib.Path(__file__).parent / 'node_modules/axe-core/axe.min.js'
_RUN = """
axe.run(document, {
  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',
    'best-practice'],
  rules: {'target-size': {enabled: true}},
}).then(found => found.violations.map(one => [one.id, one.nodes.map(
  node => node.html.slice(0, 200) + ': ' + node.failureSummary)]))
"""


def find() -> pathlib.Path | None:
  """The script, or None."""
  path = pathlib.Path(os.environ.get('RSNA_JAX_AXE') or _INSTALLED)
  return path if path.is_file() else None


def violations(browser) -> list:
  """What the page that is open breaks: rules, and where."""
  browser.evaluate(find().read_text(encoding='utf-8'))
  return browser.evaluate(_RUN)
