"""What stored activations are known by: all that an encoder's outputs depend on."""

import functools
import hashlib
import importlib
import importlib.util
import json
import random
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import soundfile
import torch
import torchvision as vision
import yaml
from PIL import Image

from texts import Few, spec
from tlx.config.places import conf_dir
from tlx.data.audio import augment as audio_augment
from tlx.data.audio.spec import AudioSpec
from tlx.data.augment import IN_STEP
from tlx.data.draw import Draw
from tlx.data.encoder import Undescribed, described
from tlx.data.images import augment, huggingface, torchvision
from tlx.data.images import digits as embedded
from tlx.data.images.assemble import FLIPS
from tlx.data.images.inputs import image_encoder
from tlx.data.images.library import LibrarySplit, from_library
from tlx.data.images.spec import ImageSpec
from tlx.data.inputs import replaced
from tlx.data.splits import Labels
from tlx.data.targets import KINDS
from tlx.data.text import augment as text_augment
from tlx.data.text import inputs as tokens
from tlx.data.text import token_files
from tlx.data.text.tokenise import tokenised
from tlx.training.loaders import Encoded
from tlx.training.reuse.transform import draws, item_keys, transform

LINES = [f"The {'good' if i % 2 else 'bad'} Cat number {i} sat there, {i * i}" for i in range(24)]
IMAGE = ImageSpec(
    size=(3, 8, 8),
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    interpolation="bilinear",
    crop_pct=0.875,
)
OTHER_IMAGE = {
    "size": ([3, 9, 8], [1, 8, 8]),
    "mean": ([0.4, 0.5, 0.5],),
    "std": ([0.2, 0.25, 0.25],),
    "interpolation": ("bicubic", "nearest"),
    "crop_pct": (1.0,),
    "crop_mode": ("squash", "border"),
}
OTHER_TEXT = {
    "max_length": (7,),
    "type_ids": (True,),
    "tokenizer": (spec(["other words here"]).tokenizer,),
    "pad_id": (2,),
}
SOUND = AudioSpec(rate=8000, seconds=0.2, front_end="mfcc", bands=20, slopes=1)
OTHER_SOUND = {
    "rate": (16000,),
    "seconds": (0.1,),
    "front_end": ("waveform", "log_mel", "fbank"),
    "as_image": (True,),
    "level": ("item",),
    "mean": ([1.0],),
    "std": ([2.0],),
    "window": (0.03,),
    "hop": (0.02,),
    "bands": (23,),
    "low": (100.0,),
    "high": (3000.0,),
    "scale": ("htk",),
    "coefficients": (7,),
    "slopes": (0, 2),
    "stack": (2,),
}
USUAL = {"kwargs": {"size": 20, "image_size": (3, 9, 9), "num_classes": 2}}
OTHERS = {  # of keywords whose type does not say what else there is
    "kwargs": ({**USUAL["kwargs"], "random_offset": 3},),
    "classes": ([1, 2, 5],),
    "pair_column": ("more",),
    "text_column": ("more",),
    "labels_per_class": (2,),
    "fraction": (0.5,),
    "encoding": ("latin-1",),
    "separator": (" ", ";"),
    "delimiter": (" ", ","),
    "missing": (["a"], "a"),
    "ending": (".md",),
    "header": (False,),
    "horizontal_flip": (True, False),
    "group_pattern": (r"(\d)",),
    "folds": (3,),
    "fold": (1,),
    **dict.fromkeys(
        ("image_column", "audio_column", "label_column", "split_column", "group_column"), ("more",)
    ),
}
TOGETHER = {"folds": {"fold": 0}, "fold": {"folds": 3}}
# They say which items are read, and an item is known by its content.
WHERE = {"name", "root", "path", "train", "val", "test", "extra", "source_text", "revision"}


def pictures(folder, *, count=24):
    """Folders of two classes, and a table of their files."""
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (count, 9, 12, 3), np.uint8)
    rows = ["path,label"]
    for i, each in enumerate(pixels):
        path = folder / "tree" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(path)
        rows.append(f"{path},{'ab'[i % 2]}")
    (folder / "table.csv").write_text("\n".join(rows), encoding="utf-8")


def sounds(folder, *, count=24):
    """Folders of two classes, and a table of their files."""
    generator, rows = np.random.Generator(np.random.PCG64(0)), ["path,label"]
    for i in range(count):
        path = folder / "sounds" / "ab"[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(1500), 8000)
        rows.append(f"{path},{'ab'[i % 2]}")
    (folder / "sounds.csv").write_text("\n".join(rows), encoding="utf-8")


