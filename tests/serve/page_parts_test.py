"""What pages are made of, without a server or a browser."""

import json
import math
import pathlib
import re
import types
import xml.etree.ElementTree as ET

import jinja2
import numpy as np
import pytest

from rsna_jax.serve.pages import (
  markdown,
  page_common,
  place_chart,
  rendering,
  shown_answer,
  shown_api,
  shown_models,
  words,
)

_SERVE = pathlib.Path(words.__file__).parent
_TEMPLATES = sorted((_SERVE / 'templates').rglob('*.html'))


def test_every_text_of_the_pages_is_there_and_none_is_left_over():
  known = set(json.loads((_SERVE / 'texts/en.json').read_text()))
  paths = [
    *_TEMPLATES,
    *_SERVE.glob('page*.py'),
    *_SERVE.glob('shown*.py'),
    _SERVE / 'place_chart.py',
  ]
  code = '\n'.join(path.read_text() for path in paths)
  used = set(re.findall(r"""\bt\(\s*f?['"]([a-z_.A-Z]+)['"][,)]""", code))
  assert used - known == set()
  # Names that are put together begin with a text that ends in a dot.
  starts = set(re.findall(r"""['"]([a-z_.]+\.)(?:['"] ?~|\{)""", code))
  quoted = set(re.findall(r"""['"]([a-zA-Z_.0-9]+)['"]""", code))
  left = {
    key
    for key in known - used - quoted
    if not key.startswith(tuple(starts)) and not key.endswith(('.one', '.none'))
  }
  assert left == set()


def test_texts_come_in_the_language_that_is_there():
  assert words.choose('de-CH, en;q=0.5').language == 'en'
  assert words.choose(None).language == 'en'
  assert words.choose('en;q=nan,,;;q=,' + 'x' * 5000).language == 'en'
  t = words.of('en')
  assert t('n_images', n=1) == '1 image'
  assert t('n_images', n=3) == '3 images'
  with pytest.raises(KeyError):
    t('no such text')


def test_no_template_has_a_script_or_a_style_within():
  for path in _TEMPLATES:
    text = path.read_text()
    assert not re.search(r'\sstyle\s*=|<style|\son[a-z]+\s*=', text), path
    assert not re.search(r'<script(?![^>]*\ssrc=)', text), path
    assert not re.search(r'(src|href)="(https?:)?//', text), path


def test_what_is_shown_is_escaped():
  problem = types.SimpleNamespace(code='E_TYPE', message='<script>{{ 7*7 }}')
  found = rendering.render(
    'problem.html', words.of('en'), problem=problem, limits={}
  )
  assert '&lt;script&gt;{{ 7*7 }}' in found
  with pytest.raises(jinja2.UndefinedError):
    rendering.render('login.html', words.of('en'))


def test_markdown_of_a_card_becomes_html_and_nothing_else_does():
  found = markdown.to_html(
    '# A\\_b <i>\n\nSome **bold** `co*de*` text\nin two lines\n\n'
    '- one\n- two\n\n'
    '| x | n |\n| --- | ---: |\n| a \\| b | 1 |\n',
    lambda n: f'table {n}',
  )
  tree = ET.fromstring(f'<div>{found}</div>')
  assert tree.find('h1').text == 'A_b <i>'
  assert ''.join(tree.find('p').itertext()) == (
    'Some bold co*de* text in two lines'
  )
  assert [one.text for one in tree.findall('ul/li')] == ['one', 'two']
  table = tree.find('div')
  assert table.get('aria-label') == 'table 1'
  assert [one.text for one in table.iter('td')] == ['1']
  assert [one.text for one in table.iter('th')] == ['x', 'n', 'a | b']
  assert table.find('.//td').get('class') == 'number'


def test_the_place_of_a_breast_is_on_an_axis_of_log_odds():
  reference = np.array([0.001, 0.01, 0.2, 0.9])
  labels = np.array([0, 0, -1, 1])
  svg = place_chart.draw(words.of('en'), 0.5, 0.2, reference, labels)
  tree = ET.fromstring(str(svg))
  lines = {one.get('class'): one for one in tree.iter('line')}
  texts = {one.text: float(one.get('x')) for one in tree.iter('text')}
  here = float(lines['here'].get('x1'))
  assert here == pytest.approx(texts['50 %'])
  # Equal steps of log odds are equal steps of the axis.
  per = (texts['90 %'] - texts['50 %']) / math.log(9)
  threshold = float(lines['threshold'].get('x1'))
  assert (here - threshold) / per == pytest.approx(math.log(4), abs=0.01)
  paths = {one.get('class'): one.get('d') for one in tree.iter('path')}
  assert paths['benign'].count('M') == 2 and paths['malignant'].count('M') == 1
  assert re.findall(r'\d+(?=\s%)', tree.get('aria-label')) == ['50', '20']


