"""Families of detectors, one file each, behind the contract of `benchmark.family`."""
