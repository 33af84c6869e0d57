import csv
import filecmp
import logging
import os
import pathlib

import numpy as np
import pytest

from rsna_jax import errors, schema
from rsna_jax.data import table as table_lib

_DATA = pathlib.Path(
  os.environ.get(
    'RSNA_JAX_DATA', pathlib.Path(__file__).parents[3] / 'shared' / 'data'
  )
)
_TRAIN = ','.join(schema.TRAIN_COLUMNS)
_TEST = ','.join(schema.TEST_COLUMNS)
# Lines 2 to 6 of the file; two breasts of patient 10, one of patient 11.
_ROWS = (
  '2,10,100,L,CC,61,0,0,0,,0,,29,False',
  '2,10,101,L,MLO,61.0,0,0,0,0.0,0,A,29,True',
  '1,10,102,R,CC,,1,1,1,2,1,D,216,False',
  '1,11,2147483648,R,,33.5,1,1,0,0,,B,,False',
  ',11,103,R,LMO,89,1,1,0,0,,C,48,False',
)


def _write(tmp_path, *rows, header=_TRAIN, end='\n', name='train.csv'):
  path = tmp_path / name
  path.write_bytes(end.join((header, *rows, '')).encode())
  return path


def _error(path, **options) -> str:
  with pytest.raises(table_lib.TableError) as caught:
    table_lib.read_csv(path, **options)
  message = str(caught.value)
  assert message.startswith(str(path)) and '\n' not in message
  return message.removeprefix(str(path))


def _equal(a, b) -> bool:
  return all(
    a[name].dtype == b[name].dtype
    and np.array_equal(a[name], b[name], equal_nan=name == 'age')
    for name in schema.COLUMNS
  )


def _real(*parts) -> pathlib.Path:
  path = _DATA.joinpath(*parts)
  if not path.exists():
    pytest.skip(f'{path} is not there; set RSNA_JAX_DATA')
  return path


def test_cells_become_typed_and_missing_ones_stay_missing(tmp_path):
  table = table_lib.read_csv(_write(tmp_path, *_ROWS))
  assert tuple(table.columns) == tuple(schema.COLUMNS)
  for name, dtype in schema.COLUMNS.items():
    assert table[name].dtype == dtype
  expected = {
    'site_id': [2, 2, 1, 1, -1],
    'patient_id': [10, 10, 10, 11, 11],
    'image_id': [100, 101, 102, 2147483648, 103],
    'laterality': ['L', 'L', 'R', 'R', 'R'],
    'view': ['CC', 'MLO', 'CC', '', 'LMO'],
    'cancer': [0, 0, 1, 1, 1],
    'biopsy': [0, 0, 1, 1, 1],
    'invasive': [0, 0, 1, 0, 0],
    'BIRADS': [-1, 0, 2, 0, 0],
    'implant': [0, 0, 1, -1, -1],
    'density': [-1, 1, 4, 2, 3],
    'machine_id': [29, 29, 216, -1, 48],
    'difficult_negative_case': [0, 1, 0, 0, 0],
    'prediction_id': ['10_L', '10_L', '10_R', '11_R', '11_R'],
  }
  for name, values in expected.items():
    assert table[name].tolist() == values, name
  np.testing.assert_array_equal(table['age'], [61, 61, np.nan, 33.5, 89])


def test_a_test_table_keeps_what_it_lacks_missing(tmp_path):
  path = _write(tmp_path, '2,10,1,L,CC,81,0,21,10_L', header=_TEST)
  table = table_lib.read_csv(path)
  assert table['prediction_id'].tolist() == ['10_L']
  for name in set(schema.TRAIN_COLUMNS) - set(schema.TEST_COLUMNS):
    assert table[name].tolist() == [-1]


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r', '\n\n'])
@pytest.mark.parametrize('bom', ['', '\ufeff'])
def test_line_ends_and_byte_order_marks_change_nothing(tmp_path, end, bom):
  plain = table_lib.read_csv(_write(tmp_path, *_ROWS))
  path = _write(tmp_path, *_ROWS, header=bom + _TRAIN, end=end)
  assert _equal(table_lib.read_csv(path), plain)


def test_the_order_of_columns_does_not_matter(tmp_path):
  plain = table_lib.read_csv(_write(tmp_path, *_ROWS))
  lines = [line.split(',')[::-1] for line in (_TRAIN, *_ROWS)]
  header, *rows = [','.join(line) for line in lines]
  assert _equal(
    table_lib.read_csv(_write(tmp_path, *rows, header=header)), plain
  )


