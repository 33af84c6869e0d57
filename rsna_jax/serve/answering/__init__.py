"""The model at work: loaded, asked in batches, and what it says."""
