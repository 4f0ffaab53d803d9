"""Using a finished run: evaluation on other data, prediction, export."""
