"""Screening mammograms from DICOM to a trained and evaluated classifier.

Importing the package imports nothing heavy: `load_model` is looked up on use.
"""

__version__ = '0.1.0'


def __getattr__(name: str):
  if name == 'load_model':
    from rsna_jax import inference

    return inference.load_model
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
