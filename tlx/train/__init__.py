"""One run on one rank, from its plan to its record."""
