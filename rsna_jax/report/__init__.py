"""The report of an evaluation: curves, and one self-contained page."""
