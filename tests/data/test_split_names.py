"""Names of splits: of files, of columns, of sets on the hub."""

import json
import re

import pytest

from tlx.config import files
from tlx.data.images.huggingface import _chosen
from tlx.data.images.table import image_csv
from tlx.data.split_names import read
from tlx.data.text.conll import conll
from tlx.data.text.lines import text_lines
from tlx.data.text.table import text_csv

ROWS = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20))


def write(path, content=f"text,label\n{ROWS}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return str(path)


def refused(says, source, **keys):
    with pytest.raises(ValueError, match=re.escape(says)):
        source(**keys)


@pytest.mark.parametrize(
    "name", ["contest", "trainer", "latest", "invalid", "validity", "raining", "7"]
)
def test_words_that_hold_a_splits_name_are_none(name):
    assert read(name) is None


@pytest.mark.parametrize(
    ("name", "splits", "grade"),
    [
        ("Training", ("train",), "sure"),
        ("TEST_SET", ("test",), "sure"),
        ("testData", ("test",), "sure"),
        ("val2017", ("val",), "sure"),
        ("Dev", ("val",), "short"),
        ("te", ("test",), "short"),
        ("PublicTest", ("test",), "maybe"),
        ("eval", ("val", "test"), "maybe"),
        ("Traning", ("train",), "maybe"),
        ("validaton_set", ("val",), "maybe"),
        ("trainval", ("train", "val"), "maybe"),
    ],
)
def test_spellings(name, splits, grade):
    found = read(name)
    assert (found.splits, found.grade) == (splits, grade)


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("Train.csv", "Validation.csv", "TEST.csv"),
        ("training.csv", "dev.csv", "Testing.csv"),
        ("imdb_train.csv", "imdb_val.csv", "imdb_test.csv"),
    ],
)
def test_tables_of_usual_names_are_found(tmp_path, names, caplog):
    for name in (*names, "night.csv"):
        write(tmp_path / name, f"text,label\n{ROWS.replace('text', name)}")
    made = text_csv(root=str(tmp_path))
    firsts = [split.ids[0] for split in (made.train, made.val, made.test)]
    assert firsts == [f"{name}:2" for name in names]
    assert made.notes["unused"] == ["night.csv"]
    assert "not used: night.csv" in caplog.text


def test_tables_that_may_be_a_split_are_refused(tmp_path):
    root = str(tmp_path)
    write(tmp_path / "train.csv")
    write(tmp_path / "test_matched.csv")
    says = "dataset.test=test_matched.csv takes it, dataset.test=null splits off a part of train"
    refused(says, text_csv, root=root)
    assert len(text_csv(root=root, test="test_matched").test) == 20
    assert len(text_csv(root=root, test=None).test) == 3
    (tmp_path / "test_matched.csv").rename(tmp_path / "test.xml")
    refused("dataset.test=test.xml takes it", text_csv, root=root)
    write(tmp_path / "Testing.csv")
    write(tmp_path / "TST.csv")
    refused("TST.csv and Testing.csv; give the one that is meant", text_csv, root=root)


def test_files_of_columns_of_usual_names_are_found(tmp_path):
    lines = "".join(f"word{i} B-x\n\n" for i in range(20))
    for name in ("Training.txt", "Valid.conll"):
        write(tmp_path / name, lines.replace("word", name))
    write(tmp_path / "holdout.txt", lines)
    root = str(tmp_path)
    refused("dataset.test=holdout.txt takes it, dataset.test='' splits off", conll, root=root)
    made = conll(root=root, test="")
    assert (len(made.train), len(made.val), len(made.test)) == (17, 20, 3)
    assert made.notes["unused"] == ["holdout.txt"]
    assert len(conll(root=root, test="holdout.txt").test) == 20


