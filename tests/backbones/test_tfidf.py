"""TF-IDF: scikit-learn's terms and values, without a dense matrix."""

import random

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from tokenizers import Tokenizer

from tlx.backbones.backbone import Wanted
from tlx.backbones.text.tfidf import tfidf
from tlx.data.text.tokenise import tokenised

WORDS = r"(?u)\w+|[^\w\s]+"
"""What tlx takes for a word, where blanks part words."""


def texts(count, *, seed=0, most=30):
    draw = random.Random(seed)
    names = [f"w{i}" for i in range(40)] + ["Ökonomie", "don't", "naïve", "x,y", "3.5"]
    return [" ".join(draw.choices(names, k=draw.randrange(most))) for _ in range(count)]


def both_ways(backbone, given):
    """Features of texts as the network gives them, and as a sparse matrix."""
    ids = [tokenised([text], backbone.reads).of(0)["input_ids"] for text in given]
    longest = max(map(len, ids))
    padded = torch.stack([torch.nn.functional.pad(each, (0, longest - len(each))) for each in ids])
    mask = torch.arange(longest) < torch.tensor([[len(each)] for each in ids])
    dense = backbone.module({"input_ids": padded, "attention_mask": mask}).numpy()
    return dense, backbone.sparse([{"input_ids": each} for each in ids])


@pytest.mark.parametrize("bigrams", [True, False])
@pytest.mark.parametrize("sublinear", [True, False])
def test_terms_and_values_are_sklearns(bigrams, sublinear):
    train, new = texts(60), [*texts(30, seed=1), "", "unseen, words", "w1 unseen w2"]
    backbone = tfidf(
        Wanted(corpus=lambda: train), features=5000, bigrams=bigrams, sublinear=sublinear
    )
    reference = TfidfVectorizer(
        token_pattern=WORDS, ngram_range=(1, 1 + bigrams), sublinear_tf=sublinear
    ).fit(train)
    tokenizer = Tokenizer.from_str(backbone.reads.tokenizer)
    size = backbone.module.words

    def name(code):
        pair = [code] if code < size else [code // size - 1, code % size]
        return " ".join(tokenizer.id_to_token(word) for word in pair)

    codes = backbone.module.terms_F[backbone.module.idf_F > 0]
    named = [name(code) for code in codes.tolist()]
    assert sorted(named) == sorted(reference.vocabulary_)
    order = [reference.vocabulary_[term] for term in named]
    expected = reference.transform(new).toarray()[:, order]
    dense, sparse = both_ways(backbone, new)
    assert isinstance(sparse, csr_array)
    assert sparse.nnz == np.count_nonzero(expected)
    for found in (dense, sparse.toarray()):
        np.testing.assert_allclose(found[:, : len(order)], expected, rtol=1e-5, atol=1e-7)
        assert not found[:, len(order) :].any()


def test_the_most_frequent_terms_are_kept():
    train = texts(60)
    counted = CountVectorizer(token_pattern=WORDS, ngram_range=(1, 2)).fit_transform(train)
    totals = np.sort(counted.sum(axis=0).A1)[::-1]
    most = next(k for k in range(20, 100) if totals[k - 1] > totals[k])  # no tie at the cut
    backbone = tfidf(Wanted(corpus=lambda: train), features=most)
    reference = TfidfVectorizer(token_pattern=WORDS, ngram_range=(1, 2), max_features=most)
    expected = np.sort(reference.fit(train).idf_)
    np.testing.assert_allclose(np.sort(backbone.module.idf_F), expected, rtol=1e-6)


def test_chinese_and_japanese_are_characters_and_their_pairs():
    """As scikit-learn's analyzer of characters has them."""
    train = ["我们在北京大学学习", "東京タワーに行く", "北京的天气很好", "コーヒーを飲む人々", "好"]
    backbone = tfidf(Wanted(corpus=lambda: train), features=500)
    reference = TfidfVectorizer(analyzer="char", ngram_range=(1, 2)).fit(train)
    kept = int((backbone.module.idf_F > 0).sum())
    assert kept == len(reference.vocabulary_)
    given = ["北京很好", "大学生的コーヒー"]
    dense, sparse = both_ways(backbone, given)
    expected = np.sort(reference.transform(given).toarray(), axis=1)
    for found in (dense, sparse.toarray()):
        np.testing.assert_allclose(np.sort(found, axis=1)[:, -kept:], expected, atol=1e-6)


def test_counts_of_parts_add_up(monkeypatch):
    """However few tokens are counted together."""
    train = texts(60)
    whole = tfidf(Wanted(corpus=lambda: train), features=200)
    monkeypatch.setattr("tlx.backbones.text.terms.AT_ONCE", 7)
    parts = tfidf(Wanted(corpus=lambda: train), features=200)
    assert torch.equal(whole.module.terms_F, parts.module.terms_F)
    assert torch.equal(whole.module.idf_F, parts.module.idf_F)
    given = [{"input_ids": torch.tensor(ids).long()} for ids in ([7, 8, 9], [], [9, 9])]
    one, other = whole.sparse(given), parts.sparse(given)
    assert (one != other).nnz == 0
