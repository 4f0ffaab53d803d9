"""Figures per token choose between no vocabularies."""

import pytest

from tlx.config import study, vocabularies

CAUSAL = {
    "task": {"_target_": "tlx.tasks.language_modeling.language_modeling", "objective": "causal"}
}
MASKED = {"task": {**CAUSAL["task"], "objective": "masked"}}
SIZE, LOWER = "backbone.vocabulary_size", "backbone.lowercase"
WORDS = {
    **CAUSAL,
    "backbone": {"_target_": "tlx.backbones.text.lstm.awd_lstm", "vocabulary": "words"},
}
NEW = {"_target_": "tlx.backbones.transformers.text.transformers", "name": "gpt2", "init": "none"}


@pytest.mark.parametrize(
    ("figure", "varied", "config", "message"),
    [
        ("val/perplexity", [SIZE], CAUSAL, "did you mean 'val/bits_per_character'"),
        ("test/loss", ["backbone"], CAUSAL, "did you mean 'test/bits_per_character'"),
        ("val/accuracy", [SIZE, "optimizer.lr"], CAUSAL, "per token"),
        ("val/perplexity", [SIZE], MASKED, "there is no other"),
        ("val/bits_per_character", [LOWER], CAUSAL, "without capitals"),
        ("val/bits_per_character", [SIZE], CAUSAL, None),
        ("test/perplexity", ["dataset.fraction"], WORDS, "vocabularies (dataset.fraction)"),
        ("test/loss", ["dataset.path"], {**CAUSAL, "backbone": NEW}, "per token"),
        ("test/loss", ["dataset.path"], {**CAUSAL, "backbone": {**NEW, "init": "hub"}}, None),
        ("test/bits_per_character", ["dataset.fraction"], WORDS, None),
        ("val/perplexity", ["optimizer.lr"], CAUSAL, None),
        ("wall_s", [SIZE, LOWER], CAUSAL, None),
        ("val/accuracy", [SIZE], {"task": {"_target_": "tlx.tasks.classification.text"}}, None),
    ],
)
def test_a_figure_that_cannot_compare_vocabularies_is_named(figure, varied, config, message):
    found = vocabularies.problem("here", figure, varied=varied, config=config)
    assert (found is None) == (message is None)
    assert message is None or message in str(found)


@pytest.mark.parametrize(
    ("node", "place"),
    [
        ({"arms": {"few": [f"{SIZE}=8"], "many": [f"{SIZE}=9"]}}, "study.metric"),
        ({"arms": {"all": []}, "tune": {SIZE: [8, 9]}}, "monitor"),
        ({"design": "grid", "factors": {SIZE: [8, 9]}}, "study.metric"),
    ],
)
def test_studies_do_not_compare_vocabularies_by_perplexity(node, place):
    config = {**CAUSAL, "backbone": {"vocabulary_size": 5}, "study": {"seeds": [0], **node}}
    metrics = {"perplexity": "min", "bits_per_character": "min"}
    assert [p.place for p in study.check(config, metrics) if "per token" in p.message] == [place]
    config["monitor"] = "val/bits_per_character"
    assert not [p for p in study.check(config, metrics) if "per token" in p.message]
