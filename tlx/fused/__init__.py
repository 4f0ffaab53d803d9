"""Runs that differ in their heads only, trained as one stack; each stays a run of its own."""
