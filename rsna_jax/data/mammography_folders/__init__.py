"""TFDS builder of mammograms in folders named by density and label."""