@pytest.mark.parametrize(
  ('column', 'value', 'remedy'),
  [
    ('age', 'sixty', 'years from 0 to 120'),
    ('age', '-3', 'years'),
    ('age', 'inf', 'years'),
    ('age', '1e2', 'years'),
    ('age', '121', 'years'),
    ('laterality', 'B', 'choose L, R'),
    ('laterality', '', 'missing'),
    ('view', 'XCC', 'choose CC, MLO'),
    ('patient_id', '../../etc', 'no letters, dots or slashes'),
    ('patient_id', '10/11', 'slashes'),
    ('patient_id', '010', 'leading zeros'),
    ('patient_id', '-1', 'whole number'),
    ('patient_id', 'NaN', 'missing'),
    ('image_id', '', 'missing'),
    ('image_id', '2147483649', 'from 0 to 2147483648'),
    ('image_id', '=1+1', 'whole number'),
    ('image_id', '1_0', 'whole number'),
    ('image_id', '1.5', 'whole number'),
    ('image_id', '\u0661', 'whole number'),
    ('cancer', '2', '0 or 1'),
    ('cancer', 'yes', '0 or 1'),
    ('BIRADS', '7', 'from 0 to 6'),
    ('density', 'E', 'A, B, C, D'),
    ('implant', '0.5', '0 or 1'),
    ('machine_id', '4x', 'whole number'),
    ('difficult_negative_case', 'maybe', 'True, False'),
  ],
)
def test_a_bad_cell_is_named_with_line_column_value_and_remedy(
  tmp_path, column, value, remedy
):
  cells = _ROWS[1].split(',')
  cells[schema.TRAIN_COLUMNS.index(column)] = value
  path = _write(tmp_path, _ROWS[0], ','.join(cells), *_ROWS[2:])
  message = _error(path)
  assert message.startswith(f':3: {column}={value!a}: ')
  assert remedy in message
  bad = []
  table = table_lib.read_csv(path, bad_rows=bad)
  assert table['image_id'].tolist() == [100, 102, 2147483648, 103]
  image_id = value if column == 'image_id' else '101'
  assert bad == [(3, image_id, message.removeprefix(':3: '))]


def test_the_first_bad_row_is_raised_with_the_number_of_others(tmp_path):
  rows = [row.replace(',0,', ',x,') for row in _ROWS]
  message = _error(_write(tmp_path, *rows))
  assert message.startswith(":2: cancer='x'")
  assert message.endswith('(3 more bad rows)')


def test_a_second_row_of_an_image_is_bad(tmp_path):
  # Its label differs as well, which must not drag the first row along.
  again = _ROWS[0].replace('61,0', '61,1')
  path = _write(tmp_path, *_ROWS, again)
  assert _error(path).startswith(':7: image_id=100: stands on line 2')
  bad = []
  assert len(table_lib.read_csv(path, bad_rows=bad)) == len(_ROWS)
  assert [row[:2] for row in bad] == [(7, '100')]


def test_all_rows_of_a_breast_with_two_labels_are_bad(tmp_path):
  third = '1,11,104,R,CC,60,0,0,0,0,0,A,48,False'
  path = _write(tmp_path, *_ROWS, third)
  message = _error(path)
  assert message.startswith(':5: cancer=1: breast 11_R has 0 on line 7')
  assert '1 on line 5' in message
  bad = []
  table = table_lib.read_csv(path, bad_rows=bad)
  assert table['image_id'].tolist() == [100, 101, 102]
  assert [row[0] for row in bad] == [5, 6, 7]


def test_a_row_that_is_bad_itself_contradicts_no_other(tmp_path):
  path = _write(
    tmp_path,
    *_ROWS,
    '1,11,104,R,CC,old,0,0,0,0,0,A,48,False',
    '1,11,104,R,CC,60,1,0,0,0,0,A,48,False',
  )
  bad = []
  table = table_lib.read_csv(path, bad_rows=bad)
  assert [row[:2] for row in bad] == [(7, '104')]
  assert table['image_id'].tolist()[-1] == 104 and len(table) == 6


def test_the_two_breasts_of_a_patient_may_differ_in_label(tmp_path):
  table = table_lib.read_csv(_write(tmp_path, *_ROWS))
  assert table['cancer'][:3].tolist() == [0, 0, 1]


def test_a_missing_label_does_not_contradict(tmp_path):
  path = _write(tmp_path, *_ROWS, '1,11,104,R,CC,60,,,,,0,A,48,')
  table = table_lib.read_csv(path)
  assert table['cancer'].tolist()[-2:] == [1, -1]


