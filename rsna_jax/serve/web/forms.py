"""Bodies of requests, read into memory within limits.

Files never touch the disk: a framework's own parser would spool those of more
than a megabyte into temporary files, and take thousands of fields.
"""

import dataclasses
import json
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

from python_multipart import exceptions, multipart
from starlette import requests

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib

FIELD_BYTES = 64 << 10
NAME_BYTES = 200
TEXT_BYTES = 1 << 20  # a body without files
_FILENAME_BYTES = 4096
_HEADERS = 8  # of a part


@dataclasses.dataclass(frozen=True)
class File:
  """A file of a form."""

  field: str
  filename: str
  data: bytes


@dataclasses.dataclass(frozen=True)
class Form:
  """Fields and files of a body, in their order."""

  fields: dict[str, list[str]]
  files: list[File]

  def get(self, name: str, default: str = '') -> str:
    """The first value of a field."""
    return self.fields.get(name, [default])[0]

  def first(self) -> dict[str, str]:
    """The first value of each field."""
    return {name: values[0] for name, values in self.fields.items()}


async def read(
  request: requests.Request, settings: settings_lib.Settings
) -> Form:
  """Reads a form, multipart or urlencoded.

  Raises:
    problems.Problem: E_REQUEST, E_SIZE or E_TYPE.
  """
  kind, options = multipart.parse_options_header(
    request.headers.get('content-type', '')
  )
  if kind == b'multipart/form-data':
    boundary = options.get(b'boundary')
    if not boundary:
      raise _bad('the multipart body names no boundary')
    return await _multipart(request.stream(), boundary, settings)
  if kind == b'application/x-www-form-urlencoded':
    text = await _text(request)
    try:
      pairs = urllib.parse.parse_qsl(
        text, keep_blank_values=True, max_num_fields=settings.fields
      )
    except ValueError as error:
      raise _bad(f'more than {settings.fields} fields') from error
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
      _check_field(name, len(value))
      fields.setdefault(name, []).append(value)
    return Form(fields, [])
  raise problems.Problem(
    'E_TYPE', 'Send a form: multipart/form-data with the files.'
  )


async def read_json(request: requests.Request) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    problems.Problem: E_REQUEST, E_SIZE or E_TYPE.
  """
  kind, _ = multipart.parse_options_header(
    request.headers.get('content-type', '')
  )
  if kind != b'application/json':
    raise problems.Problem(
      'E_TYPE', 'Send JSON, with Content-Type: application/json.'
    )
  text = await _text(request)
  try:
    found = json.loads(text, parse_constant=_no_constant)
  except (ValueError, RecursionError) as error:
    raise _bad('the body is not JSON') from error
  if not isinstance(found, dict):
    raise _bad('the body is not a JSON object')
  return found


async def read_fields(
  request: requests.Request, settings: settings_lib.Settings
) -> dict[str, Any]:
  """The fields of a JSON object, or of a form without files.

  Raises:
    problems.Problem: E_REQUEST, E_SIZE or E_TYPE.
  """
  if 'json' in request.headers.get('content-type', ''):
    return await read_json(request)
  form = await read(request, settings)
  return dict(form.first())


async def _text(request: requests.Request) -> str:
  body = bytearray()
  async for chunk in request.stream():
    body += chunk
    if len(body) > TEXT_BYTES:
      raise problems.Problem(
        'E_SIZE', f'A body without files has at most {TEXT_BYTES:,} bytes.'
      )
  try:
    return body.decode('utf-8')
  except UnicodeDecodeError as error:
    raise _bad('the body is not UTF-8') from error


async def _multipart(
  stream: AsyncIterator[bytes],
  boundary: bytes,
  settings: settings_lib.Settings,
) -> Form:
  parts = _Parts(settings)
  try:
    parser = multipart.MultipartParser(
      boundary,
      {
        'on_part_begin': parts.begin,
        'on_header_field': parts.header_name,
        'on_header_value': parts.header_value,
        'on_header_end': parts.header_end,
        'on_headers_finished': parts.headers_finished,
        'on_part_data': parts.data,
        'on_part_end': parts.end,
        'on_end': parts.finish,
      },
      max_header_count=_HEADERS,
      max_header_size=_FILENAME_BYTES,
    )
    async for chunk in stream:
      parser.write(chunk)
    parser.finalize()
  except exceptions.FormParserError as error:
    raise _bad('the multipart body is malformed') from error
  if not parts.finished:
    raise _bad('the multipart body ends too early')
  return Form(parts.fields, parts.files)


class _Parts:
  """Callbacks of the parser; they raise where a limit is passed."""

  def __init__(self, settings: settings_lib.Settings):
    self._settings = settings
    self.fields: dict[str, list[str]] = {}
    self.files: list[File] = []
    self.finished = False
    self._n = 0
    self._headers: dict[bytes, bytes] = {}
    self._name = self._value = b''
    self._field, self._filename = '', None
    self._body = bytearray()

  def begin(self) -> None:
    self._n += 1
    if self._n > self._settings.fields:
      raise _bad(f'more than {self._settings.fields} fields')
    self._headers, self._body = {}, bytearray()
    self._name = self._value = b''

  def header_name(self, data: bytes, start: int, end: int) -> None:
    self._name += data[start:end]

  def header_value(self, data: bytes, start: int, end: int) -> None:
    self._value += data[start:end]

  def header_end(self) -> None:
    self._headers[self._name.lower()] = self._value
    self._name = self._value = b''

  def headers_finished(self) -> None:
    kind, options = multipart.parse_options_header(
      self._headers.get(b'content-disposition', b'')
    )
    if kind != b'form-data' or b'name' not in options:
      raise _bad('a part of the form has no name')
    self._field = options[b'name'].decode('utf-8', 'replace')
    _check_field(self._field, 0)
    given = options.get(b'filename')
    self._filename = None if given is None else given.decode('utf-8', 'replace')
    if self._filename is not None and len(self.files) >= self._settings.files:
      raise _bad(f'more than {self._settings.files} files in one request')

  def data(self, data: bytes, start: int, end: int) -> None:
    size = len(self._body) + end - start
    if self._filename is None:
      _check_field(self._field, size)
    elif size > self._settings.file_bytes:
      raise problems.Problem(
        'E_SIZE',
        f'A file has at most {self._settings.file_bytes / 2**20:.4g} MiB.',
      )
    self._body += data[start:end]

  def end(self) -> None:
    if self._filename is None:
      text = self._body.decode('utf-8', 'replace')
      self.fields.setdefault(self._field, []).append(text)
    elif self._filename or self._body:  # an empty file field of a page is none
      file = File(self._field, self._filename, bytes(self._body))
      self.files.append(file)
    self._body = bytearray()

  def finish(self) -> None:
    self.finished = True


def _check_field(name: str, size: int) -> None:
  if len(name) > NAME_BYTES:
    raise _bad(f'the name of a field has more than {NAME_BYTES} characters')
  if size > FIELD_BYTES:
    raise _bad(f'a field has more than {FIELD_BYTES:,} bytes')


def _bad(reason: str) -> problems.Problem:
  return problems.Problem('E_REQUEST', f'The request is malformed: {reason}.')


def _no_constant(name: str):
  raise ValueError(name)
