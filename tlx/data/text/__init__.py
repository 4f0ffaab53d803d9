"""Texts: sources, tokens, windows, augmentation."""

MODALITY = "text"
NOUN = ("a text", "texts")
