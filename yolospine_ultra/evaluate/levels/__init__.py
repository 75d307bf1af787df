"""The disc level of a finding, by a numbering along the spine."""
