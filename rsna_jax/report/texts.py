"""What the page and the card say in the same words: use, limits, harm."""

from collections.abc import Mapping

USE = (
  (
    'Meant for',
    'research on classifying screening mammograms, by people who can judge '
    'the figures on this page.',
  ),
  (
    'Answers',
    'a probability for every image and breast. What counts as true is the '
    'label of the data set: cancer of that breast, or its density as one '
    'reader saw it.',
  ),
  (
    'Not meant for',
    'diagnosis, triage, or any decision about a patient; men; women with '
    'symptoms; tomosynthesis, diagnostic and magnified views; photographs of '
    'screens or of film.',
  ),
  (
    'Who reads it',
    'a probability invites trust that it has not earned (automation bias): '
    'nobody should see it before reading the images themselves.',
  ),
)


def limits(metrics: Mapping) -> list[str]:
  """What these figures cannot show, from what was computed.

  Args:
    metrics: the content of metrics.json.
  """
  found = [
    'The figures are of archived examinations of this one data set. Other '
    'hospitals, machines, ages and ethnic groups can give others.',
  ]
  breast = metrics.get('breast') or {}
  prevalence = breast.get('prevalence')
  if prevalence:
    found.append(
      f'{100 * prevalence:.1f} % of the breasts have cancer, against about '
      '0.5 % in screening: average precision, pF1, predictive values, '
      'calibration and thresholds do not carry over.'
    )
  few = sum(x['note'] == 'too few' for x in metrics.get('subgroups') or [])
  if few:
    found.append(
      f'{few} subgroups have too few cases for a figure: nothing is known of '
      'them, which is not the same as no difference.'
    )
  low = [x for x in metrics.get('subgroups') or [] if x.get('warning')]
  if low:
    found.append(
      f'{len(low)} subgroups lie below the whole; see the warnings. So many '
      'are compared that one in forty would by chance.'
    )
  leaks = metrics.get('leaks')
  if not leaks:
    found.append('Leaks between training and these data were not looked for.')
  elif leaks.get('found'):
    found.append(
      'There are signs of leaks, so that the figures may be too good.'
    )
  found += [
    'An image that is no screening mammogram, or a poor one, gets a '
    'probability all the same, if it can be decoded: there is no answer '
    '"cannot tell". Missing columns are inputs of their own.',
    'The label says whether cancer was found, not where; cancers that nobody '
    'found count as healthy.',
    'Intervals tell of chance in the choice of patients, not of chance in the '
    'training, nor of errors in the labels. One without width, as in 1.000 to '
    '1.000, comes of a group without an error (or without a hit): of n cases '
    'the true rate can still be about 3 / n off.',
  ]
  return found


ETHICS = (
  'Unless they were made up, the training images are of real patients, given '
  'for research without names. Do not try to find out who they are; keep to '
  'the terms of the data set.',
  'A missed cancer costs time that a patient may not have, a false alarm costs '
  'fear and biopsies. Both fall unevenly where subgroups differ.',
  'Training on corrections or on new data makes another model: evaluate it '
  'again, and compare it with this one, before anyone looks at its answers.',
)
