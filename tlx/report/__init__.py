"""The report on a study: tables, figures, one page, text for the terminal."""
