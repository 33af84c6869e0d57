"""Logistic regression on the metadata alone: what pixels have to beat.

With `model.metadata_embedding` it is a network with one hidden layer.
"""

import jax
import jax.numpy as jnp

from rsna_jax.models import heads


class Meta(heads.Classifier):
  """Looks at no pixel; `width`, `depth`, `pool` and `dropout` do nothing."""

  def setup(self):
    self.logits = heads.Logits(self.targets, self.metadata_embedding)

  def features(self, image: jax.Array, train: bool = False) -> jax.Array:
    """(B, H, W, 1) -> an empty feature map (B, 0, 0, 0)."""
    return jnp.zeros((image.shape[0], 0, 0, 0), jnp.float32)

  def classify(
    self, features: jax.Array, meta: jax.Array, train: bool = False
  ) -> dict[str, jax.Array]:
    """(B, 0, 0, 0) and metadata (B, M) -> {target: (B, K)}."""
    del features, train
    return self.logits(meta[:, :0], meta)
