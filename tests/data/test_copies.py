"""Copies in data: equal ones within and between splits, with labels; near ones, as a warning."""

import functools
import io
import logging

import numpy as np
import pytest
from PIL import Image

from tlx.data.draw import Draw
from tlx.data.images.digits import digits
from tlx.data.images.folder import image_folder
from tlx.data.images.near import near_pairs, thumbnail
from tlx.data.images.read import load_image
from tlx.data.splits import Labels
from tlx.data.text.texts import from_texts, text_pool

LABELS = Labels("single", ("no", "yes"))
PARTS = {
    "train": (["one", "same", "same", "both", "both", "in test", "more", "else"], "01101010"),
    "val": (["two", "in test", "one more"], "010"),
    "test": (["in test", "three", "three"], "101"),
}


def splits(parts=PARTS, **options):
    pools = {
        name: text_pool([f"{name}:{i}" for i in range(len(texts))], texts, list(map(int, targets)))
        for name, (texts, targets) in parts.items()
    }
    return from_texts(pools, LABELS, draw=Draw(**options))


def test_all_equal_items_are_reported_with_their_labels(caplog):
    with caplog.at_level(logging.WARNING):
        notes = splits().notes
    assert notes["duplicates"] == {
        "train": [["train:1", "train:2"], ["train:3", "train:4"]],
        "val": [["train:5", "val:1"]],
        "test": [["train:5", "test:0"]],
        "val+test": [["val:1", "test:0"]],
        "test+test": [["test:1", "test:2"]],
    }
    groups = [{i["id"]: i["label"] for i in group} for group in notes["contradictory_labels"]]
    assert groups == [
        {"train:3": "no", "train:4": "yes"},
        {"train:5": "no", "val:1": "yes", "test:0": "yes"},
        {"test:1": "no", "test:2": "yes"},
    ]
    assert "3 texts are there with several labels (train:3 'no' = train:4 'yes'" in caplog.text
    assert "1 texts of val are in test too (val:1 = test:0); dataset.drop_duplicates" in caplog.text
    assert "2 texts of train are more than once" in caplog.text


def test_what_is_dropped_and_what_stays(caplog):
    made = splits(drop_duplicates=True)
    assert made.train.inputs == ["one", "same", "more", "else"]
    assert made.val.inputs == ["two", "one more"]
    assert made.test.inputs == PARTS["test"][0]  # figures are told of it: it stays
    assert made.notes["duplicates_removed"] == ["val:1", "train:5", "train:2", "train:3", "train:4"]
    assert made.notes["duplicates"] == {"test+test": [["test:1", "test:2"]]}
    assert len(made.notes["contradictory_labels"]) == 3
    parts = {**PARTS, "val": (["three"], "0")}
    with pytest.raises(ValueError, match="every text of val is in test too"):
        splits(parts, drop_duplicates=True)


def test_near_copies_of_texts_are_warned_of(caplog):
    lines = [f"The {i} quick foxes, isn't it {i * i}?" for i in range(100)]
    changed = [
        *(line.upper() for line in lines[:25]),
        *(line.replace(" ", "  ") + "\n" for line in lines[25:50]),
        *(line.replace(",", "").replace("'", "").replace("?", "!") for line in lines[50:75]),
        *(line.replace("'", "’").title() for line in lines[75:]),
    ]
    others = [f"{i} + {i} is not {i} - {i}: {i}€" for i in range(50)]
    others += [each.replace(" + ", " = ") for each in others]
    parts = {"train": ([*lines, *others], "01" * 100), "test": (changed, "01" * 50)}
    with caplog.at_level(logging.WARNING):
        made = splits(parts, drop_duplicates=True)
    near = [pair for pairs in made.notes["near_duplicates"].values() for pair in pairs]
    used = set(made.train.ids) | set(made.val.ids)
    expected = [[f"train:{i}", f"test:{i}"] for i in range(100) if f"train:{i}" in used]
    where = {**dict.fromkeys(made.train.ids, "train"), **dict.fromkeys(made.val.ids, "val")}
    assert sorted(near) == sorted(expected)
    assert len(where) == 200  # warned of, and left where they are
    assert "100 pairs of texts are nearly the same" in caplog.text


