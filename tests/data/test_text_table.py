"""Tables of texts: what goes where, under which id, and what is refused, with file and line."""

import csv
import json
import logging
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.data.tables.rows import read
from tlx.data.text.table import text_csv

CHINESE = ["今天天气很好", "我不喜欢这部电影", "非常棒的体验", "太糟糕了"]


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return str(path)


def lines(n, *, start=0):
    return "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(start, start + n))


def refused(said, **keys):
    first, *more = [said] if isinstance(said, str) else said
    with pytest.raises(ValueError, match=re.escape(first)) as error:
        text_csv(**keys)
    for part in more:
        assert part in str(error.value), str(error.value)


def sizes(made):
    return {"train": len(made.train), "val": len(made.val), "test": len(made.test)}


# -- division -----------------------------------------------------------------------------------


def test_one_table_is_divided_by_class(tmp_path):
    path = write(tmp_path / "all.csv", "text,label\n" + lines(40))
    made = text_csv(path=path, val_fraction=0.25, test_fraction=0.2)
    assert sizes(made) == {"train": 24, "val": 8, "test": 8}
    for split in (made.train, made.val, made.test):
        assert set(Counter(split.targets).values()) == {len(split) // 2}
    again = text_csv(path=path, val_fraction=0.25, test_fraction=0.2, seed=5)
    assert again.test.ids == made.test.ids
    assert again.fingerprint == made.fingerprint


def test_a_column_divides(tmp_path):
    names = ["train", "validation", "test", "night"] * 3
    rows = [f"text {i},{'ab'[i // 4 % 2]},{name}" for i, name in enumerate([*names, "train"])]
    path = write(tmp_path / "all.csv", "\n".join(["text,label,split", *rows]))
    made = text_csv(path=path, extra={"dark": "night"})
    assert sizes(made) == {"train": 4, "val": 3, "test": 3}
    assert made.extra["dark"].ids == ["all.csv:5", "all.csv:9", "all.csv:13"]
    assert made.val[0] == {"id": "all.csv:3", "input": "text 1", "target": 0}
    refused(["3 of 13 lines are wrong", "all.csv:5: split 'night' is none of"], path=path)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev"])
def test_files_of_usual_names_are_found(tmp_path, val):
    write(tmp_path / "train.tsv", "0\tbad\n1\tgood\n")
    write(tmp_path / f"{val}.tsv", "1\tfine\n")
    write(tmp_path / "test.tsv", "0\tawful\n")
    made = text_csv(root=str(tmp_path), text_column=1, label_column=0)
    assert [made.train.ids, made.val.ids, made.test.ids] == [
        ["train.tsv:1", "train.tsv:2"],
        [f"{val}.tsv:1"],
        ["test.tsv:1"],
    ]
    assert made.labels.names == ("0", "1")


def test_files_of_other_names(tmp_path):
    for name in ("a", "b", "c", "d"):
        write(tmp_path / f"{name}.csv", "text,label\n" + lines(20, start=20 * ord(name)))
    root = str(tmp_path)
    refused(["dataset.train='train' is no table", "'a.csv', 'b.csv'"], root=root)
    made = text_csv(root=root, train="a.csv", val="b", test="c", extra={"far": "d.csv"})
    assert made.val.ids[0] == "b.csv:2"
    assert list(made.extra) == ["far"]
    refused("serves more than one split", root=root, train="a", test="a.csv")
    refused("dataset.extra: 'val' is a split", root=root, train="a", extra={"val": "b"})
    write(tmp_path / "train.csv", "")
    write(tmp_path / "train.tsv", "")
    refused("train.csv and train.tsv", root=root)
    assert sizes(text_csv(root=root, train="a", val=None, test=None))["train"] < 20


def test_one_of_path_and_root_is_given(tmp_path):
    refused("give one of them")
    refused("give one of them", path="a.csv", root=str(tmp_path))
    refused("is no folder", root=str(tmp_path / "gone"))
    refused("No such file", path=str(tmp_path / "gone.csv"))


def test_few_labels_and_duplicates(tmp_path, caplog):
    write(tmp_path / "train.csv", "text,label\n" + lines(40))
    write(tmp_path / "test.csv", "text,label\n" + lines(4))
    few = text_csv(root=str(tmp_path), labels_per_class=3)
    assert Counter(few.train.targets) == Counter(few.val.targets) == {0: 3, 1: 3}
    with caplog.at_level(logging.WARNING):
        made = text_csv(root=str(tmp_path), val_fraction=0.1)
    assert "texts of train are in test too" in caplog.text
    inside = {f"test.csv:{i}" for i in range(2, 6)}
    assert {b for _, b in made.notes["duplicates"]["test"]} <= inside
    clean = text_csv(root=str(tmp_path), drop_duplicates=True)
    assert "duplicates" not in clean.notes
    assert len(clean.notes["duplicates_removed"]) == 4
    assert not set(clean.train.keys) & set(clean.test.keys)


# -- formats ------------------------------------------------------------------------------------


TEXTS = ["plain", 'with "quotes", and a comma', "two\nlines", "tab\there", *CHINESE]


def test_formats_agree(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = [f"{text} {i}" for i in range(3) for text in TEXTS]
    labels = [i % 2 for i in range(len(texts))]
    for name, delimiter in (("a.csv", ","), ("a.txt", ",")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter=delimiter)
            writer.writerows([("text", "label"), *zip(texts, labels, strict=True)])
    objects = [{"text": t, "label": y} for t, y in zip(texts, labels, strict=True)]
    write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, objects)))
    parquet.write_table(pyarrow.Table.from_pylist(objects), tmp_path / "a.parquet")
    found = []
    for name in ("a.csv", "a.txt", "a.jsonl", "a.parquet"):
        made = text_csv(path=str(tmp_path / name), format="csv" if name == "a.txt" else None)
        splits = (made.train, made.val, made.test)
        found.append(sorted(pair for s in splits for pair in zip(s.inputs, s.targets, strict=True)))
    assert found[0] == sorted(zip(texts, labels, strict=True))
    assert all(each == found[0] for each in found)


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=2, max_size=2),
        min_size=1,
    )
)
def test_what_csv_writes_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(rows)
    table = read(path, format=None, header=False, quoting="standard", encoding="utf-8")
    assert [list(fields) for _, fields in table.rows] == rows
    assert not table.wrong


