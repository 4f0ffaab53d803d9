"""Texts made ready: tokens, words, windows, masks, padding, files."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import texts
from texts import Few, spec, splits, with_ends
from tlx.backbones.text import vocabulary
from tlx.data.images.spec import ImageSpec
from tlx.data.splits import Labels
from tlx.data.text import inputs as tokens
from tlx.data.text import token_files, tokenise, windows
from tlx.data.text.masking import Masking
from tlx.data.text.spec import TextSpec
from tlx.methods import spelling
from tlx.methods.order import Order

TEXTS = ["the cat sat", "a dog", "the dog and the cat ran away", "今天天气很好"]
SINGLE = Labels("single", ("a", "b"))
TAGS = Labels("tags", ("O", "B-x"))
TEXT = Labels("text", ())


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def batch_of(made, split, *, train=False, augmentations=()):
    encode = made.inputs.encoder(SPECS[id(made)], augmentations, train=train)
    return texts.batch_of(made, split, range(len(split)), encode)


SPECS: dict[int, TextSpec] = {}


def prepared(data, wanted):
    made = texts.fitted(data, wanted)
    SPECS[id(made)] = wanted
    return made


def test_texts_are_padded_with_a_mask_and_cut_with_a_note(caplog):
    data = splits(Few(TEXTS, [0, 1, 0, 1]), labels=SINGLE)
    made = prepared(data, replace(spec(TEXTS), max_length=6))
    batch = batch_of(made, made.train)
    assert batch["input"]["input_ids"].shape == (4, 6)
    assert batch["input"]["attention_mask"].sum(1).tolist() == made.train.lengths
    assert made.train.lengths == [5, 4, 6, 6]  # of Chinese each character is a word
    assert batch["target"].tolist() == [0, 1, 0, 1]
    assert made.notes["tokens"]["train"]["truncated"] == 2
    assert "lose their ends: 2 of train" in caplog.text
    pad = batch["input"]["input_ids"][~batch["input"]["attention_mask"]]
    assert set(pad.tolist()) == {SPECS[id(made)].pad_id}


def test_ids_are_those_of_the_tokenizer_on_both_sides_of_padding():
    wanted = spec(TEXTS, kind="wordpiece")
    reference = [e.ids for e in Tokenizer.from_str(wanted.tokenizer).encode_batch(TEXTS)]
    for side in ("right", "left"):
        made = prepared(
            splits(Few(TEXTS, [0] * 4), labels=SINGLE), replace(wanted, padding_side=side)
        )
        inputs = batch_of(made, made.train)["input"]
        for row, mask, ids in zip(
            inputs["input_ids"], inputs["attention_mask"], reference, strict=True
        ):
            assert row[mask].tolist() == ids
            first = mask.long().argmax()
            assert first == (0 if side == "right" else len(mask) - len(ids))


def test_pairs_have_two_types():
    data = splits(Few([("the cat", "a dog"), ("a", "b")], [0, 1]), labels=SINGLE)
    made = prepared(data, replace(spec(TEXTS), type_ids=True))
    inputs = batch_of(made, made.train)["input"]
    assert inputs["token_type_ids"][0].tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("side", ["right", "left"])
def test_words_stand_at_their_first_token(side):
    sentences = [["unbelievable", "cat"], ["a"]]
    wanted = spec(["un ##bel cat a b c", "cat a"], unit="word", kind="wordpiece")
    data = splits(Few(sentences, [(0, 1), (0,)]), labels=TAGS)
    made = prepared(data, replace(wanted, padding_side=side))
    batch = batch_of(made, made.train)
    inputs = batch["input"]
    assert batch["target"].tolist() == [[0, 1], [0, -100]]
    assert inputs["words"].shape == (2, 2)
    assert inputs["words"][1, 1] == -1
    tokenizer = Tokenizer.from_str(wanted.tokenizer)
    for row, sentence in enumerate(sentences):
        for place, word in enumerate(sentence):
            first = tokenizer.encode(word, add_special_tokens=False).ids[0]
            assert inputs["input_ids"][row, inputs["words"][row, place]] == first


def test_words_that_are_cut_off_are_nowhere():
    data = splits(Few([["a", "dog", "the", "cat"]], [(0, 1, 0, 1)]), labels=TAGS)
    made = prepared(data, replace(spec(TEXTS, unit="word"), max_length=4))
    batch = batch_of(made, made.train)
    assert batch["input"]["words"].tolist() == [[1, 2, -1, -1]]
    assert batch["target"].tolist() == [[0, 1, 0, 1]]


@given(
    st.lists(st.integers(0, 23), min_size=1, max_size=5),
    st.integers(2, 9),
    st.integers(1, 9),
    st.booleans(),
)
def test_each_token_is_asked_once_with_enough_before_it(lengths, block, stride, evaluated):
    stride = min(stride, block)
    texts = [" ".join(f"w{number}" for number in range(length)) for length in lengths]
    wanted = spec(
        texts, unit="token", objective="causal", block=block, stride=stride, max_length=64
    )
    found = tokenise.tokenised(texts, wanted)
    made = windows.windows(found, wanted, evaluated=evaluated)
    tokenizer = Tokenizer.from_str(wanted.tokenizer)
    end = wanted.eos_id
    asked = [[] for _ in texts]
    words = characters = 0
    for index in range(len(made)):
        inputs, target = made.of(index)
        ids, labels = inputs["input_ids"], target["labels"]
        assert len(ids) == len(labels) == made.lengths[index] <= block
        counted = labels != -100
        text, number = made.names[index]
        if evaluated and number:
            assert int(counted.long().argmax()) >= min(block - stride, len(ids) - 1)
        # what is read is what was asked one place before
        assert torch.equal(ids[1:][counted[:-1]], labels[:-1][counted[:-1]])
        asked[text] += labels[counted].tolist()
        words += target["words"]
        characters += target["characters"]
    for text, answers in zip(texts, asked, strict=True):
        assert answers == [*tokenizer.encode(text, add_special_tokens=False).ids, end]
    assert words == sum(lengths)
    assert characters == sum(map(len, texts))


def test_characters_and_words_add_up_to_the_texts_of_any_script():
    texts = ["  Ein Haus,  zwei Häuser. ", "今天天气 很好!", "naïve café\n"]
    for kind in ("words", "characters", "wordpiece"):
        wanted = spec(texts, unit="token", kind=kind, objective="causal", block=32, stride=16)
        made = tokenise.tokenised(texts, wanted)
        for index, text in enumerate(texts):
            parts = made.of(index)
            assert int(parts["characters"].sum()) == len(text)
            assert int(parts["word_starts"].sum()) == len(tokenise.WORD.findall(text))
    assert len(tokenise.WORD.findall(texts[1])) == 7


def test_masks_hide_most_of_what_is_asked_and_evaluation_is_always_the_same():
    long = [" ".join(["the cat sat on a dog"] * 60)] * 4
    wanted = spec(long, unit="token", objective="masked", block=64, mask_rate=0.15)
    made = prepared(splits(Few(long, [None] * 4), labels=TEXT), wanted)
    first, again = (batch_of(made, made.val) for _ in range(2))
    labels, ids = first["target"]["labels"], first["input"]["input_ids"]
    assert torch.equal(ids, again["input"]["input_ids"])
    asked = labels != -100
    rate = float(asked.sum() / first["input"]["attention_mask"].sum())
    assert rate == pytest.approx(0.15, abs=0.03)
    hidden = float((ids[asked] == wanted.mask_id).float().mean())
    assert hidden == pytest.approx(0.8, abs=0.08)
    special = torch.tensor(tokenise.special_ids(wanted.tokenizer))
    assert not torch.isin(labels[asked], special).any()
    assert not torch.isin(ids[~asked], torch.tensor([wanted.mask_id])).any()
    torch.manual_seed(0)
    one = batch_of(made, made.train, train=True)["input"]["input_ids"]
    assert not torch.equal(one, batch_of(made, made.train, train=True)["input"]["input_ids"])


def test_a_short_text_asks_something():
    wanted = spec(["cat"], unit="token", objective="masked", block=8, mask_rate=0.01)
    masking = Masking.of(wanted, random=False)
    for name in "abc":
        assert (masking(torch.tensor([2, 5, 3]), name)[1] != -100).sum() == 1


def test_tokens_are_kept_on_disk_and_damage_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(token_files, "FEW", 2)
    data = splits(Few(TEXTS, [0] * 4), labels=SINGLE)
    wanted = spec(TEXTS)
    before = prepared(data, wanted)
    (file,) = token_files.folder().glob("*.safetensors")
    monkeypatch.setattr(tokens, "tokenised", lambda *args: pytest.fail("tokenised again"))
    again = prepared(data, wanted)
    for index in range(4):
        assert torch.equal(
            before.train[index]["input"]["input_ids"], again.train[index]["input"]["input_ids"]
        )
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(token_files, "FEW", 2)
    file.write_bytes(file.read_bytes()[:-7])
    assert prepared(data, wanted).train.lengths == before.train.lengths
    prepared(data, replace(wanted, max_length=4))
    assert len(list(token_files.folder().glob("*.safetensors"))) == 2


def test_one_long_text_is_kept_on_disk(monkeypatch):
    long = " ".join(["the cat sat on a dog"] * 5000)
    data = splits(Few([long], [None]), labels=TEXT)
    wanted = spec([long], unit="token", objective="causal", block=32, stride=16)
    before = prepared(data, wanted)
    monkeypatch.setattr(tokens, "tokenised", lambda *args: pytest.fail("tokenised again"))
    assert prepared(data, wanted).train.lengths == before.train.lengths


def test_windows_are_slices_of_the_text_between_its_ends():
    texts = [" ".join(f"w{number}" for number in range(length)) for length in (1, 5, 40)]
    for objective, end in (("causal", True), ("causal", False), ("masked", False)):
        wanted = spec(texts, unit="token", objective=objective, block=8, stride=3, mask_rate=0.1)
        if not end:
            wanted = replace(wanted, eos_id=None)
        found = tokenise.tokenised(texts, wanted)
        made = windows.windows(found, wanted, evaluated=True)
        for index, (text, start, stop, first) in enumerate(made.places):
            ids = found.of(text)["input_ids"].tolist()
            inputs, target = made.of(index)
            if objective == "masked":
                around = [*made.before, *ids[start:stop], *made.after]
                assert inputs["input_ids"].tolist() == target["labels"].tolist() == around
                continue
            whole = [*made.before, *ids, *made.after]
            assert inputs["input_ids"].tolist() == whole[start:stop]
            labels = whole[start + 1 : stop + 1]
            asked = [-100] * (first - start) + labels[first - start :]
            assert target["labels"].tolist() == asked


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>", "<a> <s> $A </s>", "$A </s>"])
def test_texts_begin_and_end_as_the_tokenizer_has_it(template):
    """Every window begins so; where nothing is put before a text, it begins after an end."""
    texts = [" ".join(f"w{number}" for number in range(length)) for length in (1, 5, 23)]
    wanted = spec(texts, unit="token", objective="causal", block=8, stride=3)
    wanted = replace(wanted, tokenizer=with_ends(wanted.tokenizer, template))
    whole = [Tokenizer.from_str(wanted.tokenizer).encode(text).ids for text in texts]
    first, last = tokenise.around(wanted.tokenizer)
    if not first:
        whole = [[wanted.eos_id, *ids] for ids in whole]
    found = tokenise.tokenised(texts, wanted)
    for evaluated in (False, True):
        made = windows.windows(found, wanted, evaluated=evaluated)
        asked = [[] for _ in texts]
        for index, (text, number) in enumerate(made.names):
            inputs, target = made.of(index)
            ids, labels = inputs["input_ids"].tolist(), target["labels"].tolist()
            assert len(ids) == len(labels) == made.lengths[index] <= 8
            assert tuple(ids[: len(first)]) == first
            answers = [label for label in labels if label != -100]
            assert labels[len(labels) - len(answers) :] == answers
            place = len(asked[text]) + max(len(first), 1)
            assert answers == whole[text][place : place + len(answers)]
            inside = ids[len(first) :] if number else ids
            assert inside == whole[text][place + len(answers) - 1 - len(inside) :][: len(inside)]
            if number and evaluated:
                assert len(ids) - len(answers) >= 8 - 3
            asked[text] += answers
        assert asked == [ids[max(len(first), 1) :] for ids in whole]
    sums = [sum(made.of(i)[1][key] for i in range(len(made))) for key in ("words", "characters")]
    assert sums == [sum(len(text.split()) for text in texts), sum(map(len, texts))]
    assert last == tuple(i for i in whole[0][-1:] if template.endswith("</s>"))


def test_runs_of_before_read_texts_behind_the_end_token():
    wanted = spec(["a b c"], unit="token", objective="causal", block=8, stride=8, begins=False)
    wanted = replace(wanted, tokenizer=with_ends(wanted.tokenizer, "<s> $A </s>"))
    inputs, target = windows.windows(
        tokenise.tokenised(["a b c"], wanted), wanted, evaluated=True
    ).of(0)
    ids = Tokenizer.from_str(wanted.tokenizer).encode("a b c", add_special_tokens=False).ids
    assert inputs["input_ids"].tolist() == [wanted.eos_id, *ids]
    assert target["labels"].tolist() == [*ids, wanted.eos_id]


def test_what_stands_around_a_text_is_known_of_vocabularies_that_drop_letters():
    tokenizer = Tokenizer(models.BPE(vocab={"z": 0}, merges=[]))
    assert tokenise.around(with_ends(tokenizer.to_str(), "<s> $A </s>")) == ((1,), (2,))


def spelled(texts, tokenizer, **more):
    """What each token of one text is charged, in nats, with these training texts."""
    wanted = spec(texts, unit="token", objective="causal", **more)
    wanted = replace(wanted, tokenizer=tokenizer, spelling=spelling.learn(texts))
    found = tokenise.tokenised(texts[:1], wanted).of(0)
    return (found["spelled"] * tokenise.SPELLED_UNIT).tolist()


def test_what_no_token_tells_is_charged_by_its_characters():
    texts = ["the zebra  sat", "the cat sat"]
    cost = spelling.Spelling(spelling.learn(texts)).nats
    words = spec(["the sat"], objective="causal", unit="token").tokenizer
    assert spelled(texts, words) == pytest.approx([0, cost("zebra"), 0], abs=1e-3)
    letters = vocabulary.learn(lambda: ["tesa"], kind="characters", size=9, causal=True)
    expected = [0 if letter in "tesa" else cost(letter) for letter in texts[0]]
    assert spelled(texts, letters) == pytest.approx(expected, abs=1e-3)
    # a vocabulary without a token for what it does not know drops it; its offsets then count the
    # letters that are left, so that some letters stand for others
    dropping = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate("tes")}, merges=[]))
    dropping.pre_tokenizer = pre_tokenizers.Whitespace()
    found = spelled(texts, dropping.to_str())
    assert sum(found) == pytest.approx(sum(map(cost, ("h", "z", "bra", "a"))), rel=0.2)
    # several unknown characters in one token, by number, and a token of the text that is the same
    pieces = [("<unk>", 0.0), ("▁", -1.0), ("the", -1.0), ("s", -2.0), ("a", -2.0), ("t", -2.0)]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    assert sum(spelled(texts, unigram.to_str())) == pytest.approx(cost("zebr"), abs=1e-3)
    marked = Tokenizer.from_str(words)
    marked.add_special_tokens(["[UNK]"])
    assert spelled(["the [UNK] sat"], marked.to_str()) == [0, 0, 0]


def test_vocabularies_of_all_bytes_tell_everything():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytewise = Tokenizer(models.BPE(vocab={b: i for i, b in enumerate(alphabet)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert tokenise.tells_all(bytewise.to_str())
    few = Tokenizer(models.BPE(vocab={b: i for i, b in enumerate(alphabet[:200])}, merges=[]))
    few.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert not tokenise.tells_all(few.to_str())
    assert not tokenise.tells_all(spec(TEXTS).tokenizer)


def test_unknown_words_cost_what_training_texts_say():
    """Also of another data set, on which a finished run is evaluated."""
    lines = splits(Few(TEXTS, [None] * 4), labels=TEXT, other=Few(["a zebra"], [None]))
    wanted = spec(TEXTS, unit="token", objective="causal", block=8, stride=8)
    cost = spelling.Spelling(spelling.learn(TEXTS)).nats("zebra")
    assert texts.fitted(lines, wanted).test[0]["target"]["spelled"] == pytest.approx(cost, abs=1e-3)
    elsewhere = splits(Few(["a zebra"], [None]), labels=TEXT)
    trained = tokens.TEXTS.learn(wanted, lambda: TEXTS)
    assert texts.fitted(elsewhere, trained).test[0]["target"]["spelled"] == pytest.approx(
        cost, abs=1e-3
    )
    pooled = spec(TEXTS)
    assert tokens.TEXTS.learn(pooled, lambda: TEXTS) is pooled


def test_a_window_does_not_read_the_rest_of_its_text():
    wanted = spec(["a"], unit="token", objective="causal", block=8, stride=8)
    found = tokenise.tokenised(["a " * 50], wanted)
    made = windows.windows(found, wanted, evaluated=False)
    read = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            result = super().__torch_function__(function, types, args, kwargs)
            if isinstance(result, torch.Tensor) and function is torch.Tensor.long:
                read.append(result.numel())
            return result

    parts = {
        name: tokenise.Ragged(part.values.as_subclass(Watched), part.ends)
        for name, part in found.parts.items()
    }
    replace(made, tokens=replace(found, parts=parts)).of(2)
    assert read
    assert max(read) <= 9


def test_byte_level_words_hold_their_own_characters():
    """A blank before a Chinese character would be the token that stands for the word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "今天北京的天气很好 the cat sat"
    tokenizer.train_from_iterator([text] * 50, trainer)
    wanted = TextSpec(tokenizer.to_str(), max_length=64, unit="word")
    words = ["the", "cat", "今", "天", "北", "京"]
    found = tokenise.tokenised([words], wanted).of(0)
    ids = found["input_ids"]
    bounds = [*found["words"].tolist(), len(ids)]
    whole = [tokenizer.decode(ids[a:b].tolist()) for a, b in itertools.pairwise(bounds)]
    assert whole == ["the", " cat", "今", "天", "北", "京"]
    assert all(tokenizer.decode([int(ids[place])]).strip() for place in found["words"])


