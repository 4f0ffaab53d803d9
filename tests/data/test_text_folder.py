"""Folders of texts, lines and long texts: what goes where, and what is refused."""

import logging
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.data.decoding import decoded, lines_of
from tlx.data.text.folder import text_folder
from tlx.data.text.lines import text_file, text_lines


def tree(root, splits, *, n=10):
    for split in splits:
        for name in ("cat", "dog"):
            for i in range(n):
                write(root / split / name / f"{i:02d}.txt", f"{split} 的 {name}\nnumber {i}\n")
    return str(root)


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def sizes(made):
    return {"train": len(made.train), "val": len(made.val), "test": len(made.test)}


# -- folders ------------------------------------------------------------------------------------


def test_a_divided_tree_is_taken_as_it_is(tmp_path):
    made = text_folder(root=tree(tmp_path, ["train", "val", "test"]))
    assert sizes(made) == {"train": 20, "val": 20, "test": 20}
    assert made.val[19] == {
        "id": "val/dog/09.txt",
        "input": "val 的 dog\nnumber 9",
        "target": 1,
    }
    assert made.labels.names == ("cat", "dog")
    assert list(made.inputs.corpus(made.train)) == [made.train[i]["input"] for i in range(20)]


def test_an_undivided_tree_is_divided(tmp_path):
    made = text_folder(root=tree(tmp_path, ["."]), val_fraction=0.25, test_fraction=0.2)
    assert sizes(made) == {"train": 12, "val": 4, "test": 4}
    for split in (made.train, made.val, made.test):
        assert len(set(Counter(split.targets).values())) == 1


def test_other_endings_are_noted(tmp_path, caplog):
    root = tree(tmp_path, ["train", "val", "test"], n=2)
    write(tmp_path / "train/cat/notes.md", "more")
    with caplog.at_level(logging.WARNING):
        made = text_folder(root=root)
    assert made.notes["ignored"] == ["train/cat/notes.md"]
    assert "no texts in a class folder" in caplog.text
    assert len(text_folder(root=root, ending=None).train) == 5
    with pytest.raises(ValueError, match=r"hold no texts; known suffixes are \.html"):
        text_folder(root=root, ending=".html")


def test_all_bad_files_are_listed(tmp_path, caplog):
    root = tree(tmp_path, ["train", "val", "test"])
    write(tmp_path / "train/cat/03.txt", " \n")
    write(tmp_path / "test/dog/01.txt", "")
    with pytest.raises(ValueError, match="on_empty=skip") as error:
        text_folder(root=root)
    assert "train/cat/03.txt: no text" in str(error.value)
    assert "test/dog/01.txt: no text" in str(error.value)
    with caplog.at_level(logging.WARNING):
        made = text_folder(root=root, on_empty="skip")
    assert made.notes["empty"] == ["train/cat/03.txt", "test/dog/01.txt"]
    assert sizes(made) == {"train": 19, "val": 20, "test": 19}
    write(tmp_path / "val/dog/02.txt", "好\n坏\n", "gb18030")
    write(tmp_path / "val/dog/05.txt", "fine\nü\n", "latin-1")
    with pytest.raises(ValueError, match="2 of 60 files are wrong") as error:
        text_folder(root=root, on_empty="skip")
    assert "02.txt is not in utf-8: wrong bytes in lines 1, 2" in str(error.value)
    assert "05.txt is not in utf-8: wrong bytes in line 2" in str(error.value)


def test_classes_that_train_lacks_are_refused(tmp_path):
    root = tree(tmp_path, ["train", "val", "test"], n=2)
    write(tmp_path / "test/bird/0.txt", "a bird")
    with pytest.raises(ValueError, match=r"classes that .* lacks: 'bird'"):
        text_folder(root=root)


# -- documents ----------------------------------------------------------------------------------


