"""What is frozen is computed once: training from stored activations."""
