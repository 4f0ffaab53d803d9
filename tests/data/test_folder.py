"""Trees and tables of images: what goes where, under which id, and what is refused."""

import logging
import os
import pickle
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlx.data import split_folders
from tlx.data.images.folder import image_folder
from tlx.data.images.table import image_csv

NUMBER = iter(range(10**9))
NAMED = {"train": "train", "val": "val", "test": "test"}


def write(path, pixels=None):
    """A small image, unlike all others unless its pixels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(next(NUMBER)).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG")
    return path


def tree(root, splits, *, classes=("cat", "dog"), n=10):
    for split in splits:
        for name in classes:
            for i in range(n):
                write(root / split / name / f"{i:02d}.png")
    return root


def sizes(made):
    return {"train": len(made.train), "val": len(made.val), "test": len(made.test)}


def everything(made):
    return [i for split in (made.train, made.val, made.test) for i in split.ids]


def test_a_divided_tree_is_taken_as_it_is(tmp_path):
    made = image_folder(root=str(tree(tmp_path, ["train", "val", "test"])))
    assert sizes(made) == {"train": 20, "val": 20, "test": 20}
    assert made.labels.names == ("cat", "dog")
    assert made.train.ids[0] == "train/cat/00.png"
    sample = made.val[len(made.val) - 1]
    assert (sample["id"], sample["target"]) == ("val/dog/09.png", 1)
    expected = np.asarray(Image.open(tmp_path / sample["id"]))
    assert (np.asarray(sample["input"]) == expected).all()


def test_train_is_asked_first_whether_it_has_enough(tmp_path):
    root = str(tree(tree(tmp_path, ["train"], n=10), ["val", "test"], n=3))
    with pytest.raises(ValueError, match="at most 10, or use fraction"):
        image_folder(root=root, labels_per_class=50)
    with pytest.raises(ValueError, match="at most 3, or use limit_val=false"):
        image_folder(root=root, labels_per_class=8)
    assert sizes(image_folder(root=root, labels_per_class=8, limit_val=False))["train"] == 16


def test_val_comes_from_train_where_there_is_none(tmp_path):
    made = image_folder(root=str(tree(tmp_path, ["train", "test"])), val_fraction=0.2)
    assert sizes(made) == {"train": 16, "val": 4, "test": 20}
    assert Counter(made.val.targets) == {0: 2, 1: 2}
    assert all(i.startswith("train/") for i in made.val.ids)


@pytest.mark.parametrize("split", ["train", "."])
def test_an_undivided_tree_is_divided(tmp_path, split):
    made = image_folder(root=str(tree(tmp_path, [split])), val_fraction=0.25, test_fraction=0.2)
    assert sizes(made) == {"train": 12, "val": 4, "test": 4}
    assert len(set(everything(made))) == 20
    for part in (made.train, made.val, made.test):
        assert len(set(Counter(part.targets).values())) == 1
    again = image_folder(root=str(tmp_path), val_fraction=0.25, test_fraction=0.2, seed=5)
    assert everything(again) == everything(made)
    other = image_folder(root=str(tmp_path), val_fraction=0.25, test_fraction=0.2, split_seed=5)
    assert other.test.ids != made.test.ids


def test_ids_and_fingerprint_do_not_depend_on_the_place(tmp_path):
    tree(tmp_path / "a", ["train", "test"])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first, second = (image_folder(root=str(tmp_path / name)) for name in "ab")
    assert everything(first) == everything(second)
    assert first.fingerprint == second.fingerprint
    write(tmp_path / "b/test/cat/03.png")
    assert image_folder(root=str(tmp_path / "b")).fingerprint != first.fingerprint


def test_capitals_depth_and_hidden_files(tmp_path):
    tree(tmp_path, ["train", "val", "test"], n=2)
    write(tmp_path / "train/cat/IMG_1.JPG")
    write(tmp_path / "train/cat/deep/er/a.PNG")
    write(tmp_path / "train/cat/._hidden.png").write_bytes(b"no image")
    write(tmp_path / "train/.cache/x.png")
    write(tmp_path / "train/cat/.thumbs/x.png")
    made = image_folder(root=str(tmp_path))
    assert set(made.train.ids) == {
        *(f"train/{c}/0{i}.png" for c in ("cat", "dog") for i in range(2)),
        *("train/cat/IMG_1.JPG", "train/cat/deep/er/a.PNG"),
    }
    assert "ignored" not in made.notes


def test_other_files_are_noted(tmp_path, caplog):
    tree(tmp_path, ["train", "val", "test"], n=2)
    (tmp_path / "train/cat/notes.txt").write_text("text")
    (tmp_path / "test/labels.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        made = image_folder(root=str(tmp_path))
    assert made.notes["ignored"] == ["test/labels.json", "train/cat/notes.txt"]
    assert "notes.txt" in caplog.text


def test_links_are_followed_once(tmp_path):
    tree(tmp_path / "real", ["."], n=3)
    for split in ("train", "val", "test"):
        tree(tmp_path / "data", [split], classes=("dog",), n=1)
        (tmp_path / "data" / split / "cat").symlink_to(tmp_path / "real/cat")
    (tmp_path / "real/cat/loop").symlink_to(tmp_path / "real/cat")
    assert len(image_folder(root=str(tmp_path / "data")).train) == 4


BROKEN = {
    "train/cat/empty.jpg": b"",
    "train/dog/text.jpg": b"not an image, whatever its name says",
    "val/cat/cut.png": None,
    "test/dog/UPPER.JPEG": b"\xff\xd8\xff",
}


@pytest.fixture
def broken(tmp_path):
    tree(tmp_path, ["train", "val", "test"], n=3)
    whole = (tmp_path / "train/cat/00.png").read_bytes()
    for name, content in BROKEN.items():
        (tmp_path / name).write_bytes(whole[:-40] if content is None else content)
    return tmp_path


def test_all_bad_files_are_listed_at_once(broken):
    with pytest.raises(ValueError, match="4 of 22 images cannot be used") as error:
        image_folder(root=str(broken))
    for name in BROKEN:
        assert name in str(error.value)
    assert "empty (0 bytes)" in str(error.value)
    assert "on_bad_file=skip" in str(error.value)


def test_bad_files_are_quarantined(broken, caplog):
    with caplog.at_level(logging.WARNING):
        made = image_folder(root=str(broken), on_bad_file="skip")
    assert sizes(made) == {"train": 6, "val": 6, "test": 6}
    assert {entry["id"] for entry in made.notes["quarantined"]} == set(BROKEN)
    assert all(entry["reason"] for entry in made.notes["quarantined"])
    assert "left out 4 of 22" in caplog.text


def test_a_class_that_is_bad_as_a_whole_is_refused(tmp_path):
    tree(tmp_path, ["train", "val", "test"], n=1)
    (tmp_path / "train/dog/00.png").write_bytes(b"")
    with pytest.raises(ValueError, match="'dog'"):
        image_folder(root=str(tmp_path), on_bad_file="skip")


def test_what_is_remembered_follows_the_files(broken):
    made = image_folder(root=str(broken), on_bad_file="skip")
    assert image_folder(root=str(broken), on_bad_file="skip").fingerprint == made.fingerprint
    path = broken / "train/cat/00.png"
    path.write_bytes(b"x")
    made = image_folder(root=str(broken), on_bad_file="skip")
    assert "train/cat/00.png" in {entry["id"] for entry in made.notes["quarantined"]}


def test_a_file_that_breaks_later_is_named(tmp_path):
    made = image_folder(root=str(tree(tmp_path, ["train", "val", "test"], n=2)))
    (tmp_path / "train/cat/00.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train/cat/00\.png is empty"):
        made.train[0]


def test_duplicates_are_reported_and_dropped(tmp_path, caplog):
    tree(tmp_path, ["train", "val", "test"], n=4)
    pixels = np.asarray(Image.open(tmp_path / "test/cat/01.png"))
    write(tmp_path / "train/dog/same.png", pixels)  # the same pixels in another file
    with caplog.at_level(logging.WARNING):
        made = image_folder(root=str(tmp_path))
    assert made.notes["duplicates"] == {"test": [["train/dog/same.png", "test/cat/01.png"]]}
    assert "drop_duplicates" in caplog.text
    assert len(made.train) == 9
    clean = image_folder(root=str(tmp_path), drop_duplicates=True)
    assert len(clean.train) == 8
    assert "duplicates" not in clean.notes
    assert clean.notes["duplicates_removed"] == ["train/dog/same.png"]


def test_copies_do_not_part_between_train_and_a_split_that_is_made(tmp_path):
    tree(tmp_path, ["train", "test"], n=20)
    for i in range(20):
        shutil.copy(tmp_path / f"train/cat/{i:02d}.png", tmp_path / f"train/cat/copy{i}.png")
    made = image_folder(root=str(tmp_path), drop_duplicates=True)
    assert not set(made.train.keys) & set(made.val.keys)


def test_extra_folders_are_further_evaluation_sets(tmp_path):
    tree(tmp_path / "a", ["train", "val", "test", "fog"], n=2)
    tree(tmp_path / "b", ["."], n=3)
    made = image_folder(root=str(tmp_path / "a"), extra={"fog": "fog", "far": str(tmp_path / "b")})
    assert {name: len(split) for name, split in made.extra.items()} == {"fog": 4, "far": 6}
    assert made.extra["far"].ids[0] == "far/cat/00.png"
    assert made.extra["fog"].ids[0] == "fog/cat/00.png"


def test_extra_folders_have_the_same_classes(tmp_path):
    tree(tmp_path, ["train", "val", "test"], n=2)
    tree(tmp_path, ["less"], classes=("cat",), n=2)
    tree(tmp_path, ["more"], classes=("cat", "dog", "emu"), n=2)
    with pytest.raises(ValueError, match="lacks classes of train: 'dog'"):
        image_folder(root=str(tmp_path), extra={"less": "less"})
    with pytest.raises(ValueError, match="'emu'"):
        image_folder(root=str(tmp_path), extra={"more": "more"})


def test_classes_that_look_the_same_are_refused(tmp_path):
    tree(tmp_path, ["."], classes=("caf\u00e9", "cafe\u0301", "1.1", "1.10"), n=2)
    with pytest.raises(ValueError, match=r"'cafe\\u0301' and 'caf\\xe9'; rename one"):
        image_folder(root=str(tmp_path))


def test_names_that_are_not_utf_8_are_named(tmp_path):
    tree(tmp_path, ["."], n=2)
    (tmp_path / "cat/00.png").rename(tmp_path / "cat" / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(ValueError, match=r"1 files have names .*'cat/caf\\udce9\.png'; rename"):
        image_folder(root=str(tmp_path))


def test_few_labels(tmp_path):
    root = str(tree(tmp_path, ["train", "test"], n=12))
    made = image_folder(root=root, labels_per_class=3)
    assert Counter(made.train.targets) == Counter(made.val.targets) == {0: 3, 1: 3}
    other = image_folder(root=root, labels_per_class=3, seed=1)
    assert other.train.ids != made.train.ids
    assert other.test.ids == made.test.ids
    whole = image_folder(root=root, labels_per_class=3, limit_val=False, val_fraction=0.25)
    assert len(whole.val) == 6
    assert sizes(image_folder(root=root, fraction=0.5, val_fraction=0.5)) == {
        "train": 6,
        "val": 6,
        "test": 24,
    }
    drawn = {f: image_folder(root=root, fraction=f, val_fraction=0.5) for f in (0.2, 0.5, 1.0)}
    assert set(drawn[0.2].train.ids) < set(drawn[0.5].train.ids) < set(drawn[1.0].train.ids)
    assert set(drawn[0.2].val.ids) < set(drawn[0.5].val.ids) < set(drawn[1.0].val.ids)
    with pytest.raises(ValueError, match="too few"):
        image_folder(root=root, labels_per_class=7)


def test_flips_may_change_the_label(tmp_path):
    root = str(tree(tmp_path, ["train", "val", "test"], n=1))
    assert image_folder(root=root).inputs.label_changing == frozenset()
    assert "horizontal_flip" in image_folder(root=root, flips=False).inputs.label_changing


def test_splits_go_to_workers(tmp_path):
    made = image_folder(root=str(tree(tmp_path, ["train", "val", "test"], n=1)))
    again = pickle.loads(pickle.dumps(made))
    assert again.train[0]["input"].tobytes() == made.train[0]["input"].tobytes()


def test_wrong_trees_are_named(tmp_path):
    def refused(match, **arguments):
        with pytest.raises(ValueError, match=match):
            image_folder(**{"root": str(tmp_path), **arguments})

    refused("is no folder; give one that exists", root=str(tmp_path / "none"))
    refused("no folders of classes")
    write(tmp_path / "a.png")
    refused("no folders of classes")
    (tmp_path / "cat").mkdir()
    refused("hold no images")
    tree(tmp_path, ["test"], n=1)
    refused("but no train/")
    tree(tmp_path, ["train"], classes=("dog",), n=4)
    refused("lacks: 'cat'")
    (tmp_path / "train/cat").mkdir()
    refused("classes without an image in .*'cat'")
    tree(tmp_path, ["train", "valid", "dev"], n=4)
    refused("dev and valid; give the one that is meant, as dataset.val=dev")
    refused("dataset.val='vla' is no folder", val="vla")
    refused("serves more than one split", val="test")
    refused("'val' is a split already", val=None, extra={"val": "valid"})
    refused("fog='fgo' is no folder", val="valid", extra={"fog": "fgo"})
    refused("on_bad_file='ignore'", val="valid", on_bad_file="ignore")
    assert len(image_folder(root=str(tmp_path), val="valid").val) == 8
    assert len(image_folder(root=str(tmp_path), val=None, val_fraction=0.25).val) == 2


# -- names of splits ------------------------------------------------------------------------------


NAMES = [
    (["Training", "Testing"], ["train", "test"]),
    (["TRAIN", "Validation", "TEST"], ["train", "val", "test"]),
    (["train", "dev", "test_set"], ["train", "val", "test"]),
    (["training_set", "tst"], ["train", "test"]),
    (["seg_train", "seg_test"], ["train", "test"]),
    (["mine_train", "mine_valid", "mine_test"], ["train", "val", "test"]),
    (["train2017", "val2017"], ["train", "val"]),
    (["tr", "val", "te"], ["train", "val", "test"]),
]


@pytest.mark.parametrize(("folders", "splits"), NAMES, ids=str)
def test_usual_names_are_splits(tmp_path, folders, splits):
    tree(tmp_path, folders, n=2)
    (tmp_path / "README").write_text("photographs")
    places = split_folders.find(tmp_path, NAMED, {})
    assert {split: p.name for split, p in places.folders.items()} == dict(
        zip(splits, folders, strict=True)
    )
    assert places.unused == ["README"]


CLASSES = [
    ["cat", "dog"],
    ["valid", "invalid"],
    ["de", "tr", "te"],
    ["dev", "ops"],
    ["trainer", "x"],
]


@pytest.mark.parametrize("folders", CLASSES, ids=str)
def test_classes_of_such_names_stay_classes(tmp_path, folders):
    """The splits are those of a tree of other names, whatever these look like."""
    for folder in folders:
        write(tmp_path / folder / "00.png")
    assert split_folders.find(tmp_path, NAMED, {}) == split_folders.Places({"train": tmp_path}, [])


def test_classes_with_folders_in_them_stay_classes(tmp_path):
    tree(tmp_path, ["de", "tr", "te"], classes=("2019", "2020"), n=1)
    assert split_folders.find(tmp_path, NAMED, {}).folders == {"train": tmp_path}


UNSURE = [
    (["Testing", "cat", "dog"], "but no train/"),
    (["Training", "walking"], "may be splits or classes"),
    (["tr", "te"], "may be splits or classes"),
    (["train_old", "train_new"], "may be splits or classes"),
    (["Traning", "Tesing"], "may be splits or classes"),
    (["fold1", "fold2"], "may be splits or classes"),
    (["data/train", "data/test"], "data is divided itself: test/, train/; give dataset.root="),
    (["train", "eval"], "dataset.val=eval takes it, dataset.val=null splits off"),
    (["train", "val", "test_easy", "test_hard"], "dataset.test=test_easy takes it"),
    (["train", "Testing", "TST"], "TST and Testing; give the one"),
    (["Training", "training_set", "test"], "Training and training_set; give the one"),
    (["cat/train", "cat/test", "dog/train", "dog/test"], "is divided itself: test/, train/"),
]


@pytest.mark.parametrize(("folders", "says"), UNSURE, ids=str)
def test_what_may_be_a_split_is_refused_with_what_settles_it(tmp_path, folders, says):
    for folder in folders:
        for name in ("cat", "dog"):
            (tmp_path / folder / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=says):
        split_folders.find(tmp_path, NAMED, {})
    settled = split_folders.find(tmp_path, {"train": ".", "val": None, "test": None}, {})
    assert settled.folders["train"].samefile(tmp_path)


def test_what_lies_beside_the_splits_is_named(tmp_path, caplog):
    tree(tmp_path, ["in/Training", "in/Testing", "in/night"], n=2)
    tree(tmp_path, ["old"], n=1)
    made = image_folder(root=str(tmp_path), train="in/Training", val_fraction=0.5)
    assert made.test.ids[0] == "in/Testing/cat/00.png"
    assert made.notes["unused"] == ["old/", "in/night/"]
    assert "not used: old/, in/night/" in caplog.text
    image_folder(root=str(tmp_path / "in/Training"), val_fraction=0.5, test_fraction=0.5)
    assert "not used: ../Testing/" in caplog.text


def test_other_splits_in_a_tree_of_classes_are_no_classes(tmp_path):
    tree(tmp_path, ["."], n=4)
    tree(tmp_path, ["Testing", "night"], n=1)
    keys = {"train": ".", "test": "Testing", "extra": {"fog": "night"}}
    made = image_folder(root=str(tmp_path), val_fraction=0.25, **keys)
    assert made.labels.names == ("cat", "dog")
    assert sizes(made) == {"train": 6, "val": 2, "test": 2}


def test_classes_that_are_never_tested_are_named(tmp_path, caplog):
    tree(tmp_path, ["train"], classes=("cat", "dog", "unsup"), n=4)
    tree(tmp_path, ["test"], n=2)
    made = image_folder(root=str(tmp_path), val_fraction=0.25)
    assert "test has none of 1 classes of train: 'unsup' (3)" in caplog.text
    assert made.notes["classes_without_test"] == ["unsup"]


@pytest.mark.parametrize("name", ["unlabeled", "unsup", "no_label"])
def test_names_of_items_without_a_label_are_no_classes(tmp_path, caplog, name):
    image_folder(root=str(tree(tmp_path, ["."], classes=("cat", name), n=4)))
    assert f"{name!r} is trained as a class" in caplog.text


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "", ".", "..", " x", "a\\b", "x" * 200, "c:d", "-n"]
)
def test_names_of_further_sets_are_names_of_files(tmp_path, name):
    tree(tmp_path, ["train", "test"], n=2)
    with pytest.raises(ValueError, match=r"dataset\.extra: .* names files of the run"):
        image_folder(root=str(tmp_path), extra={name: "test"})


def test_names_of_further_sets_differ_by_more_than_case(tmp_path):
    tree(tmp_path, ["train", "test"], n=2)
    for extra in ({"Night": "test", "night": "test"}, {"Test": "test"}):
        with pytest.raises(ValueError, match=r"dataset\.extra: files of .* are the same on some"):
            image_folder(root=str(tmp_path), extra=extra)


def test_further_sets_of_ones_own_functions_have_names_too(tmp_path):
    tree(tmp_path, ["train", "test"], n=2)
    made = image_folder(root=str(tmp_path))
    with pytest.raises(ValueError, match=r"'\.\./evil' names files of the run"):
        replace(made, extra={"../evil": made.test})


# -- tables ---------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """Writes a table beside twelve images."""
    for i in range(12):
        write(tmp_path / f"images/{i}.png")

    def make(header, lines, *, name="data.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
        return str(path)

    return make


def rows(labels, splits=None):
    return [
        ",".join([f"images/{i}.png", label, *([splits[i]] if splits else [])])
        for i, label in enumerate(labels)
    ]


SPLITS = ["train"] * 6 + ["val"] * 2 + ["test"] * 2 + ["fog"] * 2


def test_table_of_classes(table):
    path = table("path,label,split", rows(["dog", "cat"] * 6, SPLITS))
    made = image_csv(path=path, extra=["fog"])
    assert sizes(made) == {"train": 6, "val": 2, "test": 2}
    assert made.labels.names == ("cat", "dog")
    assert made.train.ids[:2] == ["images/0.png", "images/1.png"]
    assert list(made.train.targets[:2]) == [1, 0]
    assert len(made.extra["fog"]) == 2
    assert made.train[0]["input"].size == (7, 6)


def test_table_without_splits(table):
    path = table("path,label", rows(["dog", "cat"] * 6))
    made = image_csv(path=path, val_fraction=0.3, test_fraction=0.34)
    assert sizes(made) == {"train": 6, "val": 2, "test": 4}
    assert Counter(made.train.targets) == {0: 3, 1: 3}


def test_table_with_tabs_other_names_and_a_mark(table, tmp_path):
    lines = [line.removeprefix("images/").replace(",", "\t") for line in rows(["b", "a"] * 6)]
    path = table("file\tkind", lines, name="data.tsv", encoding="utf-8-sig")
    made = image_csv(
        path=path, root=str(tmp_path / "images"), image_column="file", label_column="kind"
    )
    assert sum(sizes(made).values()) == 12
    assert "0.png" in everything(made)


def test_table_of_several_labels(table):
    labels = ["a|b", "", "c", "a|c", "b", "a"] * 2
    path = table("path,label,split", rows(labels, SPLITS))
    made = image_csv(path=path, kind="multi", extra=["fog"])
    assert made.labels.kind == "multi"
    assert made.labels.names == ("a", "b", "c")
    assert [tuple(t) for t in made.train.targets[:3]] == [(1, 1, 0), (0, 0, 0), (0, 0, 1)]


def test_table_of_numbers(table):
    path = table("path,age", rows([str(i / 4) for i in range(12)]))
    made = image_csv(path=path, kind="real", label_column="age")
    assert (made.labels.kind, made.labels.names) == ("real", ("age",))
    targets = dict(zip(made.train.ids, made.train.targets, strict=True))
    assert all(tuple(t) == (int(Path(i).stem) / 4,) for i, t in targets.items())
    path = table("path,at", rows([f"{i}|-{i}e-1" for i in range(12)]))
    made = image_csv(path=path, kind="real", label_column="at")
    assert made.labels.names == ("at_0", "at_1")


def test_all_wrong_lines_are_listed(table):
    lines = [
        *("images/0.png,1.5,train", "images/1.png,nan,train", "images/2.png,tall,val"),
        *("images/3.png", ",2.0,train", "images/4.png,2,tset", "images/5.png,1,val,more"),
        "images/6.png,1|2,train",
    ]
    with pytest.raises(ValueError, match="7 of 8 lines are wrong") as error:
        image_csv(path=table("path,label,split", lines), kind="real")
    for text in ("3: label 'nan'", "5: 1 fields, and there are 3", "6: no path", "7: split 'tset'"):
        assert f"data.csv:{text}" in str(error.value)
    assert "data.csv:8: 4 fields" in str(error.value)
    assert "data.csv:9: 2 numbers, others have 1" in str(error.value)


def test_missing_and_bad_images_of_a_table_are_listed(table, tmp_path):
    (tmp_path / "images/3.png").write_bytes(b"")
    lines = [*rows(["a", "b"] * 6), "images/none.png,a"]
    with pytest.raises(ValueError, match="2 of 13") as error:
        image_csv(path=table("path,label", lines))
    assert "images/none.png cannot be opened" in str(error.value)


def test_wrong_tables_are_named(table, tmp_path):
    good = table("path,label", rows(["a", "b"] * 6), name="good.csv")

    def refused(match, **arguments):
        with pytest.raises(ValueError, match=match):
            image_csv(**{"path": good, **arguments})

    refused("No such file", path=str(tmp_path / "none.csv"))
    refused("label_column='lable' is no column.*did you mean 'label'", label_column="lable")
    refused("split_column='part' is no column", split_column="part")
    refused("kind='mulit'", kind="mulit")
    refused("no lines", path=table("path,label", [], name="short.csv"))
    refused("twice", path=table("path,label", rows(["a"] * 4) + rows(["a"]), name="twice.csv"))
    only = table("path,label,split", rows(["a"] * 12, ["test"] * 12), name="only.csv")
    refused("train split has no images", path=only)
    new = table(
        "path,label,split", rows(["a"] * 11 + ["b"], SPLITS[:9] + ["test"] * 3), name="n.csv"
    )
    refused("n.csv:13: label 'b' is in no line of train", path=new)


@pytest.mark.real
def test_sign_digits():
    base = os.environ.get("TLX_REAL_DATA")
    if not base:
        pytest.skip("TLX_REAL_DATA is not set")
    made = image_folder(root=str(Path(base) / "signdigits"), flips=False)
    assert made.labels.names == tuple("0123456789")
    assert len(made.train) + len(made.val) == 1644
    assert len(made.test) == 418
    assert len(made.val) == round(0.15 * 1644)
    shares = Counter(made.val.targets)
    whole = Counter([*made.train.targets, *made.val.targets])
    assert all(abs(shares[c] - 0.15 * whole[c]) < 1 for c in range(10))
    few = image_folder(root=str(Path(base) / "signdigits"), labels_per_class=5)
    assert Counter(few.train.targets) == Counter(few.val.targets) == dict.fromkeys(range(10), 5)
