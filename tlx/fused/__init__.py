"""Runs that differ in their heads only, trained as one stack; each stays a run of its own."""

from tlx.fused.members import CannotFuse, Given
from tlx.fused.stack import Stack, train_together

__all__ = ["CannotFuse", "Given", "Stack", "train_together"]