def given(folder):
    """Keywords of every source that needs no download."""
    pictures(folder)
    rows = [f"{i % 2}\t{line}\t{line[::-1]}" for i, line in enumerate(LINES)]
    (folder / "texts.tsv").write_text("\n".join(["label\ttext\tmore", *rows]), encoding="utf-8")
    tagged = ["\n".join(f"{w} {'B-x' if w == 'Cat' else 'O'}" for w in x.split()) for x in LINES]
    for name, content in {
        "train.conll": "\n\n".join(tagged),
        "lines.txt": "\n".join(LINES),
    }.items():
        (folder / name).write_text(content, encoding="utf-8")
    for i, line in enumerate(LINES):
        path = folder / "texts" / "ab"[i % 2] / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line, encoding="utf-8")
    sounds(folder)
    few = {"labels_per_class": 2}
    return {
        "tlx.data.images.digits.digits": few,
        "tlx.data.images.digits.digits_shifted": few,
        "tlx.data.images.digits.glyphs": {"images_per_class": 10, **few},
        "tlx.data.text.stdlib.docs.stdlib_docs": few,
        "tlx.data.images.folder.image_folder": {"root": str(folder / "tree")},
        "tlx.data.images.table.image_csv": {"path": str(folder / "table.csv")},
        "tlx.data.images.torchvision.torchvision": {"name": "FakeData", **USUAL},
        "tlx.data.audio.folder.audio_folder": {"root": str(folder / "sounds")},
        "tlx.data.audio.table.audio_csv": {"path": str(folder / "sounds.csv")},
        "tlx.data.audio.vowels.vowels": {"utterances": 1, **few},
        "tlx.data.text.table.text_csv": {"path": str(folder / "texts.tsv")},
        "tlx.data.text.folder.text_folder": {"root": str(folder / "texts")},
        "tlx.data.text.lines.text_lines": {"path": str(folder / "lines.txt")},
        "tlx.data.text.lines.text_file": {"path": str(folder / "lines.txt")},
        "tlx.data.text.conll.conll": {"root": str(folder)},
    }


SOURCES = sorted(
    {
        yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"]
        for path in (conf_dir() / "dataset").glob("*.yaml")
    }
)
LONG = {"tlx.data.text.stdlib.docs.stdlib_docs"}


def function(target):
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def other_values(name, hint, default):
    """Other values of a keyword, by its type."""
    if name in OTHERS:
        return OTHERS[name]
    kinds = [hint, *get_args(hint)]
    choices = [v for k in kinds if get_origin(k) is Literal for v in get_args(k)]
    if choices:
        return tuple(value for value in choices if value != default)
    if isinstance(default, bool):
        return (not default,)
    if isinstance(default, int):
        return (default + 1,)
    return (default * 0.7,) if isinstance(default, float) else ()


def variants(target, base):
    """The base keywords, and these with each other value of each keyword."""
    yield base
    source = function(target)
    hints, defaults = get_type_hints(source), dict(source.__kwdefaults__ or {})
    if "draw" in hints:
        (shared,) = get_args(hints.pop("draw"))
        hints |= get_type_hints(shared)
        defaults |= {field.name: field.default for field in fields(Draw)}
    for name, hint in hints.items():
        if name in {"return", *WHERE}:
            continue
        others = other_values(name, hint, base.get(name, defaults.get(name)))
        assert others, f"{target}: no other value of {name}; give one in OTHERS"
        for value in others:
            yield {**base, **TOGETHER.get(name, {}), name: value}


def augmentations(module):
    """Each augmentation of samples as it is, and with each other value of each keyword."""
    names = {path.stem for path in (conf_dir() / "augmentation").glob("*.yaml")}
    for name in sorted(names & vars(module).keys()):
        make = getattr(module, name)
        for keywords in variants(f"{module.__name__}.{name}", {}):
            try:
                made = make(**keywords)
            except ValueError:
                continue
            if made.kind not in IN_STEP:
                yield made


@dataclass
class Seen:
    """Outputs by the key under which the store would hold what is computed of them."""

    outputs: dict[str, tuple[str, Any]]

    def add(self, splits, spec, augments, *, note):
        """Looks at the first items of two splits, as training and as evaluation give them."""
        for split, train in ((splits.train, True), (splits.train, False), (splits.val, False)):
            encode = splits.inputs.encoder(spec, augments if train else [], train=train)
            seed = 0 if draws(encode) else None
            targets = KINDS[splits.labels.kind](splits.labels)
            facts = transform(encode, seed=seed, collate=partial(splits.inputs.collate, spec)).facts
            keys = item_keys(split, splits)
            drawn_by = [None] * len(split) if seed is None else split.ids
            for index in range(min(2, len(split))):
                key = json.dumps([facts, keys[index], drawn_by[index]], sort_keys=True)
                output = digest(
                    Encoded(split, encode, targets=targets, seed=seed)[index, 0]["input"]
                )
                before = self.outputs.setdefault(key, (output, note))
                assert before[0] == output, f"{before[1]} and {note} share {key[:60]}"


