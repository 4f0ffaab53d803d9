"""Composing, checking and naming configs; nothing here imports torch."""