def test_quotes_as_characters(tmp_path):
    rows = ['0\t"open and never closed', '1\tsay "so"', '0\t"', '1\t"whole"']
    write(tmp_path / "train.tsv", "\n".join(rows))
    keys = {"root": str(tmp_path), "text_column": 1, "label_column": 0}
    made = text_csv(**keys, quoting="none", val_fraction=0.5, test_fraction=0.5)
    found = [*made.train.inputs, *made.val.inputs, *made.test.inputs]
    assert sorted(found) == sorted(row[2:] for row in rows)
    refused(["train.tsv:1", "dataset.quoting=none"], **keys)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_chinese_in_any_encoding(tmp_path, encoding):
    rows = "".join(f"{text},{'好坏'[i % 2]}\n" for i, text in enumerate(CHINESE * 5))
    path = write(tmp_path / "a.csv", "text,label\n" + rows, encoding)
    given = "utf-8" if encoding == "utf-8-sig" else encoding
    made = text_csv(path=path, encoding=given)
    assert set(made.train.inputs) <= set(CHINESE)
    assert made.labels.names == ("坏", "好") == tuple(sorted("好坏"))
    assert list(made.inputs.corpus(made.train)) == list(made.train.inputs)


def test_wrong_bytes_are_named_by_line(tmp_path):
    path = tmp_path / "a.csv"
    good = "text,label\n" + lines(4)
    path.write_bytes(good.encode() + "好,a\n".encode("gb18030") + b"x,b\n" + b"\xff,a\n")
    refused([f"{path} is not in utf-8", "lines 6, 8", "gb18030"], path=str(path))
    refused("'utf-9' is no encoding", path=str(path), encoding="utf-9")


# -- labels -------------------------------------------------------------------------------------


def test_pairs(tmp_path):
    rows = "".join(f"p{i},h{i},{i % 2}\n" for i in range(10))
    path = write(tmp_path / "a.csv", "premise,hypothesis,label\n" + rows)
    made = text_csv(path=path, text_column="premise", pair_column="hypothesis")
    first = made.train[0]["input"]
    assert first[0][1:] == first[1][1:]
    assert (first[0][0], first[1][0]) == ("p", "h")
    assert len(list(made.inputs.corpus(made.train))) == 2 * len(made.train)