def digest(value):
    parts = value if isinstance(value, dict) else {"": value}
    text = repr([(name, part.dtype, part.tolist()) for name, part in sorted(parts.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def ready(splits, **changes):
    """Splits made ready, and the spec that they are read by."""
    if splits.inputs.modality == "image":
        return splits, replaced(IMAGE, changes)
    if splits.inputs.modality == "audio":
        return splits, replaced(SOUND, changes)
    unit = {"tags": "word", "text": "token"}.get(splits.labels.kind, "pooled")
    more = {"objective": "masked", "mask_rate": 0.3, "block": 16} if unit == "token" else {}
    wanted = replaced(spec(LINES, unit=unit, **more), changes)
    return splits.inputs.fit(wanted, splits), wanted


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name in SOURCES
        if "huggingface" not in name  # in tests/data/test_huggingface.py
    ],
)
def test_configs_with_other_inputs_share_no_key(target, tmp_path, monkeypatch):
    images, targets = embedded._digits()
    monkeypatch.setattr(embedded, "_digits", lambda: (images[:100], targets[:100]))
    base, seen = given(tmp_path)[target], Seen({})
    flips = {
        "images": augment.standard(),
        "audio": audio_augment.noise(),
        "text": text_augment.word_dropout(p=0.5),
    }[target.split(".")[2]]
    built = 0
    for keywords in variants(target, base):
        try:
            splits = function(target)(**keywords)
        except ValueError:  # a combination that the source refuses
            continue
        built += 1
        seen.add(*ready(splits), [flips], note=keywords)
    assert built > 3
    assert len({output for output, _ in seen.outputs.values()}) > 8


@pytest.mark.parametrize("modality", ["image", "text", "audio"])
def test_specs_and_augmentations_with_other_inputs_share_no_key(modality, tmp_path):
    target = {
        "image": "tlx.data.images.folder.image_folder",
        "text": "tlx.data.text.table.text_csv",
        "audio": "tlx.data.audio.vowels.vowels",
    }
    splits, seen = function(target[modality])(**given(tmp_path)[target[modality]]), Seen({})
    module, others = {
        "image": (augment, OTHER_IMAGE),
        "text": (text_augment, OTHER_TEXT),
        "audio": (audio_augment, OTHER_SOUND),
    }[modality]
    for key, values in others.items():
        for value in values:
            changed, wanted = ready(splits, **{key: value})
            if key == "size" and value[0] == 1:
                wanted = replaced(wanted, {"mean": [0.5], "std": [0.25]})
            seen.add(changed, wanted, [], note={key: value})
    plain, wanted = ready(splits)
    count = 0
    for made in augmentations(module):
        seen.add(plain, wanted, [made], note=made)
        count += 1
    assert count > {"image": 20, "text": 5, "audio": 10}[modality]


def test_every_image_of_a_library_s_set_is_known_by_its_content(tmp_path):
    pictures = [Image.new("RGB", (4, 4), (i, 2 * i, 0)) for i in range(100)]
    other = [*pictures[:1], Image.new("RGB", (4, 4), "red"), *pictures[2:]]
    seen = {}
    for images in (pictures, other):
        splits = from_library(
            "set",
            {"train": LibrarySplit([i % 2 for i in range(100)], images.__getitem__)},
            Labels("single", ("a", "b")),
            draw=Draw(val_fraction=0.2, test_fraction=0.2),
            flips=True,
        )
        for split in (splits.train, splits.val, splits.test):
            keys = item_keys(split, splits)
            assert len(keys) == len(split)
            for index, key in enumerate(keys):
                pixels = split[index]["input"].tobytes()
                assert seen.setdefault(key, pixels) == pixels
    assert len(seen) == 101


def test_files_of_torchvision_s_sets_are_known_without_decoding(tmp_path):
    pictures(tmp_path)
    files = vision.datasets.ImageFolder(str(tmp_path / "tree"))
    items = torchvision.SetImages(files)
    keys = [items.content(place) for place in range(len(files))]
    assert len(set(keys)) == len(files)
    Path(files.samples[3][0]).write_bytes(Path(files.samples[4][0]).read_bytes())
    changed = [items.content(place) for place in range(len(files))]
    assert [a != b for a, b in zip(keys, changed, strict=True)] == [i == 3 for i in range(24)]
    assert torchvision.SetImages([(None, 0)]).content(0) == ""


def test_images_of_hugging_face_are_known_by_their_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    rows = [{"bytes": b"same"}, {"bytes": b"other"}, {"path": str(tmp_path / "a")}, None]
    items = huggingface.HubImages([{"image": row} for row in rows], "image")
    keys = [items.content(place) for place in range(4)]
    assert keys[0] == keys[2] != keys[1]
    assert keys[3] == ""


def test_kept_tokens_know_what_stands_for_an_empty_text(tmp_path, monkeypatch):
    monkeypatch.setattr(token_files, "FEW", 0)
    split = Few(["", "The good Cat"], [0, 1])
    wanted = [spec(LINES), spec(LINES, unknown_id=7)]
    kept = [
        token_files.kept(split, each, make=lambda each=each: tokenised(split.inputs, each))
        for each in wanted
    ]
    made = [tokenised(split.inputs, each) for each in wanted]
    assert [k.of(0)["input_ids"].tolist() for k in kept] == [
        m.of(0)["input_ids"].tolist() for m in made
    ]
    assert kept[0].lengths == made[0].lengths


def test_the_data_s_flips_are_part_of_the_key(tmp_path):
    facts = [
        image_encoder(IMAGE, [augment.standard()], train=True, label_changing=changing).facts()
        for changing in (frozenset(), FLIPS)
    ]
    assert described(facts[0]) != described(facts[1])
    plain = [
        image_encoder(IMAGE, [augment.standard()], train=False, label_changing=changing).facts()
        for changing in (frozenset(), FLIPS)
    ]
    assert described(plain[0]) == described(plain[1])  # what is evaluated is shared


def test_masking_is_random_in_training_alone():
    masked = spec(LINES, unit="token", objective="masked", mask_rate=0.3)
    assert tokens.TEXTS.encoder(masked, [], train=True).random
    assert not tokens.TEXTS.encoder(masked, [], train=False).random
    assert (
        tokens.TEXTS.encoder(masked, [], train=False).facts()
        != tokens.TEXTS.encoder(spec(LINES), [], train=False).facts()
    )


def test_a_plain_function_is_not_stored():
    made = transform(lambda sample: sample, seed=0, collate=list)
    assert made.facts is None
    assert "'<lambda>' does not say what its outputs depend on" in made.why_unknown
    assert draws(made.encode)


class Scaled:
    """An encoder of somebody's own."""

    random = False

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, sample):
        return {**sample, "input": sample["input"] * self.factor}

    def facts(self):
        return {"factor": self.factor}


