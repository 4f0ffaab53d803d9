"""Adapters of the peft library, and which layers get them."""
