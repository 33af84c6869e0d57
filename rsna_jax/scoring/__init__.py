"""From files of predictions and labels to everything that metrics.json says."""
