"""Texts: sources, tokens, windows, augmentation."""
