"""Terms of texts (words, and pairs of neighbours) counted without a dense matrix.

A word's code is its token id; a pair's is `words * (1 + first id) + second id`, above all words'.

Shapes: N texts, T tokens of all of them end to end, F terms.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Whole = NDArray[np.int64]

AT_ONCE = 2**19
"""Tokens that are counted together: some hundred bytes each while it lasts."""


@final
@dataclass(frozen=True)
class Coding:
    """Which tokens are words, and whether neighbours are terms.

    Attributes:
        first: least id that is a word, and no special token.
        words: ids are below it.
        bigrams: whether pairs are terms.
    """

    first: int
    words: int
    bigrams: bool

    def occurrences(self, texts: Sequence[Sequence[int]]) -> tuple[Whole, Whole]:
        """Text and code of each term that occurs, as often as it does."""
        lengths = [len(text) for text in texts]
        ids_T = np.concatenate([np.asarray(text, dtype=np.int64) for text in texts])
        text_T = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
        word_T = ids_T >= self.first
        codes, places = [ids_T[word_T]], [text_T[word_T]]
        if self.bigrams:
            pair = word_T[:-1] & word_T[1:] & (text_T[:-1] == text_T[1:])
            codes.append(self.words * (1 + ids_T[:-1][pair]) + ids_T[1:][pair])
            places.append(text_T[:-1][pair])
        return np.concatenate(places), np.concatenate(codes)


@final
@dataclass(frozen=True)
class TermCounts:
    """How often terms occur.

    Attributes:
        codes: of each term, sorted.
        total: how often it occurs.
        within: in how many texts.
        texts: that were counted.
    """

    codes: Whole
    total: Whole
    within: Whole
    texts: int

    def most_frequent(self, most: int) -> "TermCounts":
        """The terms that occur most often; of equally frequent ones those of the lower code."""
        kept = np.sort(np.lexsort((self.codes, -self.total))[:most])
        return TermCounts(self.codes[kept], self.total[kept], self.within[kept], self.texts)


def count(texts: Iterable[Sequence[int]], coding: Coding) -> TermCounts:
    """Counts of all terms of some texts, given as token ids.

    >>> found = count([[5, 6, 5], [6, 2]], Coding(first=3, words=10, bigrams=False))
    >>> found.codes.tolist(), found.total.tolist(), found.within.tolist(), found.texts
    ([5, 6], [2, 2], [1, 2], 2)
    """
    nothing = np.empty(0, dtype=np.int64)
    merged = TermCounts(nothing, nothing, nothing, 0)
    waiting: list[TermCounts] = []
    for part in _parts(texts):
        waiting.append(_counted(part, coding))
        # merged when there is as much that is new: each code is then sorted a few times at most
        if sum(len(each.codes) for each in waiting) > max(len(merged.codes), AT_ONCE):
            merged, waiting = _sum([merged, *waiting]), []
    return _sum([merged, *waiting])


def matrix(
    texts: Iterable[Sequence[int]], coding: Coding, *, codes_F: Whole, sublinear: bool
) -> csr_array:
    """Counts [N, F] of known terms, float64, indices sorted.

    Args:
        texts: token ids of each.
        coding: how terms are coded.
        codes_F: of the known terms, sorted.
        sublinear: whether a count enters as 1 + its logarithm.
    """
    width = len(codes_F)
    values, columns, lengths = [np.empty(0)], [np.empty(0, dtype=np.int32)], [np.zeros(1, int)]
    for part in _parts(texts):
        rows, codes = coding.occurrences(part)
        places = np.searchsorted(codes_F, codes)
        known = codes_F[np.minimum(places, width - 1)] == codes
        found, counts = np.unique(rows[known] * width + places[known], return_counts=True)
        values.append(1 + np.log(counts) if sublinear else counts.astype(np.float64))
        columns.append((found % width).astype(np.int32))
        lengths.append(np.bincount(found // width, minlength=len(part)))
    ends = np.cumsum(np.concatenate(lengths))
    return csr_array(
        (np.concatenate(values), np.concatenate(columns), ends), shape=(len(ends) - 1, width)
    )


def _parts(texts: Iterable[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Texts, some at a time."""
    part: list[Sequence[int]] = []
    tokens = 0
    for text in texts:
        part.append(text)
        tokens += len(text) + 1
        if tokens >= AT_ONCE:
            yield part
            part, tokens = [], 0
    if part:
        yield part


def _counted(texts: Sequence[Sequence[int]], coding: Coding) -> TermCounts:
    rows, codes = coding.occurrences(texts)
    found, often = np.unique(codes * len(texts) + rows, return_counts=True)
    return _grouped(found // len(texts), often, np.ones_like(often), len(texts))


def _sum(parts: Sequence[TermCounts]) -> TermCounts:
    codes = np.concatenate([part.codes for part in parts])
    order = np.argsort(codes, kind="stable")
    total = np.concatenate([part.total for part in parts])[order]
    within = np.concatenate([part.within for part in parts])[order]
    return _grouped(codes[order], total, within, sum(part.texts for part in parts))


def _grouped(codes: Whole, total: Whole, within: Whole, texts: int) -> TermCounts:
    """Sums over equal codes, which are sorted."""
    if not len(codes):
        return TermCounts(codes, total, within, texts)
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    return TermCounts(
        codes[starts], np.add.reduceat(total, starts), np.add.reduceat(within, starts), texts
    )
