"""What runs leave behind: records, and statistics over seeds. Imports nothing else of tlx."""
