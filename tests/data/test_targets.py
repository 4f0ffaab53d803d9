"""Targets of each kind: from raw to a batch, and what stands in for them."""

import pytest
import torch

from tlx.config.places import options_with
from tlx.data.splits import IGNORED, Labels
from tlx.data.targets import KINDS

NAMES = ("O", "B-x", "c")
RAW = {
    "single": [2, 0],
    "multi": [(1.0, 0.0, 1.0), (0.0, 0.0, 0.0)],
    "real": [(0.5, -1.0, 3.0), (0.0, 1.0, 2.0)],
    "tags": [(1, 2, 0), (2,)],
}
IN_A_BATCH = {**RAW, "tags": [(1, 2, 0), (2, IGNORED, IGNORED)]}
WRONG = {"single": [3, -1, "a"], "multi": [(1.0,)], "real": [(1.0, 2.0)], "tags": [(0, 3)]}


def of(kind):
    return KINDS[kind](Labels(kind, NAMES))


@pytest.mark.parametrize("kind", RAW)
def test_raw_targets_become_those_of_a_batch(kind):
    targets = of(kind)
    batch = targets.collate([targets.encode(raw) for raw in RAW[kind]], None)
    assert batch.tolist() == [list(t) if isinstance(t, tuple) else t for t in IN_A_BATCH[kind]]
    whole = kind in ("single", "tags")
    assert batch.dtype == (torch.int64 if whole else torch.float32)
    soft = targets.soft(batch)
    assert soft.is_floating_point()
    assert torch.equal(targets.soft(soft), soft)
    if whole:
        assert torch.equal(soft.argmax(-1)[batch != IGNORED], batch[batch != IGNORED])
        assert torch.equal(soft.sum(-1), (batch != IGNORED).float())


@pytest.mark.parametrize("kind", RAW)
def test_nothing_is_a_target_and_what_does_not_fit_is_named(kind):
    targets = of(kind)
    nothing = targets.nothing(["two", "words"])
    assert targets.check(nothing) is None
    assert targets.encode(nothing).shape == {"single": (), "tags": (2,)}.get(kind, (3,))
    assert all(isinstance(targets.written(raw), str) for raw in RAW[kind])
    assert [targets.check(raw) for raw in RAW[kind]] == [None, None]
    assert all(
        str(raw) in targets.check(raw) or "values" in targets.check(raw) for raw in WRONG[kind]
    )


@pytest.mark.parametrize("left", [False, True])
def test_labels_of_a_text_stand_where_its_tokens_are(left):
    targets = of("text")
    there = torch.tensor([[True, True, True], [False, True, True] if left else [True, True, False]])
    counts = {"words": 2, "characters": 9, "spelled": 0.5}
    windows = [
        {"labels": torch.tensor([4, 5, 6]), **counts},
        {"labels": torch.tensor([7, 8]), **counts},
    ]
    batch = targets.collate([targets.encode(each) for each in windows], {"attention_mask": there})
    short = [IGNORED, 7, 8] if left else [7, 8, IGNORED]
    assert batch["labels"].tolist() == [[4, 5, 6], short]
    assert batch["spelled"].tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="no labels to predict"):
        targets.nothing("text")


def test_each_kind_has_a_task():
    assert set(RAW) | {"text"} == set(KINDS)
    assert options_with("task", "KIND", "single") == [
        *("audio_classification", "image_classification", "text_classification")
    ]
    assert all(options_with("task", "KIND", kind) for kind in KINDS)
    assert options_with("task", "KIND", "boxes") == []
