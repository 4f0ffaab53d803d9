"""Sources of data: their splits, and what becomes of items and targets before a network."""
