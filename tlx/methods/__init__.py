"""Transfer-learning methods as plain PyTorch, usable in any training loop."""
