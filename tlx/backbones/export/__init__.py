"""Trained networks for the rest of the world."""

LINEAR_HEAD = ("head.linear.weight", "head.linear.bias")
"""Names of a head that is one linear layer."""
