"""Weights: files of any kind, read safely and fitted with every key accounted for."""
