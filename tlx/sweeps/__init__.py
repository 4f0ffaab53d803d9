"""Sweeps: from a study to workers; so far, the worker of one run."""