def test_several_labels_and_numbers(tmp_path):
    rows = [{"text": f"t{i}", "y": ["a", "b"] if i % 2 else [], "z": [i, i / 2]} for i in range(12)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    multi = text_csv(path=path, kind="multi", label_column="y")
    assert multi.labels.names == ("a", "b")
    assert set(multi.train.targets) == {(0.0, 0.0), (1.0, 1.0)}
    real = text_csv(path=path, kind="real", label_column="z")
    assert real.labels.names == ("z_0", "z_1")
    for name, target in zip(real.train.ids, real.train.targets, strict=True):
        number = int(name.partition(":")[2]) - 1
        assert target == (number, number / 2)


# -- what is refused ----------------------------------------------------------------------------


def test_all_wrong_lines_are_listed(tmp_path, caplog):
    text = "text,label,split\nfine,a,train\nfine too,b,train\n,a,train\nshort,a\n"
    path = write(
        tmp_path / "a.csv", text + "new,bb,test\nno label,,train\nx,a,tset\nlong,a,test,1\n"
    )
    refused(
        [
            "6 of 8 lines are wrong; dataset.on_empty=skip",
            "a.csv:4: no text",
            "a.csv:5: 2 fields, and there are 3 columns",
            "a.csv:6: label 'bb' is in no line of train",
            "a.csv:7: label '' is no class",
            "a.csv:8: split 'tset' is none of train, val",
            "a.csv:9: 4 fields",
        ],
        path=path,
    )
    good = write(tmp_path / "b.csv", "text,label\n" + lines(20) + " ,a\n")
    refused("b.csv:22: no text", path=good)
    with caplog.at_level(logging.WARNING):
        made = text_csv(path=good, on_empty="skip")
    assert made.notes["empty"] == ["b.csv:22"]
    assert "b.csv:22" in caplog.text
    assert sum(sizes(made).values()) == 20


def test_json_lines_that_are_wrong(tmp_path):
    rows = [
        '{"text": "a", "label": 1}',
        "{",
        "[1]",
        '{"text": 3, "label": 1}',
        r'{"text": "\ud800"}',
    ]
    path = write(tmp_path / "a.jsonl", "\n".join(rows))
    said = ["a.jsonl:2: no JSON", "a.jsonl:3: no object", "a.jsonl:4: 3 is no text", "a.jsonl:5"]
    refused(["4 of 5 lines", *said], path=path)


def test_columns_and_choices_that_are_wrong(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n" + lines(20))
    refused(["text_column='txt'", "did you mean 'text'"], path=path, text_column="txt")
    refused("has 2 columns, counted from 0", path=path, label_column=2)
    refused("split_column='part' is no column", path=path, split_column="part")
    refused("it has no line of names", path=path, header=False)
    refused("kind='mulit'", path=path, kind="mulit")
    refused("on_empty='no'", path=path, on_empty="no")
    refused("what format is '.dat'", path=write(tmp_path / "a.dat", "x"))
    refused("two columns 'text'", path=write(tmp_path / "b.csv", "text,text\na,b\n"))
    refused("is empty", path=write(tmp_path / "c.csv", ""))
    refused("cannot be read as Parquet", path=write(tmp_path / "d.parquet", "text,label"))


def test_a_long_list_is_cut(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n" + lines(2) + "x\n" * 50)
    with pytest.raises(ValueError, match=r"\(50 in all\)") as error:
        text_csv(path=path)
    assert len(str(error.value).splitlines()) == 22


@pytest.mark.real
def test_sst2():
    base = os.environ.get("TLX_REAL_DATA")
    if not base:
        pytest.skip("TLX_REAL_DATA is not set")
    root = str(Path(base) / "sst2")
    made = text_csv(root=root, text_column=1, label_column=0, quoting="none")
    assert sizes(made) == {"train": 6920, "val": 872, "test": 1821}
    whole = (Path(base) / "sst2" / "test.tsv").read_text(encoding="utf-8").splitlines()
    assert [f"{y}\t{t}" for t, y in zip(made.test.inputs, made.test.targets, strict=True)] == whole
