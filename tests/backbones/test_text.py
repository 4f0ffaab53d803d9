"""Pooling and reading at words, against plain loops over items."""

import pytest
import torch
from torch import nn

from tlx.backbones.pooling import Pooling, mean_token
from tlx.backbones.text import network as text


@pytest.fixture(params=["right", "left"])
def padded(request):
    """Hidden states, their mask, and the items without padding; padding is not a number."""
    lengths, longest = [4, 1, 6], 6
    hidden = torch.full((3, longest, 5), float("nan"))
    mask = torch.zeros(3, longest, dtype=torch.bool)
    items = []
    for row, length in enumerate(lengths):
        where = slice(0, length) if request.param == "right" else slice(longest - length, longest)
        items.append(torch.randn(length, 5))
        hidden[row, where], mask[row, where] = items[-1], True
    return hidden, mask, items


@pytest.mark.parametrize(
    ("kind", "one"),
    [
        ("cls", lambda item: item[0]),
        ("last", lambda item: item[-1]),
        ("mean", lambda item: item.mean(0)),
        ("concat", lambda item: torch.cat([item[-1], item.amax(0), item.mean(0)])),
    ],
)
def test_pooling_reads_real_tokens_only(padded, kind, one):
    hidden, mask, items = padded
    expected = torch.stack([one(item) for item in items])
    torch.testing.assert_close(Pooling(kind, 5)(hidden, mask), expected)


def test_attention_begins_as_the_mean_and_weighs_by_its_scores(padded):
    hidden, mask, items = padded
    pooling = Pooling("attention", 5)
    hidden = hidden.masked_fill(~mask.unsqueeze(-1), 1e3)
    torch.testing.assert_close(pooling(hidden, mask), mean_token(hidden, mask))
    nn.init.normal_(pooling.score.weight)
    expected = torch.stack([(pooling.score(item).softmax(0) * item).sum(0) for item in items])
    torch.testing.assert_close(pooling(hidden, mask), expected)


def test_words_are_zero_where_cut_off():
    hidden = torch.randn(2, 4, 3)
    found = text.at_words(hidden, torch.tensor([[0, 2, -1], [3, -1, -1]]))
    assert torch.equal(found[0, :2], hidden[0, [0, 2]])
    assert torch.equal(found[1, 0], hidden[1, 3])
    assert not found[0, 2].any()
    assert not found[1, 1:].any()


def test_unknown_unit_and_pooling_are_refused():
    with pytest.raises(ValueError, match="give one of pooled"):
        text.TextNetwork(nn.Identity(), lambda *_: (torch.zeros(1), None), unit="line")
    with pytest.raises(ValueError, match="attention"):
        Pooling("max", 3)
    bare = text.TextNetwork(nn.Identity(), lambda *_: (torch.zeros(1, 1, 1), None), unit="pooled")
    with pytest.raises(ValueError, match="choose a pooling"):
        bare({})
