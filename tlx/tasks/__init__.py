"""Tasks: head, loss, metrics and predictions, one file a task."""
