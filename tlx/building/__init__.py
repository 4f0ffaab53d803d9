"""From a typed config to objects."""
