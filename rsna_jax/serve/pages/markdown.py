"""The model card as HTML: the Markdown that `report/card.py` writes, no more.

Everything is escaped first, so a card from a stranger's run is text as well.
"""

import re
from collections.abc import Callable

import markupsafe

_TABLE = re.compile(r'\s*\|')
_RULE = re.compile(r'[\s|:-]+')
_HEADING = re.compile(r'(#{1,4}) +(.*)')
_CELL = re.compile(r'(?<!\\)\|')
_ESCAPED = re.compile(r'\\([\\`*_{}\[\]()#+.!|<>~-])')
_CODE = re.compile(r'`([^`]+)`')
_BOLD = re.compile(r'\*\*(.+?)\*\*')
_KEPT = '\x00{}\x00'


def to_html(text: str, table_label: Callable[[int], str]) -> markupsafe.Markup:
  """HTML of headings, paragraphs, lists and tables.

  Args:
    text: the Markdown.
    table_label: what a screen reader calls the first table, the second, ...
  """
  out, tables = [], 0
  for block in re.split(r'\n\s*\n', text.replace('\x00', '')):
    lines = [line for line in block.split('\n') if line.strip()]
    if not lines:
      continue
    if found := _HEADING.fullmatch(lines[0]):
      level = len(found[1])
      out.append(f'<h{level}>{_inline(found[2])}</h{level}>')
      lines = lines[1:]
    if all(_TABLE.match(line) for line in lines) and len(lines) > 1:
      tables += 1
      out.append(_table(lines, table_label(tables)))
    elif lines and all(line.startswith('- ') for line in lines):
      rows = ''.join(f'<li>{_inline(line[2:])}</li>' for line in lines)
      out.append(f'<ul>{rows}</ul>')
    elif lines:
      out.append(f'<p>{_inline(" ".join(lines))}</p>')
  return markupsafe.Markup('\n'.join(out))


def _inline(text: str) -> str:
  """Escaped text, with code and bold type."""
  kept: list[str] = []

  def keep(html: str) -> str:
    kept.append(html)
    return _KEPT.format(len(kept) - 1)

  text = _CODE.sub(
    lambda found: keep(f'<code>{markupsafe.escape(found[1])}</code>'), text
  )
  text = _ESCAPED.sub(
    lambda found: keep(str(markupsafe.escape(found[1]))), text
  )
  text = _BOLD.sub(r'<strong>\1</strong>', str(markupsafe.escape(text)))
  for i, html in enumerate(kept):
    text = text.replace(_KEPT.format(i), html)
  return text


def _cells(line: str) -> list[str]:
  parts = _CELL.split(line.strip().removeprefix('|').removesuffix('|'))
  return [part.strip() for part in parts]


def _table(lines: list[str], label: str) -> str:
  head, *rows = lines
  right = []
  if rows and _RULE.fullmatch(rows[0]):
    right = [cell.endswith(':') for cell in _cells(rows[0])]
    rows = rows[1:]

  def row(line: str, tag: str, scope: str) -> str:
    cells = []
    for i, cell in enumerate(_cells(line)):
      number = ' class="number"' if i < len(right) and right[i] else ''
      if tag == 'th' or i == 0:
        cells.append(f'<th scope="{scope}"{number}>{_inline(cell)}</th>')
      else:
        cells.append(f'<td{number}>{_inline(cell)}</td>')
    return f'<tr>{"".join(cells)}</tr>'

  body = ''.join(row(line, 'td', 'row') for line in rows)
  return (
    f'<div class="scroll" tabindex="0" role="region" '
    f'aria-label="{markupsafe.escape(label)}"><table><thead>'
    f'{row(head, "th", "col")}</thead><tbody>{body}</tbody></table></div>'
  )
