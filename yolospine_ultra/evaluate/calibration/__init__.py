"""Whether a score means what it says, and temperatures that make it so."""
