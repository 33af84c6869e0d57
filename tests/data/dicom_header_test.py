"""What may be read of a header, and what it says of how pixels are stored."""

import pytest
from pydicom import datadict
from pydicom.dataset import Dataset

from rsna_jax.data import dicom_attributes, dicom_header, functional_groups

# The values of these tests are not what their elements may hold.
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
READ = {*dicom_header.KEYWORDS, *functional_groups.MACROS}


def header(**elements) -> Dataset:
  ds = Dataset()
  for keyword, value in elements.items():
    setattr(ds, keyword, value)
  return ds


def test_every_keyword_is_in_the_dictionary_once():
  assert len(dicom_header.KEYWORDS) == len(set(dicom_header.KEYWORDS))
  assert all(datadict.tag_for_keyword(word) for word in READ)


def test_no_name_date_or_long_text_is_ever_read():
  kinds = {
    datadict.dictionary_VR(datadict.tag_for_keyword(word)) for word in READ
  }
  assert not kinds & {'PN', 'DA', 'DT', 'TM', 'LT', 'ST', 'UT', 'UC', 'UR'}
  texts = {
    word
    for word in READ
    if datadict.dictionary_VR(datadict.tag_for_keyword(word)) in ('LO', 'SH')
  }
  # The one is a number or a pseudonym, the other the name of a window.
  assert texts == {'PatientID', 'WindowCenterWidthExplanation'}


def test_the_encoding_is_plain_values_of_the_header():
  ds = header(
    BitsAllocated=16,
    BitsStored=12,
    HighBit=11,
    SamplesPerPixel=1,
    LossyImageCompression='01',
  )
  assert dicom_header.encoding(ds) == {
    'bits_allocated': 16,
    'bits_stored': 12,
    'high_bit': 11,
    'samples': 1,
    'lossy': True,
  }
  assert dicom_header.encoding(header(LossyImageCompression='x')) == {}
  assert dicom_header.encoding(header(LossyImageCompression='00')) == {
    'lossy': False
  }


@pytest.mark.parametrize(
  'value, found', [('1.5', 1.5), ('0', None), ('-1', None), ('1e9', None)]
)
def test_the_slice_thickness_is_a_plausible_length(value, found):
  attributes = dicom_attributes.attributes(header(SliceThickness=value))
  assert attributes.get('slice_thickness') == found


def test_attributes_of_no_known_kind_stay_behind():
  ds = header(
    PatientAge='61',
    ViewPosition='free text here',
    ImageLaterality='B',
    BreastImplantPresent='MAYBE',
    InstanceNumber='7',
  )
  assert dicom_attributes.attributes(ds) == {'image_id': 7}
