"""Side-by-side ratios against other ways of doing the same work."""
