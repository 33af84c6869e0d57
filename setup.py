"""The only metadata of the project; pyproject.toml holds tool settings."""

import pathlib

import setuptools

_HERE = pathlib.Path(__file__).parent
_VERSION = '0.1.0'

_TF = ['tensorflow-cpu>=2.20']
_BEAM = ['apache-beam>=2.70', 'mlcroissant>=1.0', *_TF]
_PLOTS = ['matplotlib>=3.9']
_FAST = ['numba>=0.61']
_SERVE = [
  'alembic>=1.13',
  'argon2-cffi>=23.1',
  'fastapi>=0.115',
  'prometheus-client>=0.20',
  'python-multipart>=0.0.18',
  'sqlalchemy>=2.0.30',
  'uvicorn>=0.30',
]
_WEIGHTS = ['h5py>=3.11']
_POSTGRES = ['pg8000>=1.31']
_TEST = [
  'httpx>=0.27',
  'pytest>=8',
  'pytest-xdist>=3.6',
  'scikit-learn>=1.5',
  'scipy>=1.13',
]

setuptools.setup(
  name='rsna_jax',
  version=_VERSION,
  description=(
    'Screening mammograms from DICOM to a trained, evaluated and explained '
    'breast-cancer classifier, in JAX.'
  ),
  long_description=(_HERE / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['rsna_jax', 'rsna_jax.*']),
  package_data={
    'rsna_jax': ['py.typed', 'report/*.html', 'report/*.json'],
    'rsna_jax.serve.store': ['migrations/*.mako'],
    'rsna_jax.serve.pages': [
      'static/*',
      'templates/*.html',
      'templates/*/*.html',
      'texts/*.json',
    ],
    'rsna_jax.data.rsna_mammography': ['*.md', '*.bib', '*.txt', '*.tsv'],
    'rsna_jax.data.mammography_folders': ['*.md', '*.bib', '*.txt', '*.tsv'],
  },
  install_requires=[
    'absl-py>=2.1',
    'array_record>=0.8',
    'flax>=0.12',
    'fsspec>=2024.6',
    'imagecodecs>=2025.3',
    # A TFDS builder that lives in a folder needs it on every Python, and
    # tensorflow-datasets 4.9 declares it for old ones only.
    'importlib_resources>=6',
    'jax>=0.10',
    'jinja2>=3.1',
    'ml-collections>=1.1',
    'numpy>=2.1',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.12',
    'pillow>=11',
    'pydicom>=3.0.1',
    # pydicom finds the OpenJPEG plug-in only through the base package.
    'pylibjpeg>=2.0',
    'pylibjpeg-openjpeg>=2.4',
    'tensorboardX>=2.6',
    'tensorflow-datasets>=4.9.9',
    'tqdm>=4.66',
  ],
  extras_require={
    'tf': _TF,
    'beam': _BEAM,
    'cloud': ['gcsfs>=2024.6', 's3fs>=2024.6'],
    'plots': _PLOTS,
    'fast': _FAST,
    'serve': _SERVE,
    'postgres': _POSTGRES,
    'weights': _WEIGHTS,
    'interop': ['highdicom>=0.25', 'pynetdicom>=2.1'],
    'test': [*_TEST, *_PLOTS, *_TF, *_FAST, *_SERVE, *_POSTGRES, *_WEIGHTS],
    'dev': [
      *_TEST,
      *_PLOTS,
      *_TF,
      *_FAST,
      *_SERVE,
      *_POSTGRES,
      *_WEIGHTS,
      'ruff>=0.9',
    ],
    'cuda': ['jax[cuda13]>=0.10'],
    'tpu': ['jax[tpu]>=0.10'],
  },
  entry_points={'console_scripts': ['rsna-jax=rsna_jax.cli:main']},
  classifiers=[
    'License :: OSI Approved :: Apache Software License',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Medical Science Apps.',
  ],
)
