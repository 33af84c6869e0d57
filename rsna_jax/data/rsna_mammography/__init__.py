"""TFDS builder of the RSNA screening mammography data set."""
