"""Trained networks for the rest of the world."""