def test_what_does_not_fit_is_refused():
    pairs = splits(Few([("the cat", "a dog")], [0]), labels=SINGLE)
    with pytest.raises(ValueError, match=r"backbone\.max_length=3"):
        texts.fitted(pairs, replace(spec(TEXTS, kind="wordpiece"), max_length=3))
    short = splits(Few(TEXTS, [None] * 4), labels=TEXT, other=Few(["a"], [None]))
    with pytest.raises(ValueError, match="too short: there is no token to predict"):
        texts.fitted(
            short,
            replace(spec(TEXTS, unit="token", objective="causal", block=8, stride=4), eos_id=None),
        )
    data = splits(Few(TEXTS, [0] * 4), labels=SINGLE)
    with pytest.raises(ValueError, match="choose another task"):
        texts.fitted(data, spec(TEXTS, unit="word"))
    lines = splits(Few(TEXTS, [None] * 4), labels=TEXT)
    with pytest.raises(ValueError, match=r"task\.block=65"):
        texts.fitted(lines, spec(TEXTS, unit="token", objective="causal", block=65, stride=1))
    wanted = spec(TEXTS, unit="token", objective="masked", block=8, mask_rate=0.1)
    made = prepared(lines, replace(wanted, mask_id=None))
    with pytest.raises(ValueError, match="no mask token"):
        batch_of(made, made.train)
    with pytest.raises(ValueError, match="the backbone takes 'image'"):
        tokens.TEXTS.encoder(
            ImageSpec((3, 8, 8), (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0), [], train=False
        )


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60), st.integers(1, 7), st.integers(0, 3))
def test_batches_of_like_length_hold_each_item_at_most_once(lengths, size, seed):
    order = Order(len(lengths), batch_size=size, seed=seed, lengths=lengths)
    count = max(len(lengths) // size, 1)
    for epoch in range(2):
        seen = []
        for step in range(epoch * count, (epoch + 1) * count):
            at, items = order.batch_at(step)
            assert at == epoch
            assert len(items) == min(size, len(lengths))
            seen += items
        assert len(set(seen)) == len(seen)
    again = Order(len(lengths), batch_size=size, seed=seed, lengths=lengths)
    last = 2 * count - 1
    assert again.batch_at(last) == order.batch_at(last)


def test_batches_of_like_length_need_little_padding():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(8000, generator=generator)
    lengths = [min(int(8 * math.exp(float(x))), 128) for x in drawn]  # cut off, as texts are

    def padding(order):
        batches = [order.batch_at(step)[1] for step in range(8000 // 32)]
        full = sum(len(b) * max(lengths[i] for i in b) for b in batches)
        return 1 - sum(lengths[i] for b in batches for i in b) / full

    assert padding(Order(8000, batch_size=32, seed=0, lengths=lengths)) < 0.1
    assert padding(Order(8000, batch_size=32, seed=0)) > 0.5


@pytest.mark.parametrize("count", [64, 160, 1000])
def test_few_items_of_different_lengths_meet_others_in_each_epoch(count):
    order, each = Order(count, batch_size=32, seed=0, lengths=list(range(count))), count // 32
    epochs = [
        {frozenset(order.batch_at(step)[1]) for step in range(epoch * each, (epoch + 1) * each)}
        for epoch in range(4)
    ]
    assert len(frozenset.union(*map(frozenset, epochs))) == 4 * each
