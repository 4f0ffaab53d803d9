"""Of a large grid of cases: what the slow tests run, and what is left to the whole matrix."""

import pytest


def mark(row: int, column: int, *, every: int) -> pytest.MarkDecorator:
    """`slow` on every so many-th diagonal, which meets each row and each column, else `matrix`.

    Args:
        row: place in the grid, from 0.
        column: likewise.
        every: at most the number of rows, and of columns.
    """
    return pytest.mark.matrix if (row + column) % every else pytest.mark.slow
