"""Writes tests/models/timm_goldens.json; needs PyTorch and timm.

python tests/make_timm_goldens.py

The test environment has neither: what timm computes from made-up weights is
kept as a few numbers, and its names as a hash.
"""

import hashlib
import json
import pathlib

import numpy as np
import published
import timm
import torch

NAMES = ('legacy_xception', 'convnext_small', 'tf_efficientnetv2_s')
SIZES = ((96, 80), (101, 77))


def golden(name: str) -> dict:
  model = timm.create_model(name, pretrained=False).eval()
  shapes = {key: tuple(x.shape) for key, x in model.state_dict().items()}
  text = published.names_text(shapes)
  found = {
    'timm': timm.__version__,
    'names_sha256': hashlib.sha256(text.encode()).hexdigest(),
    'arrays': len(shapes),
  }
  model.load_state_dict(
    {
      key: torch.from_numpy(np.asarray(published.random_array(key, shape)))
      for key, shape in shapes.items()
    }
  )
  mean, std = (
    np.asarray(model.default_cfg[key], np.float32) for key in ('mean', 'std')
  )
  for size in SIZES:
    x = (published.image(size) - mean) / std
    with torch.no_grad():
      features = model.forward_features(
        torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
      )
      pooled = model.forward_head(features, pre_logits=True)
    for what, value in (
      ('features', features.permute(0, 2, 3, 1)),
      ('pooled', pooled),
    ):
      numbers = published.sampled(value.numpy())
      found[f'{what} {size[0]}x{size[1]}'] = [
        float(f'{x:.8g}') for x in numbers
      ]
  return found


def main() -> None:
  path = pathlib.Path(__file__).parent / 'models' / 'timm_goldens.json'
  found = {name: golden(name) for name in NAMES}
  path.write_text(json.dumps(found).replace('], ', '],\n') + '\n')


if __name__ == '__main__':
  main()
