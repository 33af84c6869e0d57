"""Figures, intervals and tests over arrays of labels and probabilities."""
