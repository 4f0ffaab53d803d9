"""Vocabularies: the same in every process, complete, kept when they grow."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tlx.backbones.text import vocabulary
from tlx.backbones.weights import files as weights

TEXTS = ["The cat sat; the cat ran.", "Ünïcode — and\ttabs\nin 2 lines!", "so on and so on, 4 5 6"]
PROGRAM = """
import json, sys
from tlx.backbones.text import vocabulary

def learnt():
    texts = [f"word{i % 7} and {i * i} zebras, quickly" for i in range(400)]
    return {k: vocabulary.learn(lambda: texts, kind=k, size=60) for k in vocabulary.KINDS}

if __name__ == "__main__":
    json.dump([learnt() for _ in range(2)], sys.stdout)
"""


@pytest.fixture(scope="module")
def learnt_by_two():
    """Vocabularies of every kind, learnt twice in a fresh process and once in this one."""
    # another order of hash tables than here, even where the environment fixes this process's
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    fresh = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
    ).stdout
    here = {"__name__": "here"}
    exec(PROGRAM, here)
    return [*json.loads(fresh), here["learnt"]()]


@pytest.mark.parametrize("kind", vocabulary.KINDS)
def test_two_processes_learn_the_same(kind, learnt_by_two):
    """Hash tables are ordered differently in each."""
    assert len({learnt[kind] for learnt in learnt_by_two}) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("word", ["a", "ab", "0123456789"])
def test_pieces_are_learnt_in_the_time_of_the_text_however_long_a_word(word):
    """Data that came as base64, say: merging its pieces took a time by its length's square."""
    endless = word * (1_000_000 // len(word))
    expected = vocabulary.learn(lambda: [*TEXTS, "in fact"], kind="wordpiece", size=60)
    given = [*TEXTS, f"in {endless} fact"]
    assert vocabulary.learn(lambda: given, kind="wordpiece", size=60) == expected


@pytest.mark.parametrize("kind", ["words", "identifiers"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我在GPT4東京タワー、に", "我 在 GPT4 東 京 タ ワ ー 、 に"),
        ("ｶﾞﾗｰ か\u3099 葛\U000e0100飾 𠮷野 人々", "ｶﾞ ﾗ ｰ か\u3099 葛\U000e0100 飾 𠮷 野 人 々"),
        ("한국어 สวัสดี Ελλάδα don't 3.5", "한국어 สวัสดี Ελλάδα don ' t 3 . 5"),
    ],
)
def test_scripts_without_blanks_are_parted_into_characters(kind, text, words):
    made = Tokenizer.from_str(vocabulary.learn(lambda: [text], kind=kind, size=100, causal=True))
    assert made.encode(text).tokens == words.split()


@pytest.mark.parametrize("kind", ["words", "whitespace", "characters"])
def test_units_are_counted_as_they_occur(kind):
    made = vocabulary.learn(lambda: TEXTS, kind=kind, size=1000, causal=True)
    tokenizer = Tokenizer.from_str(made)
    pieces = [p for text in TEXTS for p, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    counted = Counter(pieces)
    if kind == "characters":
        assert counted == Counter("".join(TEXTS))
    if kind == "whitespace":
        assert counted == Counter(" ".join(TEXTS).split())
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])[3:]
    assert {word for word, _ in words} == set(counted)
    assert [counted[word] for word, _ in words] == sorted(counted.values(), reverse=True)
    few = Tokenizer.from_str(
        vocabulary.learn(lambda: TEXTS, kind=kind, size=1000, least_count=2, causal=True)
    )
    assert set(few.get_vocab()) == {"[PAD]", "[UNK]", "[EOS]"} | {
        word for word, count in counted.items() if count > 1
    }


@given(st.lists(st.text(alphabet="abc \n\té漢", max_size=12), min_size=1, max_size=4))
def test_characters_come_back(texts):
    made = vocabulary.learn(lambda: texts, kind="characters", size=1000, causal=True)
    tokenizer = Tokenizer.from_str(made)
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_pieces_spell_unknown_words_and_surround_pairs():
    made = vocabulary.learn(lambda: TEXTS, kind="wordpiece", size=200, lowercase=True)
    tokenizer = Tokenizer.from_str(made)
    pair = tokenizer.encode("The cat", "sat RAN")
    assert pair.tokens == ["[CLS]", "the", "cat", "[SEP]", "sat", "ran", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 0, 1, 1, 1]
    spelled = tokenizer.encode("acton", add_special_tokens=False).tokens
    assert "[UNK]" not in spelled
    assert "".join(t.removeprefix("##") for t in spelled) == "acton"
    special = {t["content"] for t in json.loads(made)["added_tokens"]}
    assert special == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    assert vocabulary.size_of(made) == len(tokenizer.get_vocab())


def test_grown_keeps_old_ids_and_adds_the_frequent():
    old = vocabulary.learn(lambda: ["a b b c"], kind="words", size=10, causal=True)
    new = vocabulary.grown(old, ["z y y b x x x q"], size=9, least_count=1)
    before, after = (Tokenizer.from_str(t).get_vocab() for t in (old, new))
    assert {word: after[word] for word in before} == before
    assert sorted(after.keys() - before.keys()) == ["q", "x", "y"]
    assert after["x"] == len(before) < after["y"] < after["q"]
    with pytest.raises(ValueError, match="spells"):
        vocabulary.grown(vocabulary.learn(lambda: ["a"], kind="wordpiece", size=9), [], size=9)


def test_special_ids_are_the_configs_else_by_name():
    made = vocabulary.learn(lambda: TEXTS, kind="words", size=50)
    assert vocabulary.special_ids(made, {}) == vocabulary.Ids(pad=0, mask=4, eos=3, unknown=1)
    stated = vocabulary.special_ids(made, {"pad_token_id": 7, "eos_token_id": [9, 8]})
    assert (stated.pad, stated.eos) == (7, 9)
    beyond = vocabulary.special_ids(made, {"pad_token_id": 10**6})
    assert beyond.pad == 0


def test_the_vocabulary_of_a_run_is_read_from_its_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    facts = {"input_spec": {"kind": "text", "tokenizer": "{}"}}
    weights.write({"w": torch.zeros(1)}, path, metadata={"tlx": json.dumps(facts)})
    assert vocabulary.of_run(path) == "{}"
    weights.write({"w": torch.zeros(1)}, path, metadata={"format": "pt"})
    assert vocabulary.of_run(path) is None
    path.write_bytes(b"broken")
    assert vocabulary.of_run(path) is None
    assert vocabulary.of_run(tmp_path / "other.pth") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "words", "size": 5}, "special tokens"),
        ({"kind": "wordz", "size": 50}, "give one of wordpiece"),
        ({"kind": "words", "size": 50, "least_count": 0}, "1 or more"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        vocabulary.learn(lambda: TEXTS, **options)


@pytest.mark.parametrize("lowercase", [False, True])
def test_identifiers_are_taken_apart_at_underscores_and_capitals(lowercase):
    texts = ["call read_file, readFile or _ReadFile2x(HTTPServer) straßeÉcole"]
    made = vocabulary.learn(
        lambda: texts, kind="identifiers", size=100, lowercase=lowercase, causal=True
    )
    found = Tokenizer.from_str(made).encode(texts[0]).tokens
    want = "call read file , read File or Read File2x ( HTTPServer ) straße École"
    assert " ".join(found) == (want.lower() if lowercase else want)
