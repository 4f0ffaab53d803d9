"""The cost of words that a vocabulary does not know: a code of their characters.

A language model that says «an unknown word» has not said which. Without the rest, the fewer words a
vocabulary has, the better its text seems to be predicted.

Source: Brown et al. 1992, "An Estimate of an Upper Bound for the Entropy of English", Computational
Linguistics 18(1), where unknown words are spelled; Mielke and Eisner 2019, 1804.08205, section 1.
Here the characters are independent of each other, and their frequencies are counted.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

END = ""
"""Stands for the end of a word among the characters."""
POINTS = 0x110000
"""Code points of Unicode."""


@dataclass(frozen=True)
class Spelling:
    """A code of words by their characters, each with its frequency, and an end.

    Characters that were never counted share the weight of one, evenly over Unicode.

    Attributes:
        counts: character -> how often it occurs in the training texts; of END, how many words.
    """

    counts: Mapping[str, int]

    @cached_property
    def total(self) -> int:
        """All that was counted, and one for what was not."""
        return sum(self.counts.values()) + 1

    def nats(self, word: str) -> float:
        """Minus the natural logarithm of a word's probability, its end included.

        >>> spelling = Spelling({"a": 2, END: 1})
        >>> spelling.nats("a") == math.log(4 / 2) + math.log(4 / 1)
        True
        >>> spelling.nats("b") > spelling.nats("a")
        True
        """
        return self._nats(END) + sum(map(self._nats, word))

    def _nats(self, character: str) -> float:
        count = self.counts.get(character, 0)
        return math.log(self.total / count if count else self.total * POINTS)


def learn(texts: Iterable[str]) -> dict[str, int]:
    """Counts of characters, blanks among them, and of words' ends, for `Spelling`.

    >>> learn(["a ba"])
    {'': 2, ' ': 1, 'a': 2, 'b': 1}
    """
    counts: Counter[str] = Counter({END: 0})
    for text in texts:
        counts.update(text)
        counts[END] += len(text.split())
    return dict(sorted(counts.items()))
