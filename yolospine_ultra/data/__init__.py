"""Datasets: from files to training samples, with checks on the way, and files that are never half-written."""
