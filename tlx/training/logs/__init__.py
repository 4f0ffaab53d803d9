"""What is shown and logged of a run while it trains."""