def test_tables_of_json_come_after_all_others(tmp_path):
    rows = json.dumps([{"text": f"json {i}", "label": "ab"[i % 2]} for i in range(20)])
    for name in ("train.json", "dev.json", "test.json"):
        write(tmp_path / name, rows)
    made = text_csv(root=str(tmp_path))
    assert [split.ids[0] for split in (made.train, made.val, made.test)] == [
        f"{name}.json:1" for name in ("train", "dev", "test")
    ]
    config = {"_target_": "tlx.data.text.table.text_csv", "root": str(tmp_path)}
    assert files.check({"dataset": config}) == []
    write(tmp_path / "train.csv")
    assert text_csv(root=str(tmp_path)).train.ids[0] == "train.csv:2"


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (("eng.train", "eng.testa", "eng.testb"), ["eng.raw"]),
        (("esp.train", "esp.testa", "esp.testb"), []),
        (("ned.train.txt", "ned.testa.txt", "ned.testb.txt"), []),
        (("train.char.bmes", "dev.char.bmes", "test.char.bmes"), ["README.md"]),
        (("train.char.bmes", None, "test.char.bmes"), []),
        (("train.all.bmes", None, None), []),
        (("weiboNER_2nd_conll.train", "weiboNER_2nd_conll.dev", "weiboNER_2nd_conll.test"), []),
        (("onto.train.ner", "onto.development.ner", "onto.test.ner"), []),
        (("conllpp_train.txt", "conllpp_dev.txt", "conllpp_test.txt"), []),
        (("Genia4ERtask1.iob2", None, "Genia4EReval1.iob2"), []),
        (("engtrain.bio", None, "engtest.bio"), []),
        (("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"), []),
        (("train.txt", "dev.txt", "test.txt"), ["train.char.bmes"]),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_files_are_found_as_corpora_ship_them(tmp_path, names, others):
    rows = "".join(f"word{i} B-x\n\n" for i in range(20))
    for name in (*filter(None, names), *others):
        write(tmp_path / name, rows.replace("word", name))
    made = conll(root=str(tmp_path))
    splits = zip(("train", "val", "test"), names, strict=True)
    assert made.notes["files"] == {split: name for split, name in splits if name}
    assert made.notes.get("unused", []) == others
    found = files.check(
        {"dataset": {"_target_": "tlx.data.text.conll.conll", "root": str(tmp_path)}}
    )
    assert found == []


def test_files_of_corpora_that_may_be_meant_are_named(tmp_path):
    rows = "".join(f"word{i} B-x\n\n" for i in range(20))
    root = str(tmp_path)
    for name in ("train.char.bmes", "train.word.bmes", "x.md"):
        write(tmp_path / name, rows)
    refused("give the one that is meant, as dataset.train=train.char.bmes", conll, root=root)
    (tmp_path / "train.char.bmes").rename(tmp_path / "msra_train.src")
    (tmp_path / "train.word.bmes").rename(tmp_path / "eng.testa.src")
    refused("as train.txt or train.conll; there are msra_train.src", conll, root=root)
    (found,) = files.check({"dataset": {"_target_": "tlx.data.text.conll.conll", "root": root}})
    assert "name it here; there are msra_train.src" in str(found)
    named = {"root": root, "train": "msra_train.src"}
    refused("dataset.val=eng.testa.src takes it, dataset.val='' splits off", conll, **named)
    assert len(conll(**named, val="eng.testa.src").val) == 20


def test_what_lies_beside_a_single_file_is_named(tmp_path, caplog):
    path = write(tmp_path / "train.csv")
    write(tmp_path / "test.csv")
    made = text_csv(path=path)
    assert made.notes["unused"] == ["test.csv"]
    assert f"dataset.root={tmp_path}" in caplog.text
    caplog.clear()
    text_lines(path=path, test=str(tmp_path / "test.csv"))
    assert not [r for r in caplog.messages if "not used" in r]
    text_lines(path=path)
    assert "not used: test.csv" in caplog.text


