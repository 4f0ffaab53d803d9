"""Kneser-Ney against a slow reading of the equations, and as a distribution."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tlx.methods.ngrams import START, fit

TEXTS = st.lists(st.lists(st.integers(0, 5), max_size=25), min_size=1, max_size=3).filter(any)


class Slow:
    """The equations of Chen and Goodman, each sum written out over all that it runs over."""

    def __init__(self, texts, order, vocabulary, kinds):
        self.order, self.vocabulary, self.kinds = order, vocabulary, kinds
        self.padded = [[START] * (order - 1) + list(text) for text in texts]
        self.memory = {}

    def occurrences(self, length):
        """Every n-gram that ends in a real token, with what stands before it, where it stands."""
        for text in self.padded:
            for end in range(self.order, len(text) + 1):
                before = text[end - length - 1] if end > length else None
                yield tuple(text[end - length : end]), before

    def counts(self, length):
        if length not in self.memory:
            grams = list(self.occurrences(length))
            raw = Counter(gram for gram, _ in grams)
            left = {gram: {b for g, b in set(grams) if g == gram} for gram in raw}
            top = length == self.order
            self.memory[length] = {
                gram: raw[gram] if top or gram[0] == START else len(left[gram]) for gram in raw
            }
        return self.memory[length]

    def discount(self, length, count):
        n = [sum(c == i for c in self.counts(length).values()) for i in range(5)]
        y = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
        if self.kinds == 1 or not (n[1] and n[2] and n[3]):
            return y
        i = min(count, 3)
        found = i - (i + 1) * y * n[i + 1] / n[i]
        return min(found, i) if found > 0 else y

    def probability(self, token, context):
        if context is None:
            return 1 / self.vocabulary
        length = len(context) + 1
        lower = self.probability(token, context[1:] if context else None)
        followed = {g: c for g, c in self.counts(length).items() if g[:-1] == context}
        if not followed:
            return lower
        total = sum(followed.values())
        gamma = sum(self.discount(length, c) for c in followed.values()) / total
        count = followed.get((*context, token), 0)
        own = max(count - self.discount(length, count), 0) / total if count else 0
        return own + gamma * lower


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 4), st.sampled_from([1, 3]), st.data())
def test_probabilities_are_those_of_the_equations(texts, order, kinds, data):
    model, slow = (
        fit(texts, order=order, vocabulary=7, discounts=kinds),
        Slow(texts, order, 7, kinds),
    )
    for _ in range(4):
        context = data.draw(st.lists(st.integers(0, 6), min_size=order - 1, max_size=order - 1))
        expected = [slow.probability(token, tuple(context)) for token in range(7)]
        torch.testing.assert_close(
            model.distribution(context), torch.tensor(expected, dtype=torch.float64)
        )


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 7), st.sampled_from([1, 3]), st.data())
def test_every_context_gives_a_distribution(texts, order, kinds, data):
    model = fit(texts, order=order, vocabulary=9, discounts=kinds)
    contexts = [context for level in model.levels for context in level.contexts]
    contexts += [tuple(data.draw(st.lists(st.integers(0, 8), max_size=8)))]
    for context in contexts:
        shares = model.distribution(context)
        assert shares.sum().item() == pytest.approx(1, abs=1e-9)
        assert (shares > 0).all()  # three of the tokens were never seen


def test_a_discount_of_nothing_is_not_taken():
    """What hypothesis found: every count of one token was 3 or more, and its discount 0."""
    model = fit([[0, 0, 0], [0, 1, 0, 0, 0, 0]], order=3, vocabulary=9)
    for level in model.levels:
        assert min(level.discounts) > 0
        for context in level.contexts:
            assert (model.distribution(context) > 0).all()


def test_all_three_discounts_are_in_use():
    """On a text that is long enough for their equations to hold."""
    generator = torch.Generator().manual_seed(0)
    weights = 1 / torch.arange(1.0, 201)
    text = torch.multinomial(weights, 4000, replacement=True, generator=generator).tolist()
    model, slow = fit([text], order=2, vocabulary=200), Slow([text], 2, 200, 3)
    one, two, three = model.levels[1].discounts
    assert 0 < one < two < three < 3
    assert [slow.discount(2, i) for i in (1, 2, 5)] == pytest.approx([one, two, three])
    for context in (0, 7, 150):
        expected = [slow.probability(t, (context,)) for t in (0, 3, 199)]
        assert [model.probability(t, [context]) for t in (0, 3, 199)] == pytest.approx(expected)


def test_bits_are_those_of_the_whole_text():
    texts = [[0, 1, 2, 0, 1, 3], [3, 3, 0, 1]]
    model = fit(texts, order=3, vocabulary=4)
    probability = 1.0
    context = [START, START]
    for token in texts[1]:
        probability *= model.probability(token, context)
        context.append(token)
    assert model.bits(texts[1]).sum().item() == pytest.approx(-math.log2(probability))
    assert len(model.bits([])) == 0


def test_longer_contexts_help_where_they_tell():
    text = [0, 1, 2, 3, 0, 2, 1, 4] * 60
    bits = [fit([text], order=n, vocabulary=5).bits(text).mean().item() for n in (1, 2, 3)]
    assert bits[0] > bits[1] > bits[2]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([[0]], {"order": 0}, "1 to 12"),
        ([[0]], {"order": 13}, "1 to 12"),
        ([[0]], {"discounts": 2}, "give 3"),
        ([[0]], {"vocabulary": 0}, "1 or more"),
        ([[0, 9]], {}, "must lie in"),
        ([[0, -1]], {}, "must lie in"),
        ([[]], {}, "no token"),
    ],
)
def test_wrong_arguments_are_refused(texts, options, message):
    with pytest.raises(ValueError, match=message):
        fit(texts, **{"order": 2, "vocabulary": 5, **options})
