"""Texts as splits: divided as images are, tokenised for a backbone, from source to batch."""

import logging

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import texts
from tlx.data.copies import MAX_PAIRS
from tlx.data.draw import Draw
from tlx.data.splits import Labels
from tlx.data.text.lines import text_lines
from tlx.data.text.spec import TextSpec
from tlx.data.text.texts import from_texts, text_key, text_pool


def pool(inputs, targets, name="t"):
    return text_pool([f"{name}{i}" for i in range(len(inputs))], inputs, targets)


def spec(unit="pooled"):
    made = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", 2)]
    )
    return TextSpec(made.to_str(), max_length=32, type_ids=True, unit=unit, unknown_id=1)


@pytest.mark.parametrize(
    ("kind", "names", "one", "target", "plain"),
    [
        ("single", ("a", "b"), "one two", 1, ["one two"]),
        ("single", ("a", "b"), ("one", "two three"), 0, ["one", "two three"]),
        ("multi", ("a", "b"), "one two", (0.0, 1.0), ["one two"]),
        ("real", ("x",), "今天 很好", (0.5,), ["今天 很好"]),
        ("tags", ("O", "B-x", "I-x"), ["one", "two"], (1, 2), ["one two"]),
    ],
)
def test_from_source_to_batch(kind, names, one, target, plain):
    made = from_texts(
        {name: pool([one] * 3, [target] * 3, name) for name in ("train", "val", "test")},
        Labels(kind, names),
        draw=Draw(),
        length_buckets=False,
    )
    assert list(made.inputs.corpus(made.train)) == plain * 3
    ready = texts.fitted(made, spec("word" if kind == "tags" else "pooled"))
    assert not ready.inputs.padding(spec()).buckets
    encode = ready.inputs.encoder(spec(), [], train=True)
    batch = texts.batch_of(ready, ready.train, range(2), encode)
    words = 2 if kind == "tags" else len(" ".join(plain).split())
    ends = 2 if isinstance(one, tuple) else 1
    assert batch["input"]["attention_mask"].sum(1).tolist() == [words + ends] * 2
    assert batch["target"].tolist() == [list(target) if isinstance(target, tuple) else target] * 2


@pytest.mark.parametrize(
    ("kind", "names", "targets", "said"),
    [
        ("single", ("a",), [0, 1], "t1 has label 1"),
        ("single", ("a",), [0, None], "t1 has label None"),
        ("tags", ("O", "B-x"), [(0, 1), (0, 2)], r"t1 has label \(0, 2\)"),
        ("multi", ("a", "b"), [(0.0, 1.0), (1.0,)], "t1 has 1 values for 2 names"),
    ],
)
def test_targets_that_do_not_fit_are_named(kind, names, targets, said):
    with pytest.raises(ValueError, match=said):
        from_texts({"train": pool(["a", "b"], targets)}, Labels(kind, names), draw=Draw())


def test_what_is_evaluated_is_trained():
    pools = {"train": pool(["a", "b"], [0, 1]), "test": pool(["c"], [2])}
    with pytest.raises(ValueError, match="classes without a text in train: 'z'"):
        from_texts(pools, Labels("single", ("x", "y", "z")), draw=Draw(val_fraction=0.5))
    with pytest.raises(ValueError, match="the test split has no texts"):
        from_texts({**pools, "test": pool([], [])}, Labels("single", ("x", "y")), draw=Draw())


def test_many_duplicates_do_not_fill_the_record(caplog):
    pools = {name: pool(["same"] * 200, [None] * 200, name) for name in ("train", "val", "test")}
    with caplog.at_level(logging.WARNING):
        made = from_texts(pools, Labels("text", ()), draw=Draw())
    assert len(made.notes["duplicates"]["val"]) == MAX_PAIRS
    assert "200 texts of train are in val too" in caplog.text
    pools |= {"train": pool(["same", "other"], [None] * 2), "val": pool(["third"], [None], "val")}
    clean = from_texts(pools, Labels("text", ()), draw=Draw(drop_duplicates=True))
    assert clean.train.inputs == ["other"]


def test_keys_tell_texts_apart():
    given = ["a b", ("a", "b"), ("a b", ""), ["a b"], "A b", "a  b", "好", "\ud800"]
    assert len({text_key(text) for text in given}) == len(given)


def test_the_fingerprint_depends_on_texts_and_labels():
    def mark(text="a", target=0, name="t"):
        pools = {split: pool([text, "b"], [target, 1], name) for split in ("train", "val", "test")}
        return from_texts(pools, Labels("single", ("x", "y")), draw=Draw()).fingerprint

    assert mark() == mark()
    assert len({mark(), mark(text="c"), mark(name="u")}) == 3


def test_too_few_texts_to_be_divided_are_refused(tmp_path):
    path = tmp_path / "few.txt"
    path.write_text("one\ntwo\n", encoding="utf-8")
    with pytest.raises(ValueError, match="too few texts: train has none"):
        text_lines(path=str(path))