def test_a_folder_of_documents_that_holds_splits_is_refused(tmp_path):
    for name in ("wiki.train.txt", "wiki.valid.txt", "wiki.test.txt"):
        write(tmp_path / name, "a text\n" * 9)
    refused(f"dataset.test={tmp_path}/wiki.test.txt", text_lines, path=str(tmp_path))
    (tmp_path / "wiki.train.txt").rename(tmp_path / "wiki.txt")
    assert len(text_lines(path=str(tmp_path)).train) == 1


# -- columns ----------------------------------------------------------------------------------


def table(path, column, cells):
    rows = [f"text {i},{'ab'[i // 3 % 2]},{cells[i % 3]}" for i in range(30)]
    return write(path, "\n".join([f"text,label,{column}", *rows]))


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("split", ["Training", "VALIDATION", "Test"]),
        ("Split", ["train", "dev", "test"]),
        ("data_split", ["train", "val", "test"]),
    ],
)
def test_columns_of_usual_names_divide(tmp_path, column, cells):
    made = text_csv(path=table(tmp_path / "a.csv", column, cells))
    assert [len(split) for split in (made.train, made.val, made.test)] == [10, 10, 10]
    assert made.val.ids[0] == "a.csv:3"


def test_other_columns_with_names_of_splits_are_refused(tmp_path):
    path = table(tmp_path / "a.csv", "Usage", ["Training", "PublicTest", "PrivateTest"])
    refused("dataset.split_column='Usage' divides by it", text_csv, path=path)
    refused("dataset.split_column=null does not", text_csv, path=path)
    assert len(text_csv(path=path, split_column=None).test) < 10
    given = {"split_column": "Usage", "val": "PublicTest", "test": "PrivateTest"}
    assert len(text_csv(path=path, **given).test) == 10
    keys = {
        "image_column": "text",
        "path": table(tmp_path / "b.csv", "who", ["train", "test", "te"]),
    }
    refused("dataset.split_column='who' divides by it", image_csv, **keys)
    other = table(tmp_path / "c.csv", "vehicle", ["train", "bus", "car"])
    assert len(text_csv(path=other).test) < 10


@pytest.mark.parametrize(
    ("column", "cells"),
    [("is_test", "001"), ("isTrain", ["True", "True", "False"]), ("in_validation", "100")],
)
def test_columns_that_flag_a_split_are_refused(tmp_path, column, cells):
    path = table(tmp_path / "a.csv", column, cells)
    refused(f"the column {column!r} says which lines are in", text_csv, path=path)
    assert len(text_csv(path=path, split_column=None).test) < 10


@pytest.mark.parametrize(
    ("column", "cells"), [("test", "012"), ("tested", "001"), ("invalid", "001")]
)
def test_other_columns_of_numbers_flag_nothing(tmp_path, column, cells):
    assert len(text_csv(path=table(tmp_path / "a.csv", column, cells)).test) < 10


# -- the hub ----------------------------------------------------------------------------------


def chosen(*names, train="train", val=None, test=None):
    found, notes = _chosen({name: name for name in names}, "owner/name", train, val, test)
    return found, notes.get("unused", [])


def test_splits_of_the_hub(caplog):
    assert chosen("train", "test", "unsupervised") == (
        {"train": "train", "test": "test"},
        ["unsupervised"],
    )
    assert "not used: unsupervised" in caplog.text
    assert chosen("Training", "Testing")[0] == {"train": "Training", "test": "Testing"}
    assert chosen("train", "valid", "dev") == ({"train": "train", "val": "valid"}, ["dev"])
    with pytest.raises(ValueError, match=r"dataset\.val=validation_matched takes it, .*val=''"):
        chosen("train", "validation_matched", "validation_mismatched")
    assert chosen("train", "val_a", val="")[0] == {"train": "train"}
    with pytest.raises(ValueError, match="'train' is no split of owner/name; there are a, b"):
        chosen("a", "b")
