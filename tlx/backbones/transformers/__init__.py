"""Networks of transformers."""