@pytest.mark.parametrize(
  'wrong', ['10_R', '11_L', '10-L', '', '10_L' + 'x' * 20]
)
def test_prediction_id_has_to_be_patient_and_laterality(tmp_path, wrong):
  path = _write(tmp_path, f'2,10,1,L,CC,81,0,21,{wrong}', header=_TEST)
  message = _error(path)
  assert message.startswith(':2: prediction_id=') and 'write 10_L' in message


@pytest.mark.parametrize('row', ['2,10,99,L', _ROWS[0] + ',1'])
def test_a_ragged_row_is_bad_and_its_image_is_named(tmp_path, row):
  path = _write(tmp_path, *_ROWS[1:], row)
  fields = row.count(',') + 1
  assert _error(path) == f':6: {fields} fields: give 14, as the header has'
  bad = []
  assert len(table_lib.read_csv(path, bad_rows=bad)) == 4
  assert bad[0][:2] == (6, row.split(',')[2])


@pytest.mark.parametrize('kind', ['train', 'test'])
def test_missing_columns_are_all_named(tmp_path, kind):
  path = _write(tmp_path, '1,2', header='site_id,patient_id')
  message = _error(path, kind=kind)
  wanted = schema.TRAIN_COLUMNS if kind == 'train' else schema.TEST_COLUMNS
  assert message.startswith(': no column ' + ', '.join(wanted[2:]) + ':')
  assert ','.join(wanted) in message


def test_unknown_columns_are_left_out_and_said_once(tmp_path, caplog):
  rows = [row + ',?,3' for row in _ROWS]
  path = _write(tmp_path, *rows, header=_TRAIN + ',note,')
  with caplog.at_level(logging.WARNING, 'rsna_jax'):
    table = table_lib.read_csv(path)
  assert len(caplog.records) == 1
  assert "'note', ''" in caplog.text and str(path) in caplog.text
  assert _equal(table, table_lib.read_csv(_write(tmp_path, *_ROWS)))


def test_labels_in_a_test_table_are_left_out_with_a_word(tmp_path, caplog):
  rows = [f'{row},10_L' for row in _ROWS[:2]]
  path = _write(tmp_path, *rows, header=_TRAIN + ',prediction_id')
  table = table_lib.read_csv(path, kind='test')
  assert table['cancer'].tolist() == [-1, -1]
  assert 'cancer' in caplog.text


@pytest.mark.parametrize(
  ('content', 'remedy'),
  [
    (b'', 'empty'),
    (b' \r\n\n', 'empty'),
    (_TRAIN.encode() + b'\n', 'no rows'),
    (_TRAIN.encode() + b',cancer\n' + _ROWS[0].encode() + b',0\n', 'twice'),
    (f'{_TRAIN}\n{_ROWS[0]}\n\0'.encode(), ':3: a NUL byte'),
    (f'{_TRAIN}\n{_ROWS[0]}\n\u00e4'.encode('latin-1'), ':3: byte 0xe4'),
    (f'{_TRAIN}\n{_ROWS[0]}\n'.encode('utf-16'), 'UTF-8'),
    (f'{_TRAIN}\n"{_ROWS[0]}\n{_ROWS[1]}\n'.encode(), ':2: '),
    (_TRAIN.encode() + b'\n' + b'1' * 20_000, ':2: a line of 20000'),
    (_TRAIN.replace(',', ';').encode() + b'\n1\n', 'separated by commas'),
    (b'\x89PNG\r\n\x1a\n', 'UTF-8'),
  ],
)
def test_what_is_no_table_is_refused_as_a_whole(tmp_path, content, remedy):
  path = tmp_path / 'train.csv'
  path.write_bytes(content)
  assert remedy in _error(path, bad_rows=[])


def test_a_folder_and_a_missing_file_are_named(tmp_path):
  assert 'a folder' in _error(tmp_path)
  assert 'no such file' in _error(tmp_path / 'train.csv')


def test_a_file_too_large_for_a_table_is_not_read(tmp_path):
  path = tmp_path / 'train.csv'
  with path.open('wb') as file:
    file.truncate(2**40)  # sparse: a terabyte that takes no space
  assert f'{2**40} bytes' in _error(path)


def test_a_table_without_a_good_row_is_an_error_even_when_skipping(tmp_path):
  bad = []
  message = _error(_write(tmp_path, '1,2', '3,4'), bad_rows=bad)
  assert message.startswith(':2: 2 fields') and not bad


def test_a_hostile_cell_is_shown_short_and_escaped(tmp_path):
  value = '\x1b[2J\u202e' + 'x' * 5000
  message = _error(_write(tmp_path, _ROWS[0].replace('61', value)))
  assert '\\x1b' in message and '\u202e' not in message and len(message) < 200


