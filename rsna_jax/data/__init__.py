"""From the bytes of a file to batches: decoding, tables, splits, readers."""