@pytest.mark.parametrize(
  'value, text',
  [
    (None, '–'),
    (0.0, '0 %'),
    (0.00004, '<0.1 %'),
    (0.0123, '1.2 %'),
    (0.126, '13 %'),
    (0.9951, '99.5 %'),
    (0.99999, '>99.9 %'),
    (1.0, '100 %'),
  ],
)
def test_shares_are_written_with_the_digits_that_mean_something(value, text):
  assert place_chart.percent(value) == text.replace(' ', '\xa0')


@pytest.mark.parametrize(
  'with_cancer, begin',
  [
    (78.7, 'Of 1,000 women with this result (called), about 79 have'),
    (1.2, 'Of 1,000 women with this result (called), about 1 has'),
    (0.2, 'Of 1,000 women with this result (called), fewer than 1 has'),
  ],
)
def test_frequencies_are_sentences(with_cancer, begin):
  said = {
    'set': 'screening',
    'called': True,
    'with_cancer': with_cancer,
    'prevalence': 0.005,
  }
  (found,) = shown_answer.frequencies(words.of('en'), said)
  assert found.startswith(begin)
  assert '0.5\xa0% of all breasts' in found
  unknown = {**said, 'with_cancer': None}
  assert 'too small' in shown_answer.frequencies(words.of('en'), unknown)[0]


@pytest.mark.parametrize(
  'given, address',
  [
    ('/submit?upload=a-b_C', '/submit?upload=a-b_C'),
    ('//evil.example', '/'),
    ('https://evil.example', '/'),
    ('/\\evil.example', '/'),
    ('/a\r\nSet-Cookie: x=y', '/'),
    ('javascript:alert(1)', '/'),
    ('', '/'),
    ('/' + 'a' * 300, '/'),
  ],
)
def test_a_login_leads_nowhere_else(given, address):
  assert page_common.own_address(given) == address


def test_versions_are_told_with_what_they_were_judged_by():
  figure = {
    'old': 0.5,
    'new': 0.75,
    'difference': {'value': 0.25, 'low': 0.125, 'high': None},
  }
  scores = {
    'original': {},
    'submissions': {
      'cancer': {'n': 9, 'positives': 3, 'figures': {'roc_auc': figure}}
    },
    'rule': {'margin': 0.02},
  }
  versions = [{'number': 1, 'scores': {}}, {'number': 2, 'scores': scores}]
  second, first = shown_models.shown(words.of('en'), versions)
  assert (second['number'], first['rows']) == (2, [])
  (row,) = second['rows']
  assert row['cases'] == 'cancer, 3 of 9'
  assert (row['old'], row['new'], row['difference']) == (
    '0.500',
    '0.750',
    '+0.250',
  )
  both = {'value': 0.5, 'low': 0.25, 'high': 0.75}
  assert shown_models.interval(both) == '0.500 (0.250 to 0.750)'


def test_the_interface_is_described_from_its_openapi():
  schema = {
    'paths': {
      '/a/{id}': {
        'post': {
          'summary': 'Do <it>.',
          'parameters': [
            {'name': 'id', 'in': 'path', 'required': True, 'schema': {}}
          ],
          'requestBody': {
            'content': {
              'multipart/form-data': {'schema': {'$ref': '#/components/x'}}
            }
          },
          'responses': {'200': {}, '422': {}},
        }
      }
    },
    'components': {
      'x': {
        'properties': {
          'files': {
            'type': 'array',
            'items': {'type': 'string', 'format': 'binary'},
          },
          'view': {'enum': ['CC', 'MLO']},
        },
        'required': ['files'],
      }
    },
  }
  (one,) = shown_api.operations(schema)
  assert (one['method'], one['path']) == ('POST', '/a/{id}')
  assert str(one['text']) == '<p>Do &lt;it&gt;.</p>'
  assert [(x['name'], x['type'], x['required']) for x in one['fields']] == [
    ('id', '', True),
    ('files', 'list of file', True),
    ('view', 'CC, MLO', False),
  ]
  assert one['answers'] == ['200', '422']
