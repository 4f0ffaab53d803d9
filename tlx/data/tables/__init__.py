"""Tables: rows of CSV, TSV, JSON and Parquet, and items with labels made of them."""
