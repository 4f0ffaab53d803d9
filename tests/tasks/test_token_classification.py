"""Token classification against seqeval and torch."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tlx.backbones.backbone import Features
from tlx.base.cells import rows
from tlx.data.splits import Labels
from tlx.methods import entities
from tlx.tasks.token_classification import token_classification
from tlx.training.collect import Collector

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

TAGS = ("O", "B-loc", "I-loc", "B-per", "I-per")
SEQUENCES = st.lists(st.lists(st.sampled_from(range(5)), min_size=1, max_size=8), min_size=1)


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_entities_are_those_of_seqeval(tags):
    found = [(kind, start, end - 1) for kind, start, end in entities.entities(tags)]
    assert found == get_entities(tags)


@given(SEQUENCES, st.randoms(use_true_random=False))
def test_figures_are_those_of_seqeval(target, random):
    predicted = [[random.randrange(5) for _ in row] for row in target]
    task = token_classification(Labels("tags", TAGS))
    found = task.metrics(collected(task, predicted, target))
    names = [[[TAGS[tag] for tag in row] for row in rows] for rows in (target, predicted)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval's, where nothing is predicted
        assert found["f1"] == pytest.approx(f1_score(*names, zero_division=0))
        assert found["precision"] == pytest.approx(precision_score(*names, zero_division=0))
        assert found["recall"] == pytest.approx(recall_score(*names, zero_division=0))
    right = sum(a == b for p, t in zip(predicted, target, strict=True) for a, b in zip(p, t))  # noqa: B905
    assert found["accuracy"] == pytest.approx(right / sum(map(len, target)))


def collected(task, predicted, target):
    """As if each sentence came in a batch of its own."""
    collector = Collector(task)
    for index, (mine, truth) in enumerate(zip(predicted, target, strict=True)):
        batch = batch_of([truth], index=index)
        collector.add(4 * F.one_hot(torch.tensor([mine]), len(TAGS)).float(), batch)
    return collector.finish()


def batch_of(target, *, index=0, cut=()):
    longest = max(map(len, target))
    padded = [row + [-100] * (longest - len(row)) for row in target]
    words = [[-1 if (i, j) in cut else j for j in range(longest)] for i in range(len(target))]
    return {
        "index": torch.arange(index, index + len(target)),
        "input": {"words": torch.tensor(words)},
        "target": torch.tensor(padded),
    }


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_mean_of_losses_is_torchs(smoothing):
    task = token_classification(Labels("tags", TAGS))
    batch = batch_of([[0, 1, 2], [3]])
    logits = torch.randn(2, 3, len(TAGS))
    loss, weight = task.losses(logits, batch, smoothing=smoothing)["loss"]
    expected = F.cross_entropy(
        logits.flatten(0, 1), batch["target"].flatten(), label_smoothing=smoothing
    )
    torch.testing.assert_close((loss * weight).sum() / weight.sum(), expected)
    assert weight.tolist() == [3, 1]
    soft = {**batch, "target": task.targets.soft(batch["target"])}
    torch.testing.assert_close(task.losses(logits, soft, smoothing=smoothing)["loss"][0], loss)


def test_words_outside_entities_weigh_as_torchs_classes_do():
    task = token_classification(Labels("tags", TAGS), outside_weight=0.25)
    batch = batch_of([[0, 1, 2], [3, 0]])
    logits = torch.randn(2, 3, len(TAGS))
    loss, weight = task.losses(logits, batch)["loss"]
    weights = torch.tensor([0.25, 1, 1, 1, 1])
    expected = F.cross_entropy(logits.flatten(0, 1), batch["target"].flatten(), weight=weights)
    torch.testing.assert_close((loss * weight).sum() / weight.sum(), expected)


def test_words_that_were_cut_off_are_outside_and_do_not_train():
    task = token_classification(Labels("tags", TAGS))
    batch = batch_of([[0, 1, 2], [3, 0, 0]], cut={(0, 1), (0, 2)})
    logits = torch.randn(2, 3, len(TAGS), requires_grad=True)
    loss, weight = task.losses(logits, batch)["loss"]
    (loss * weight).sum().backward()
    assert weight.tolist() == [1, 3]
    assert not logits.grad[0, 1:].any()
    assert logits.grad[0, 0].any()
    part = task.collect(logits, batch)
    assert part["predicted"][0, 1:].tolist() == [0, 0]


def test_the_head_gives_logits_for_each_word_and_rows_tell_tags():
    task = token_classification(Labels("tags", TAGS))
    backbone = type("Backbone", (), {"dims": {"tokens": 7}})
    head = task.head(backbone, dropout=0.0)
    assert head(Features(tokens=torch.randn(2, 3, 7))).shape == (2, 3, 5)
    with pytest.raises(ValueError, match="one vector a token"):
        head(Features(pooled=torch.randn(2, 7)))
    found = rows(task.columns(collected(task, [[1, 2], [0]], [[1, 0], [0]])))
    assert found[0] == {"label": "B-loc O", "prediction": "B-loc I-loc"}
    assert found[1] == {"label": "O", "prediction": "O"}


def test_the_report_has_intervals_and_each_kind():
    task = token_classification(Labels("tags", TAGS))
    report = task.report(collected(task, [[1, 2], [0, 3]], [[1, 0], [0, 3]]))
    assert [line["name"] for line in report["per_class"]] == ["loc", "per"]
    assert [line["f1"] for line in report["per_class"]] == [0.0, 1.0]
    assert report["metrics"].keys() == task.directions.keys()
    assert report["metrics"]["f1"]["low"] <= report["metrics"]["f1"]["value"]


def test_intervals_of_what_is_all_right_rest_on_the_sentences_that_speak_for_it():
    task = token_classification(Labels("tags", TAGS))
    target = [[1, 2, 0]] * 20 + [[0, 0, 0]] * 30
    found = task.report(collected(task, target, target))["metrics"]
    assert found["f1"]["value"] == found["accuracy"]["value"] == 1
    for name in ("f1", "precision", "recall", "macro_f1"):
        assert found[name]["low"] == pytest.approx(0.025 ** (1 / 20)), name
    assert found["accuracy"]["low"] == pytest.approx(0.025 ** (1 / 50))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="needs 'tags'"):
        token_classification(Labels("single", ("a", "b")))
    with pytest.raises(ValueError, match="outside_weight=0"):
        token_classification(Labels("tags", TAGS), outside_weight=0.0)
