import json
import re

import pytest
import report_example as example

from rsna_jax.report import checklist, html


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """checklist.json and the ids of a page."""
  folder = tmp_path_factory.mktemp('checklist')
  html.write_report(folder / 'report.html', **example.evaluation())
  text = (folder / 'report.html').read_text(encoding='utf-8')
  answers = json.loads((folder / 'checklist.json').read_text(encoding='utf-8'))
  return answers, set(re.findall(r'id="([^"]+)"', text)), text


def test_every_item_is_answered_and_every_pointer_exists(written):
  answers, ids, text = written
  for one in answers:
    assert sum(one['counts'].values()) == len(one['items'])
    for item in one['items']:
      assert item['answer'] in checklist.KINDS
      assert item['asks']
      assert item['text']
      assert (item['section'] is not None) == (item['answer'] == 'report')
      if item['section']:
        assert item['section'] in ids
        assert f'href="#{item["section"]}"' in text


def test_the_lists_have_the_items_of_their_publishers():
  claim, tripod, stard = checklist.lists()

  def numbers(one):
    return [re.match(r'\d+|AI\d+', x['id'])[0] for x in one['items']]

  assert numbers(claim) == [str(i) for i in range(1, 45)]
  assert set(numbers(tripod)) == {str(i) for i in range(1, 28)}
  assert len(tripod['items']) == 52
  assert {x for x in numbers(stard) if x.isdecimal()} == {
    str(i) for i in range(1, 31)
  }
  assert sum(x.startswith('AI') for x in numbers(stard)) == 15
  for one in (claim, tripod, stard):
    ids = [x['id'] for x in one['items']]
    assert len(ids) == len(set(ids))


def test_config_answers_name_fields_that_a_config_has():
  from rsna_jax import config
  from rsna_jax.report import tables

  known = dict(tables.flat(config.default().to_dict()))
  for one in checklist.lists():
    for item in one['items']:
      assert set(item.get('fields', ())) <= set(known)
      if item['answer'] == 'report':
        assert item['section'] in html.SECTIONS


def test_what_a_run_did_not_compute_is_left_to_the_authors_by_name():
  answers = checklist.answer({'use': 'Use'}, {})
  claim = {x['id']: x for x in answers[0]['items']}
  assert claim['3']['answer'] == 'report'
  assert claim['39']['answer'] == 'authors'
  assert 'did not compute' in claim['39']['text']
  assert claim['22']['answer'] == 'authors'
  assert claim['34']['answer'] == 'not applicable'
  wanted = {'use': 'Use', 'leaks': 'Leak checks'}
  assert checklist.missing({'use'}, list(wanted), wanted) == ['Leak checks']


def test_config_answers_carry_the_values_of_the_run(written):
  answers, _, _ = written
  claim = {x['id']: x for x in answers[0]['items']}
  assert claim['9']['answer'] == 'config'
  assert 'data.size = 64, 32' in claim['9']['text']