def test_errors_are_input_errors(tmp_path):
  with pytest.raises(errors.InputError):
    table_lib.read_csv(tmp_path / 'nothing.csv')


def test_take_chooses_rows_by_index_and_by_mask(tmp_path):
  table = table_lib.read_csv(_write(tmp_path, *_ROWS))
  assert table.take([4, 0])['image_id'].tolist() == [103, 100]
  mask = table['laterality'] == 'R'
  assert table.take(mask)['image_id'].tolist() == [102, 2147483648, 103]
  assert len(table.take([])) == 0 and len(table) == 5


def test_rows_are_dicts_of_plain_values(tmp_path):
  rows = list(table_lib.read_csv(_write(tmp_path, *_ROWS)).rows())
  assert list(rows[0]) == list(schema.COLUMNS)
  assert rows[3]['age'] == 33.5 and rows[3]['image_id'] == 2**31
  assert {type(v) for row in rows for v in row.values()} == {int, float, str}


def test_concatenated_tables_follow_each_other(tmp_path):
  table = table_lib.read_csv(_write(tmp_path, *_ROWS))
  both = table_lib.concatenate([table.take([0, 1]), table.take([2, 3, 4])])
  assert _equal(both, table)


def test_a_table_of_wrong_columns_cannot_be_made():
  with pytest.raises(table_lib.TableError, match='exactly'):
    table_lib.Table({'image_id': np.array([1])})
  with pytest.raises(table_lib.TableError, match='nonsense'):
    table_lib.Table.from_columns({'nonsense': [1]})
  good = table_lib.Table.from_columns({'patient_id': [7], 'laterality': ['L']})
  assert good['prediction_id'].tolist() == ['7_L']
  columns = {**good.columns, 'view': np.array(['CC', 'CC'], '<U8')}
  with pytest.raises(table_lib.TableError, match='view'):
    table_lib.Table(columns)


@pytest.mark.parametrize('kind', ['train', 'test'])
def test_writing_and_reading_returns_the_same_table(tmp_path, kind):
  table = table_lib.read_csv(_write(tmp_path, *_ROWS))
  if kind == 'test':
    columns = {name: table[name] for name in schema.TEST_COLUMNS}
    table = table_lib.Table.from_columns(columns)
  path = tmp_path / 'again.csv'
  table_lib.write_csv(path, table)
  with path.open() as file:
    header = next(csv.reader(file))
  wanted = schema.TRAIN_COLUMNS if kind == 'train' else schema.TEST_COLUMNS
  assert tuple(header) == wanted
  assert _equal(table_lib.read_csv(path), table)


@pytest.mark.parametrize('name', ['train.csv', 'test.csv'])
def test_the_official_files_come_back_byte_for_byte(tmp_path, name):
  source = _real('rsna_csv', name)
  table_lib.write_csv(tmp_path / name, table_lib.read_csv(source))
  assert filecmp.cmp(tmp_path / name, source, shallow=False)


def test_the_official_table_holds_what_is_known_of_it():
  table = table_lib.read_csv(_real('rsna_csv', 'train.csv'))
  assert len(table) == 54_706
  assert len(np.unique(table['patient_id'])) == 11_913
  assert len(np.unique(table['prediction_id'])) == 23_826
  positive = table['cancer'] == 1
  assert positive.sum() == 1_158
  assert len(np.unique(table['prediction_id'][positive])) == 492
  assert len(np.unique(table['patient_id'][positive])) == 486
  assert np.isnan(table['age']).sum() == 37
  assert set(table['site_id'][table['density'] == -1]) == {1, 2}
  assert (table['density'] == -1)[table['site_id'] == 2].all()
  assert (table['BIRADS'] == -1).sum() == 28_420
  assert set(table['site_id'][table['implant'] == 1]) == {1}
  assert len(np.unique(table['machine_id'])) == 10
  assert set(table['view']) == set(schema.VIEWS)


def test_every_real_table_is_read_like_a_plain_dict_reader():
  for parts in (
    ('rsna640', 'train.csv'),
    ('rsna_dicom', 'train.csv'),
    ('rsna_dicom', 'train_with_missing_files.csv'),
    ('rsna_dicom', 'test.csv'),
  ):
    path = _real(*parts)
    table = table_lib.read_csv(path)
    with path.open(newline='') as file:
      rows = list(csv.DictReader(file))
    for name in ('patient_id', 'image_id', 'machine_id', 'site_id', 'implant'):
      assert table[name].tolist() == [int(row[name]) for row in rows]
    for name in ('laterality', 'view'):
      assert table[name].tolist() == [row[name] for row in rows]
