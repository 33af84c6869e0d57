"""The description of the JSON interface for people, from its OpenAPI."""

from collections.abc import Mapping
from typing import Any

from rsna_jax.serve.pages import markdown


def operations(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
  """What can be asked, in the order of the description.

  Args:
    schema: OpenAPI 3, as FastAPI makes it.

  Returns:
    Dicts of method, path, text (HTML), fields (name, where, type,
    required, text) and answers (status).
  """
  found = []
  for path, methods in schema.get('paths', {}).items():
    for method, one in methods.items():
      text = '\n\n'.join(
        one[name] for name in ('summary', 'description') if one.get(name)
      )
      found.append(
        {
          'method': method.upper(),
          'path': path,
          'text': markdown.to_html(text, str),
          'fields': _parameters(one) + _body(schema, one),
          'answers': list(one.get('responses', {})),
        }
      )
  return found


def _parameters(operation: Mapping[str, Any]) -> list[dict[str, Any]]:
  return [
    {
      'name': one['name'],
      'where': one['in'],
      'type': _type(one.get('schema', {})),
      'required': bool(one.get('required')),
      'text': one.get('description', ''),
    }
    for one in operation.get('parameters', ())
  ]


def _body(
  schema: Mapping[str, Any], operation: Mapping[str, Any]
) -> list[dict[str, Any]]:
  found = {}
  for kind, content in (
    operation.get('requestBody', {}).get('content', {}).items()
  ):
    body = _resolve(schema, content.get('schema', {}))
    for name, one in body.get('properties', {}).items():
      one = _resolve(schema, one)
      row = found.setdefault(
        name,
        {
          'name': name,
          'where': [],
          'type': _type(one),
          'required': name in body.get('required', ()),
          'text': one.get('description', ''),
        },
      )
      row['where'].append(kind)
  return [{**row, 'where': ', '.join(row['where'])} for row in found.values()]


def _resolve(
  schema: Mapping[str, Any], one: Mapping[str, Any]
) -> Mapping[str, Any]:
  """What a reference within the description stands for."""
  while '$ref' in one:
    here: Any = schema
    for part in one['$ref'].removeprefix('#/').split('/'):
      here = here[part]
    one = here
  return one


def _type(one: Mapping[str, Any]) -> str:
  if 'enum' in one:
    return ', '.join(str(value) for value in one['enum'])
  if 'anyOf' in one:
    return ' or '.join(
      _type(part) for part in one['anyOf'] if part.get('type') != 'null'
    )
  if one.get('type') == 'array':
    return f'list of {_type(one.get("items", {}))}'
  if one.get('format') == 'binary' or 'contentMediaType' in one:
    return 'file'
  return str(one.get('type', ''))
