"""Targets and losses of both stages."""
