"""What is frozen: computed once, stored, trained from."""
