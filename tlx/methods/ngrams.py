"""Interpolated Kneser-Ney: what a language model must beat, from counts alone.

Source: Chen and Goodman 1999, "An Empirical Study of Smoothing Techniques for Language Modeling",
Computer Speech & Language 13, section 3; Kneser and Ney 1995.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

MOST_ORDER = 12
START = -1
"""Stands before the first token; predicted by nothing."""
Gram = tuple[int, ...]


@dataclass(frozen=True)
class NgramCounts:
    """The n-grams of one length.

    Attributes:
        counts: n-gram -> how often it occurs; for all but the longest, and those at the start of a
            text: after how many different tokens.
        contexts: all but the last token of an n-gram -> sum of the counts, and the share of
            probability that goes to the shorter context.
        discounts: what is taken from a count of 1, of 2, and of 3 or more.
    """

    counts: Mapping[Gram, int]
    contexts: Mapping[Gram, tuple[int, float]]
    discounts: tuple[float, float, float]


@dataclass(frozen=True)
class NGrams:
    """A fitted model.

    Attributes:
        vocabulary: number of tokens; those never seen share what the seen ones leave.
        levels: n-grams of length 1, 2, …, the model's order.
    """

    vocabulary: int
    levels: tuple[NgramCounts, ...]

    @property
    def order(self) -> int:
        """Tokens of the longest n-gram; a prediction sees one fewer."""
        return len(self.levels)

    def probability(self, token: int, context: Sequence[int]) -> float:
        """Probability of a token after others, in (0, 1]; over the vocabulary they sum to 1.

        Args:
            token: in [0, vocabulary).
            context: tokens before it, START where there is none; the last order - 1 count.
        """
        value = 1 / self.vocabulary
        for length, level in enumerate(self.levels):
            before = tuple(context[len(context) - length :])
            known = level.contexts.get(before) if len(before) == length else None
            if known is None:
                break  # a longer context is as unknown
            total, left = known
            count = level.counts.get((*before, token), 0)
            taken = level.discounts[min(count, 3) - 1] if count else 0
            value = (count - taken) / total + left * value
        return value

    def distribution(self, context: Sequence[int]) -> Tensor:
        """Probabilities [V] of all tokens after a context."""
        values = [self.probability(token, context) for token in range(self.vocabulary)]
        return torch.tensor(values, dtype=torch.float64)

    def bits(self, tokens: Sequence[int]) -> Tensor:
        """Minus the binary logarithm of each token's probability [T], after those before it.

        Args:
            tokens: of one text, from its start.
        """
        padded = _padded(tokens, self.order)
        ahead = self.order - 1
        found = [
            -math.log2(self.probability(padded[i], padded[i - ahead : i]))
            for i in range(ahead, len(padded))
        ]
        return torch.tensor(found, dtype=torch.float64)


def fit(
    texts: Iterable[Sequence[int]], *, order: int, vocabulary: int, discounts: int = 3
) -> NGrams:
    """A model of token ids, words' or characters'.

    Args:
        texts: token ids in [0, vocabulary); each text begins anew.
        order: tokens of the longest n-gram, 1 to 12.
        vocabulary: number of tokens.
        discounts: 3: one for counts of 1, of 2, of 3 and more (modified Kneser-Ney); 1: the same
            for all, n1 / (n1 + 2 n2) (Ney et al. 1994).

    Raises:
        ValueError: an argument is out of range, a token too, or there are no texts.

    Source: Chen and Goodman 1999, section 3, interpolated. Texts are padded with START, whose
    n-grams keep their raw counts, as in KenLM (Heafield et al. 2013), since nothing precedes them.

    >>> model = fit([[0, 1, 0, 1, 0, 2]], order=2, vocabulary=3)
    >>> round(float(model.distribution([0]).sum()), 9)
    1.0
    >>> model.probability(1, [0]) > model.probability(2, [0])
    True
    """
    if not 1 <= order <= MOST_ORDER:
        raise ValueError(f"order={order}; give one of 1 to {MOST_ORDER}")
    if discounts not in (1, 3):
        raise ValueError(f"discounts={discounts}; give 3 (modified Kneser-Ney) or 1")
    if vocabulary < 1:
        raise ValueError(f"vocabulary={vocabulary}; give 1 or more")
    raw: Counter[Gram] = Counter()
    for text in texts:
        if len(text) and (min(text) < 0 or max(text) >= vocabulary):
            raise ValueError(
                f"token ids must lie in [0, {vocabulary}); there is {min(text)} or {max(text)}"
            )
        padded = _padded(text, order)
        raw.update(zip(*(islice(padded, i, None) for i in range(order)), strict=False))
    if not raw:
        raise ValueError("there is no token to count; give at least one text that is not empty")
    levels: list[NgramCounts] = []
    longest: Mapping[Gram, int] = raw
    counts = longest
    for length in range(order, 0, -1):
        levels.append(_level(counts, discounts))
        if length > 1:
            longest, counts = _shorter(longest, counts)
    return NGrams(vocabulary, tuple(reversed(levels)))


def _shorter(
    raw: Mapping[Gram, int], distinct: Mapping[Gram, int]
) -> tuple[dict[Gram, int], dict[Gram, int]]:
    """N-grams that are one token shorter: their raw counts, and those that Kneser-Ney uses."""
    sums: dict[Gram, int] = defaultdict(int)
    for gram, count in raw.items():
        sums[gram[1:]] += count
    after: dict[Gram, int] = dict(Counter(gram[1:] for gram in distinct))
    return dict(sums), {
        gram: sums[gram] if gram[0] == START else count for gram, count in after.items()
    }


def _level(counts: Mapping[Gram, int], kinds: int) -> NgramCounts:
    """Sums, discounts and what they leave to shorter contexts."""
    taken = _discounts(counts, kinds)
    totals: dict[Gram, int] = defaultdict(int)
    left: dict[Gram, float] = defaultdict(float)
    for gram, count in counts.items():
        context = gram[:-1]
        totals[context] += count
        left[context] += taken[min(count, 3) - 1]
    contexts = {context: (total, left[context] / total) for context, total in totals.items()}
    return NgramCounts(counts, contexts, taken)


def _discounts(counts: Mapping[Gram, int], kinds: int) -> tuple[float, float, float]:
    """Discounts of counts of 1, 2, and 3 or more, from how many n-grams occur so often.

    Where an equation cannot be had (no n-gram occurs twice, say) or gives nothing to unseen
    tokens, the discount of the single kind is taken, and one half for that: of few texts, or of
    n-grams so short that all are frequent.
    """
    often = Counter(count for count in counts.values() if count <= 4)
    n1, n2, n3, n4 = (often[i] for i in (1, 2, 3, 4))
    single = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
    if kinds == 1 or not (n1 and n2 and n3):
        return (single, single, single)
    one, two, three = (1 - 2 * single * n2 / n1, 2 - 3 * single * n3 / n2, 3 - 4 * single * n4 / n3)
    return (
        min(one, 1.0) if one > 0 else single,
        min(two, 2.0) if two > 0 else single,
        min(three, 3.0) if three > 0 else single,
    )


def _padded(tokens: Sequence[int], order: int) -> list[int]:
    return [START] * (order - 1) + [int(token) for token in tokens]
