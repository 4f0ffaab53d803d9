"""What every room may import: files that last, signals, secrets, bounds."""
