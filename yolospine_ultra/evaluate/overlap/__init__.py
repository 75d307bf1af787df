"""Findings that overlap: which classes can, how much, and how many overlapping pairs a model finds whole."""
