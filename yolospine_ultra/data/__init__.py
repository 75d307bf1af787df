"""Datasets: the phantom, checks before training, atomic files."""
