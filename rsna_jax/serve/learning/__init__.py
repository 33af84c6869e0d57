"""Retraining on accepted submissions: frozen, learned, judged, promoted."""
