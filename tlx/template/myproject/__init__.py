"""What this project adds to tlx: data, a network, a freeze strategy, a penalty."""