def test_an_encoder_of_one_s_own_says_what_it_depends_on():
    one, same, two = (transform(Scaled(f), seed=None, collate=list).facts for f in (1, 1, 2))
    assert one == same != two
    hidden = transform(Scaled(random.Random(0)), seed=None, collate=list)
    assert hidden.facts is None
    assert "random.Random may hold more" in hidden.why_unknown


def closing(strength):
    return lambda image: image * strength


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (closing(1), closing(2)),
        ((lambda x: x + 1), (lambda x: x + 2)),
        (functools.partial(closing, 1), functools.partial(closing, 2)),
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2), torch.zeros(2).double()),
        (np.zeros(2), np.ones(2)),
        (torch.nn.Dropout(0.1), torch.nn.Dropout(0.2)),
        (Scaled(1), Scaled(2)),
        (Scaled(1).__call__, Scaled(2).__call__),
        ({1: "a"}, {1: "b"}),
        ({"a"}, {"b"}),
        (torch.Size([1]), torch.Size([2])),
        ("a" * 300, "a" * 299 + "b"),
        (1, True),
        (Few(["a"], [0]), Few(["b"], [0])),
    ],
)
def test_what_acts_otherwise_is_described_otherwise(one, two):
    assert json.dumps(described(one)) != json.dumps(described(two))
    assert json.dumps(described(one)) == json.dumps(described(one))


@pytest.mark.parametrize(
    "value",
    [random.Random(0), np.random.default_rng(0), torch.Generator(), Image.new("L", (1, 1))],
    ids=lambda value: type(value).__name__,
)
def test_what_hides_its_state_is_refused(value):
    with pytest.raises(Undescribed):
        described(value)
