"""A48: tables that somebody else has made are refused with the line."""

import time

import pytest
import serve_hostile as hostile

from rsna_jax import schema
from rsna_jax.data import table

SECONDS = 20
_ROW = '2,10,100,L,CC,61,0,0,0,,0,,29,False'
TABLES = {
  'path for a patient': _ROW.replace('10,', '../../etc,', 1),
  'formula for a patient': _ROW.replace('10,', '=cmd|x,', 1),
  'nan for an image': _ROW.replace('100', 'nan'),
  'infinite image': _ROW.replace('100', '1e999'),
  'image of 10^5 digits': _ROW.replace('100', '9' * 100_000),
  'script for a view': _ROW.replace('CC', '<script>'),
  'density 5': _ROW.replace(',,29', ',5,29'),
  'cancer 2': _ROW.replace('61,0', '61,2'),
  'cancer maybe': _ROW.replace('61,0', '61,maybe'),
  'age of 10^9': _ROW.replace('61', '1000000000'),
  'SQL for a side': _ROW.replace(',L,', ",L' OR 1=1,"),
  'a cell of 10 MB': _ROW.replace('CC', 'x' * 10_000_000),
  'ragged': _ROW + ',1,2,3',
  'twice the same image': f'{_ROW}\n{_ROW}',
  'zero bytes': _ROW.replace('CC', 'C\0C'),
  'an open quote': _ROW.replace('CC', '"CC'),
  'a quote of 10 MB': '"' + 'x\n' * 5_000_000,
  '10^5 columns': ',' * 100_000,
}


@pytest.mark.parametrize('name', TABLES)
def test_a_hostile_table_is_refused_with_its_line(name, tmp_path):
  path = tmp_path / 'train.csv'
  header = ','.join(schema.TRAIN_COLUMNS)
  path.write_text(f'{header}\n{TABLES[name]}\n')
  start = time.monotonic()
  with pytest.raises(table.TableError) as caught:
    table.read_csv(path)
  assert time.monotonic() - start < SECONDS
  message = str(caught.value)
  assert message.startswith(str(path))
  assert '\n' not in message
  assert len(message) < 1000
  hostile.ANSWERS.append(('train.csv', 'A48', 'TableError'))
