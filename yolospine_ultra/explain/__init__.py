"""Why a detector found what it found: class activation maps of single findings, and how far each map can be trusted."""
