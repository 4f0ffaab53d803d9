"""Running: from a config to a Record, resumed, launched, leased."""
