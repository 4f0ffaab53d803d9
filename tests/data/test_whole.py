"""Other data for a finished run: all of it, with the run's labels."""

import csv
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tlx.data.divide import whole
from tlx.data.images.digits import digits
from tlx.data.images.folder import image_folder
from tlx.data.images.table import image_csv
from tlx.data.relabel import relabelled
from tlx.data.splits import Labels
from tlx.data.text.conll import conll
from tlx.data.text.folder import text_folder
from tlx.data.text.lines import text_file, text_lines
from tlx.data.text.table import text_csv

COUNT = 8


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.name


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return str(path)


def images(base):
    for i in range(COUNT):
        picture(base / "cat" / f"{i}.png" if i else base / "dog" / "0.png", i)
    return image_folder(root=str(base), labels_per_class=3, drop_duplicates=True)


def image_table(base, kind, label):
    with (base / "all.csv").open("w", newline="") as file:
        lines = [(picture(base / f"{i}.png", i), label(i)) for i in range(COUNT)]
        csv.writer(file).writerows([("path", "label"), *lines])
    return image_csv(path=str(base / "all.csv"), kind=kind, fraction=0.5)


def texts(base):
    for i in range(COUNT):
        text(base / "ab"[i % 2] / f"{i}.txt", f"text {i}")
    return text_folder(root=str(base), labels_per_class=1)


def text_rows(base):
    lines = "".join(f"the same text,{'ab'[i % 2]}\n" for i in range(COUNT))
    return text_csv(path=text(base / "a.csv", f"text,label\n{lines}"), drop_duplicates=True)


def words(base):
    return conll(train=text(base / "a.txt", "a O\nb B-x\n\n" * COUNT), fraction=0.1)


def lines_of_text(base):
    return text_lines(path=text(base / "a.txt", "".join(f"line {i}\n" for i in range(COUNT))))


SOURCES = [
    images,
    lambda base: image_table(base, "multi", lambda i: "a|b" if i else ""),
    lambda base: image_table(base, "real", float),
    *(texts, text_rows, words, lines_of_text),
]


@pytest.mark.parametrize("source", SOURCES)
def test_all_of_what_is_not_divided_is_judged(tmp_path, source):
    with whole():
        made = source(tmp_path)
    assert len(made.test) == COUNT
    assert (len(made.train), len(made.val)) == (0, 0)


def test_one_long_text_is_judged_whole(tmp_path):
    path = text(tmp_path / "a.txt", "word\n" * 50)
    with whole():
        made = text_file(path=path)
    assert (made.test[0]["input"], len(made.train), len(made.val)) == ("word\n" * 50, 0, 0)


def test_what_is_divided_stays_divided_and_nothing_is_drawn(tmp_path):
    for split in ("train", "Testing"):
        for i in range(4):
            picture(tmp_path / split / "ab"[i % 2] / f"{i}.png", i)  # the same in both
    with whole():
        made = image_folder(root=str(tmp_path), labels_per_class=1, drop_duplicates=True)
    assert (len(made.train), len(made.val), len(made.test)) == (4, 0, 4)


def test_the_division_of_a_set_that_is_everybodys_stays():
    with whole():
        made = digits()
    assert made.fingerprint == digits().fingerprint


# -- labels -----------------------------------------------------------------------------------


RUN = Labels("single", ("dog", "cat", "emu"))


def test_classes_are_matched_by_name(tmp_path, caplog):
    with whole():
        data = images(tmp_path)
    with caplog.at_level(logging.WARNING):
        made = relabelled(data, RUN)
    held = Counter(RUN.names[target] for target in made.test.targets)
    assert held == {"cat": COUNT - 1, "dog": 1}
    assert all(made.test[i]["target"] == made.test.targets[i] for i in range(COUNT))
    assert made.test[0]["id"].startswith(RUN.names[made.test.targets[0]])
    assert "another order" in caplog.text
    assert "no item of 'emu'" in caplog.text
    assert relabelled(data, data.labels) is data


def test_tags_and_labels_are_matched_by_name(tmp_path):
    with whole():
        tagged, several = words(tmp_path), image_table(tmp_path, "multi", lambda i: "a|b")
    made = relabelled(tagged, Labels("tags", ("B-y", "B-x", "O")))
    assert made.test[0]["target"] == (2, 1)
    made = relabelled(several, Labels("multi", ("b", "c", "a")))
    assert made.test[0]["target"] == (1.0, 0.0, 1.0)


def test_numbers_are_matched_by_position(tmp_path, caplog):
    with whole():
        data = image_table(tmp_path, "real", float)
    made = relabelled(data, Labels("real", ("age",)))
    assert made.labels.names == ("age",)
    assert "('label') are taken for the run's ('age')" in caplog.text
    with pytest.raises(ValueError, match=r"1 numbers an item .* predicts 2"):
        relabelled(data, Labels("real", ("age", "size")))


def test_new_classes_are_refused_by_name(tmp_path):
    with whole():
        data = images(tmp_path)
    with pytest.raises(ValueError, match=r"not trained on: 'cat' \(7\); it knows 'dog', 'emu'"):
        relabelled(data, Labels("single", ("dog", "emu")))
    with pytest.raises(ValueError, match=r"labels of kind 'single', the run .* 'multi'"):
        relabelled(data, Labels("multi", ("dog", "cat")))
    # a name that no item has is no matter
    named = replace(data, labels=Labels("single", ("cat", "dog", "gnu")))
    assert relabelled(named, Labels("single", ("cat", "dog"))).labels.names == ("cat", "dog")
