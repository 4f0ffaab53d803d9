"""The standard library of the running Python as texts, which need no download."""
