"""Labels from an RSNA train.csv, or from a CSV that says as much as is needed.

The rows are checked by `data.table`, whatever columns the file lacks.
"""

import csv
import io
import os
import re

from rsna_jax import errors, schema
from rsna_jax.data import csv_text
from rsna_jax.data import table as table_lib

_BREAST = re.compile(r'(0|[1-9][0-9]{0,9})_([LR])')


def read(path: str | os.PathLike) -> tuple[table_lib.Table, bool]:
  """Reads an RSNA train.csv, or any CSV with the columns that are needed.

  Args:
    path: of a CSV with cancer; patient_id and laterality, or prediction_id;
      and image_id, unless it has a row a breast. Other columns of train.csv
      make subgroups.

  Returns:
    The table, and whether its rows are images (else breasts, whose image_id is
    made up).

  Raises:
    errors.DataError: names the file, the line, the value and the remedy.
  """
  header, rows, lines = csv_text.read(path)
  if all(name in header for name in schema.TRAIN_COLUMNS):
    return table_lib.read_csv(path, kind='train'), True
  if 'cancer' not in header:
    raise errors.DataError(
      f'{path}: no column cancer: the labels are an RSNA train.csv, or a CSV '
      'with image_id, patient_id, laterality and cancer'
    )
  if 'prediction_id' not in header and not (
    {'patient_id', 'laterality'} <= set(header)
  ):
    raise errors.DataError(
      f'{path}: no column prediction_id, nor patient_id and laterality: say '
      'of which breast each row speaks'
    )
  out = io.StringIO(newline='')
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow([*schema.TRAIN_COLUMNS, 'prediction_id'])
  written = 1
  for number, (row, line) in enumerate(zip(rows, lines, strict=True)):
    if len(row) != len(header):
      raise errors.DataError(
        f'{path}:{line}: {len(row)} fields: give {len(header)}, as the header '
        'has'
      )
    cell = dict(zip(header, row, strict=True))
    if 'prediction_id' in cell:
      breast = _BREAST.fullmatch(cell['prediction_id'].strip())
      if not breast:
        raise errors.DataError(
          f'{path}:{line}: prediction_id={cell["prediction_id"][:40]!a}: write '
          'patient_id and laterality, as in 10008_L'
        )
      cell = {'patient_id': breast[1], 'laterality': breast[2]} | cell
    else:
      cell['prediction_id'] = (
        f'{cell["patient_id"].strip()}_{cell["laterality"].strip()}'
      )
    cell.setdefault('image_id', str(number))
    # Blank lines, which are passed over, keep the number of each line.
    out.write('\n' * (line - written - 1))
    values = [cell.get(x, '') for x in (*schema.TRAIN_COLUMNS, 'prediction_id')]
    writer.writerow(values)
    written = max(line, written + 1) + sum(x.count('\n') for x in values)
  data = out.getvalue().encode()
  table = table_lib.read_csv(path, kind='train', data=data)
  return table, 'image_id' in header