# -- images -----------------------------------------------------------------------------------


def pictures(count, *, size=(160, 120), seed=0):
    """Images with the spectrum of photographs."""
    draw = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(size[1])[:, None], np.fft.rfftfreq(size[0])[None]
    falls = 1 / np.maximum(np.hypot(down, across), 1 / max(size)) ** 1.3
    for _ in range(count):
        waves = draw.normal(size=(3, *falls.shape)) + 1j * draw.normal(size=(3, *falls.shape))
        grey, *colours = np.fft.irfft2(falls * waves, s=(size[1], size[0]))
        pixels = np.stack([grey, grey + 0.3 * colours[0], grey + 0.3 * colours[1]], axis=-1)
        pixels = (pixels - pixels.mean()) / pixels.std() * 50 + 128
        yield Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return load_image(stream.getvalue())


def scaled(image, factor):
    return image.resize([max(1, round(side * factor)) for side in image.size], Image.BICUBIC)


CHANGES = {
    "jpeg": lambda image: encoded(image, "JPEG", quality=50),
    "webp": lambda image: encoded(image, "WEBP", quality=60),
    "palette": lambda image: encoded(image.quantize(256), "PNG"),
    "half": lambda image: scaled(image, 0.5),
    "larger": lambda image: scaled(image, 1.7),
    "square": lambda image: image.resize((64, 64)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "all": lambda image: encoded(scaled(image.transpose(0), 0.6), "JPEG", quality=70),
}


@functools.cache
def distinct():
    """A hundred pictures, and digits, a class of which are much alike; thumbnails of all."""
    images, small = list(pictures(100)), digits().train
    every = [*images, *(small[i]["input"] for i in range(500))]
    return images, [thumbnail(image) for image in every]


@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_of_images_are_found_and_others_are_not(change):
    images, looks = distinct()
    copies = [thumbnail(CHANGES[change](image)) for image in images]
    pairs = {(one, other) for one, other, _ in near_pairs([*looks, *copies])}
    right = {(i, len(looks) + i) for i in range(len(images))}
    assert len(pairs & right) >= 95
    assert len({place for pair in pairs - right for place in pair}) <= 6  # of 600


def test_patches_of_photographs():
    from sklearn.datasets import load_sample_images

    patches = [
        Image.fromarray(photo[y : y + 80, x : x + 80])
        for photo in load_sample_images().images
        for y in range(0, 400, 80)
        for x in range(0, 640, 80)
    ]
    patches = [each for each in patches if np.asarray(each.convert("L")).std() > 6]
    looks = [thumbnail(each) for each in patches]
    assert list(near_pairs(looks)) == []
    for change in CHANGES.values():
        pairs = near_pairs([*looks, *(thumbnail(change(each)) for each in patches)])
        hits = [(one, other) for one, other, _ in pairs if other == one + len(looks)]
        assert len(hits) >= 0.95 * len(patches)


def test_a_folder_tells_of_near_copies_once_and_keeps_them(tmp_path, caplog):
    for split in ("train", "val", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
    for i, image in enumerate(pictures(12)):
        image.save(tmp_path / ("train", "val", "test")[i % 3] / "ab"[i // 6] / f"{i}.png")
    image.transpose(0).save(tmp_path / "train/a/copy.jpg", quality=80)
    for _ in range(2):  # the second time from what is remembered of the first
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            made = image_folder(root=str(tmp_path))
        assert made.notes["near_duplicates"] == {"test": [["train/a/copy.jpg", "test/b/11.png"]]}
        assert "1 pairs of images are nearly the same" in caplog.text
        assert "mirrored" in caplog.text
    assert len(made.train) == 5
