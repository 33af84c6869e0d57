"""Readers of files of weights, in formats that others wrote."""
