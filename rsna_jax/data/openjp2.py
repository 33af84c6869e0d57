"""Reads JPEG 2000 at reduced resolution or in part, from memory.

pylibjpeg-openjpeg, which the project needs anyway, contains the whole OpenJPEG
library and exports it, but its Python side decodes in full alone. Called
through ctypes, the same library gives levels and areas, tells its warnings, and
lets other threads run meanwhile.
"""

import ctypes
import functools
import importlib.util

import numpy as np

_CODESTREAM = 0  # OPJ_CODEC_J2K
# Of an unknown marker, that a decoder has to skip, OpenJPEG warns as well.
_HARMLESS = b'Unknown marker'
# Small: what is longer, as a tile is, goes past the buffer.
_BUFFER_BYTES = 1 << 14
_PARAMETERS_BYTES = 16384  # more than sizeof(opj_dparameters_t), about 8.2 KB

_uint = ctypes.c_uint32
_pointer = ctypes.c_void_p
_Read = ctypes.CFUNCTYPE(ctypes.c_size_t, _pointer, ctypes.c_size_t, _pointer)
_Skip = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, _pointer)
_Seek = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, _pointer)
_Message = ctypes.CFUNCTYPE(None, ctypes.c_char_p, _pointer)


class OpenJpegError(ValueError):
  """OpenJPEG refused a codestream, or warned of it."""


class _Component(ctypes.Structure):
  """The head of opj_image_comp_t."""

  _fields_ = (
    *((name, _uint) for name in ('dx', 'dy', 'width', 'height', 'x0', 'y0')),
    *((name, _uint) for name in ('precision', 'bpp', 'signed')),
    *((name, _uint) for name in ('resolutions', 'factor')),
    ('data', ctypes.POINTER(ctypes.c_int32)),
  )


class _Image(ctypes.Structure):
  """The head of opj_image_t."""

  _fields_ = (
    *((name, _uint) for name in ('x0', 'y0', 'x1', 'y1', 'components')),
    ('colour_space', ctypes.c_int),
    ('component', ctypes.POINTER(_Component)),
  )


_image = ctypes.POINTER(_Image)
_FUNCTIONS = {
  'opj_version': (ctypes.c_char_p,),
  'opj_create_decompress': (_pointer, ctypes.c_int),
  'opj_destroy_codec': (None, _pointer),
  'opj_set_default_decoder_parameters': (None, _pointer),
  'opj_setup_decoder': (ctypes.c_int, _pointer, _pointer),
  'opj_set_error_handler': (ctypes.c_int, _pointer, _Message, _pointer),
  'opj_set_warning_handler': (ctypes.c_int, _pointer, _Message, _pointer),
  'opj_stream_create': (_pointer, ctypes.c_size_t, ctypes.c_int),
  'opj_stream_destroy': (None, _pointer),
  'opj_stream_set_read_function': (None, _pointer, _Read),
  'opj_stream_set_skip_function': (None, _pointer, _Skip),
  'opj_stream_set_seek_function': (None, _pointer, _Seek),
  'opj_stream_set_user_data_length': (None, _pointer, ctypes.c_uint64),
  'opj_read_header': (
    ctypes.c_int,
    _pointer,
    _pointer,
    ctypes.POINTER(_image),
  ),
  'opj_set_decoded_resolution_factor': (ctypes.c_int, _pointer, _uint),
  'opj_set_decode_area': (
    ctypes.c_int,
    _pointer,
    _image,
    *[ctypes.c_int32] * 4,
  ),
  'opj_decode': (ctypes.c_int, _pointer, _pointer, _image),
  'opj_image_destroy': (None, _image),
}


@functools.cache
def library() -> ctypes.CDLL | None:
  """The OpenJPEG of pylibjpeg-openjpeg; None if it is hidden in there."""
  found = importlib.util.find_spec('_openjpeg')
  if found is None or not found.origin:
    return None
  try:
    lib = ctypes.CDLL(found.origin)
    for name, (result, *arguments) in _FUNCTIONS.items():
      function = getattr(lib, name)
      function.restype = result
      function.argtypes = arguments
  except (OSError, AttributeError):
    return None
  return lib


def decode(
  stream: bytes | memoryview,
  level: int = 0,
  box: tuple[int, int, int, int] | None = None,
  dtype: np.dtype = np.dtype(np.int32),
) -> np.ndarray:
  """Decodes the first component of a codestream, or a part of it.

  Args:
    stream: from SOC to EOC, its image at the origin of the reference grid.
    level: the result is 1 / 2 ** level of the image; at most as many as the
      codestream has.
    box: top, left, bottom, right in samples of the level; None: all of it.
    dtype: of the result.

  Returns:
    (rows, cols) of `dtype`, clipped to the precision of the codestream.

  Raises:
    OpenJpegError: damaged, cut short, or no such level.
  """
  lib = library()
  messages: list[bytes] = []
  note = _Message(lambda text, _: messages.append(text or b''))
  callbacks, source = _source(np.frombuffer(stream, np.uint8))
  opened = lib.opj_stream_create(_BUFFER_BYTES, 1)
  codec = lib.opj_create_decompress(_CODESTREAM)
  image = _image()
  try:
    lib.opj_set_error_handler(codec, note, None)
    lib.opj_set_warning_handler(codec, note, None)
    lib.opj_stream_set_read_function(opened, callbacks[0])
    lib.opj_stream_set_skip_function(opened, callbacks[1])
    lib.opj_stream_set_seek_function(opened, callbacks[2])
    lib.opj_stream_set_user_data_length(opened, len(stream))
    parameters = ctypes.create_string_buffer(_PARAMETERS_BYTES)
    lib.opj_set_default_decoder_parameters(parameters)
    top, left, bottom, right = (edge << level for edge in box or (0, 0, 0, 0))
    done = (
      lib.opj_setup_decoder(codec, parameters)
      and lib.opj_read_header(opened, codec, ctypes.byref(image))
      and lib.opj_set_decoded_resolution_factor(codec, level)
      and lib.opj_set_decode_area(
        codec,
        image,
        left,
        top,
        min(right, image.contents.x1),
        min(bottom, image.contents.y1),
      )
      and lib.opj_decode(codec, opened, image)
    )
    serious = [m for m in messages if not m.startswith(_HARMLESS)]
    if not done or serious:
      text = serious[0].decode('ascii', 'replace') if serious else 'refused'
      raise OpenJpegError(' '.join(text.split())[:120])
    component = image.contents.component[0]
    if not component.data:
      raise OpenJpegError('no pixels')
    shape = component.height, component.width
    return np.ctypeslib.as_array(component.data, shape).astype(dtype)
  finally:
    if image:
      lib.opj_image_destroy(image)
    lib.opj_destroy_codec(codec)
    lib.opj_stream_destroy(opened)
    del source


def _source(stream: np.ndarray):
  """Callbacks that read from memory, and what has to outlive them."""
  size, position = len(stream), 0
  start = stream.ctypes.data

  def read(target: int, wanted: int, _) -> int:
    nonlocal position
    count = min(wanted, size - position)
    if count <= 0:
      return ctypes.c_size_t(-1).value
    ctypes.memmove(target, start + position, count)
    position += count
    return count

  def skip(count: int, _) -> int:
    nonlocal position
    count = max(-position, min(count, size - position))
    position += count
    return count

  def seek(to: int, _) -> int:
    nonlocal position
    if not 0 <= to <= size:
      return 0
    position = to
    return 1

  return (_Read(read), _Skip(skip), _Seek(seek)), stream