def test_lines_are_documents(tmp_path):
    path = write(tmp_path / "all.txt", "".join(f"line {i} 你好\n\n" for i in range(40)))
    made = text_lines(path=str(path), val_fraction=0.25, test_fraction=0.2)
    assert made.labels.kind == "text"
    assert sizes(made) == {"train": 24, "val": 8, "test": 8}
    assert made.notes["empty"] == 40
    for name, text in zip(made.train.ids, made.train.inputs, strict=True):
        assert text == f"line {(int(name.partition(':')[2]) - 1) // 2} 你好"
    assert set(made.train.targets) == {None}
    half = text_lines(path=str(path), fraction=0.5, val_fraction=0.25, test_fraction=0.2)
    assert sizes(half) == {"train": 12, "val": 4, "test": 8}
    assert set(half.train.ids) < set(made.train.ids)
    with pytest.raises(ValueError, match=r"all\.txt:2: no text"):
        text_lines(path=str(path), on_empty="error")


def test_files_are_documents(tmp_path):
    for i in range(20):
        write(tmp_path / "docs" / "ab"[i % 2] / f"{i}.txt", f"text {i}\nand more")
    write(tmp_path / "docs" / ".hidden" / "x.txt", "x")
    write(tmp_path / "held.txt", "one\ntwo\n")
    path = str(tmp_path / "docs")
    made = text_lines(path=path, test=str(tmp_path / "held.txt"))
    assert sizes(made) == {"train": 17, "val": 3, "test": 2}
    assert {*made.train.ids, *made.val.ids} == {f"{'ab'[i % 2]}/{i}.txt" for i in range(20)}
    with pytest.raises(ValueError, match=r"holds no file that ends in \.md"):
        text_lines(path=path, ending=".md")
    with pytest.raises(ValueError, match=r"dataset\.val=.*is no file"):
        text_lines(path=path, val=str(tmp_path / "gone"))


@given(st.lists(st.text(st.sampled_from("ab 你"), min_size=1).map("x{}".format), min_size=30))
def test_a_long_text_is_cut_without_loss(tmp_path_factory, rows):
    text = "\n".join(rows)
    path = write(tmp_path_factory.mktemp("text") / "a.txt", text)
    made = text_file(path=str(path), val_fraction=0.3, test_fraction=0.3)
    train, val, test = (split.inputs[0] for split in (made.train, made.val, made.test))
    assert train + val + test == text
    assert len(train) >= 0.4 * len(text) - 1


def test_cuts_are_at_ends_of_lines(tmp_path):
    text = "".join(f"line number {i}\n" for i in range(1000))
    path = str(write(tmp_path / "a.txt", text))
    made = text_file(path=path)
    for split, share in ((made.train, 0.8), (made.val, 0.1), (made.test, 0.1)):
        assert split.inputs[0].startswith("line number")
        assert abs(len(split.inputs[0]) - share * len(text)) < 20
    half = text_file(path=path, fraction=0.5)
    assert made.train.inputs[0].startswith(half.train.inputs[0])
    assert abs(len(half.train.inputs[0]) - len(made.train.inputs[0]) / 2) < 20
    assert half.test.inputs == made.test.inputs
    for keys, said in (
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"val_fraction": 0.0}, "val_fraction=0.0"),
        ({"path": str(tmp_path)}, "is a folder; give a file"),
        ({"path": str(write(tmp_path / "b.txt", "ab"))}, "too short"),
    ):
        with pytest.raises(ValueError, match=said):
            text_file(**{"path": path, **keys})


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))))
def test_only_line_feeds_part_lines(rows):
    assert lines_of("".join(f"{row}\n" for row in rows)) == rows
    assert lines_of("".join(f"{row}\r\n" for row in rows)) == rows


def test_the_line_of_a_wrong_byte_in_utf_16(tmp_path):
    content = "好\n坏\nab".encode("utf-16-le") + b"\x00\xd8\x00\x00"
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match="wrong bytes in line 3"):
        decoded(tmp_path / "a.txt", "utf-16-le")


@pytest.mark.real
def test_tiny_shakespeare():
    base = os.environ.get("TLX_REAL_DATA")
    if not base:
        pytest.skip("TLX_REAL_DATA is not set")
    path = Path(base) / "tinyshakespeare" / "input.txt"
    made = text_file(path=str(path))
    parts = [split.inputs[0] for split in (made.train, made.val, made.test)]
    assert "".join(parts) == path.read_text(encoding="utf-8")
    assert sum(map(len, parts)) == 1_115_394
