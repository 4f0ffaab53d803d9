"""Items that belong together stay together: splits and folds by groups, of every table."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, StratifiedKFold

from tlx.data import draw as drawing
from tlx.data.draw import Candidates, Draw, folds, val_positions
from tlx.data.images.digits import digits
from tlx.data.images.folder import image_folder
from tlx.data.images.table import image_csv
from tlx.data.text.lines import text_lines
from tlx.data.text.table import text_csv

SIZES = [3, 9, 1, 7, 2, 8, 4, 6, 5, 5, 3, 7]
GROUPS = [f"speaker {g}" for g, n in enumerate(SIZES) for _ in range(n)]
IDS = [f"item {i}" for i in range(len(GROUPS))]
CLASSES = [i % 3 for i in range(len(GROUPS))]
GROUPED = Candidates(IDS, CLASSES, ("a", "b", "c"), GROUPS)
ALONE = Candidates(IDS, CLASSES, ("a", "b", "c"))


def groups_of(positions):
    return {GROUPS[i] for i in positions}


@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_folds_of_groups_are_those_of_scikit_learn_in_size(count):
    parts = folds(GROUPED, count, seed=0)
    theirs = [len(test) for _, test in GroupKFold(count).split(IDS, groups=GROUPS)]
    assert sorted(map(len, parts)) == sorted(theirs)
    assert sorted(i for part in parts for i in part) == list(range(len(IDS)))
    assert sum(len(groups_of(part)) for part in parts) == len(SIZES)


def test_as_many_folds_as_groups_leave_one_out():
    parts = folds(GROUPED, len(SIZES), seed=0)
    theirs = [tuple(test) for _, test in LeaveOneGroupOut().split(IDS, groups=GROUPS)]
    assert {*map(tuple, parts)} == {*theirs}
    named = [
        drawing.test_positions(GROUPED, Draw(folds="groups", fold=name))
        for name in sorted({*GROUPS})
    ]
    assert [tuple(part) for part in named] == theirs


@pytest.mark.parametrize("count", [2, 4, 7])
def test_folds_of_items_hold_every_class_at_its_share(count):
    parts = folds(ALONE, count, seed=3)
    assert sorted(i for part in parts for i in part) == list(range(len(IDS)))
    theirs = [len(test) for _, test in StratifiedKFold(count).split(IDS, CLASSES)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1 >= max(theirs) - min(theirs)
    for c in range(3):
        counts = [sum(CLASSES[i] == c for i in part) for part in parts]
        assert max(counts) - min(counts) <= 1
    assert folds(ALONE, count, seed=4) != parts


def test_no_group_is_in_two_splits_and_every_class_trains():
    for seed in range(30):
        draw = Draw(val_fraction=0.2, test_fraction=0.2, split_seed=seed)
        test = drawing.test_positions(GROUPED, draw)
        rest = [i for i in range(len(IDS)) if i not in test]
        left = Candidates(
            [IDS[i] for i in rest], [CLASSES[i] for i in rest], (), [GROUPS[i] for i in rest]
        )
        val = [rest[i] for i in val_positions(left, draw)]
        train = [i for i in rest if i not in val]
        held = [groups_of(part) for part in (train, val, test)]
        assert sum(map(len, held)) == len(SIZES)
        assert all(map(len, held))
        assert {CLASSES[i] for i in train} == {0, 1, 2}
        assert 0.1 < len(test) / len(IDS) < 0.3


def test_what_cannot_be_divided_by_groups_is_refused():
    two = Candidates(["a", "b", "c", "d"], [0, 0, 1, 1], ("x", "y"), ["p", "p", "q", "q"])
    with pytest.raises(ValueError, match="without a class"):
        drawing.test_positions(two, Draw())
    with pytest.raises(ValueError, match="there are 2 groups"):
        folds(two, 3, seed=0)
    with pytest.raises(ValueError, match="'r' is no group; there are p, q"):
        drawing.test_positions(two, Draw(folds="groups", fold="r"))
    with pytest.raises(ValueError, match="belong to no groups"):
        drawing.test_positions(ALONE, Draw(folds="groups", fold="r"))
    with pytest.raises(ValueError, match="item by item"):
        val_positions(GROUPED, Draw(protocol="vtab1k"))
    for wrong in ({"folds": 5}, {"fold": 1}, {"folds": 5, "fold": 5}, {"folds": 2, "fold": "a"}):
        with pytest.raises(ValueError, match="fold"):
            Draw(**wrong)


def rows(folder, *, line):
    """A table of 40 items of 8 speakers, each of whom says both classes."""
    content = [line(i, f"s{i % 8}", "ab"[i // 8 % 2]) for i in range(40)]
    path = folder / "all.csv"
    path.write_text("\n".join(["path,text,speaker,label", *content]), encoding="utf-8")
    return str(path)


def image_table(folder, **options):
    def line(i, speaker, label):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{speaker}-{i}.png")
        return f"{speaker}-{i}.png,,{speaker},{label}"

    return image_csv(path=rows(folder, line=line), **options)


def text_table(folder, **options):
    def line(i, speaker, label):
        return f",text {i} of it,{speaker},{label}"

    return text_csv(path=rows(folder, line=line), **options)


@pytest.mark.parametrize("source", [image_table, text_table])
def test_tables_divide_by_a_column(tmp_path, source):
    made = source(tmp_path, group_column="speaker")
    parts = {"train": made.train, "val": made.val, "test": made.test}
    speakers = {name: {*part.groups} for name, part in parts.items()}
    assert sum(map(len, speakers.values())) == 8
    assert {n for name in parts for n in speakers[name]} == {f"s{i}" for i in range(8)}
    told = made.notes["groups"]
    assert told["of_test"] == sorted(speakers["test"])
    assert [told[name] for name in parts] == [len(speakers[name]) for name in parts]
    plain = source(tmp_path)
    assert "groups" not in plain.notes
    assert len({*text_or_path(plain.test)} & {*text_or_path(plain.train)}) == 0


def text_or_path(split):
    return [split.ids[i] for i in range(len(split))]


@pytest.mark.parametrize("source", [image_table, text_table])
def test_the_folds_of_a_table_cover_each_item_once(tmp_path, source):
    for options in ({}, {"group_column": "speaker"}):
        tests = [source(tmp_path, folds=4, fold=fold, **options).test for fold in range(4)]
        counts = Counter(name for test in tests for name in test.ids)
        assert len(counts) == 40
        assert {*counts.values()} == {1}


def test_a_group_in_two_splits_is_refused(tmp_path):
    content = ["text,label,who,split"]
    content += [f"t{i},{'ab'[i % 2]},w{i // 2},{'train' if i < 9 else 'test'}" for i in range(14)]
    (tmp_path / "t.csv").write_text("\n".join(content), encoding="utf-8")
    options = {"path": str(tmp_path / "t.csv"), "group_column": "who"}
    with pytest.raises(ValueError, match=r"1 groups are in train and in test \(w4\)"):
        text_csv(**options)
    with pytest.raises(ValueError, match="has a test already"):
        text_csv(**{**options, "group_column": None}, folds=2, fold=0)
    content[3] = "t2,a,,train"
    (tmp_path / "t.csv").write_text("\n".join(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.csv:4: no group"):
        text_csv(**options)


def test_groups_are_known_by_ids_where_there_is_no_table(tmp_path):
    for i in range(24):
        path = tmp_path / "tree" / "ab"[i % 2] / f"ann{i // 4}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    made = image_folder(root=str(tmp_path / "tree"), group_pattern=r"/([a-z]+\d+)_")
    assert {*made.train.groups, *made.val.groups, *made.test.groups} == {
        f"ann{i}" for i in range(6)
    }
    assert not {*made.train.groups} & {*made.test.groups}
    with pytest.raises(ValueError, match="matches no part of 24 of 24 ids"):
        image_folder(root=str(tmp_path / "tree"), group_pattern="bob")


def test_folds_of_other_sources():
    tests = [digits(folds=3, fold=fold).test.ids for fold in range(3)]
    assert len({name for ids in tests for name in ids}) == sum(map(len, tests)) == 1797


def test_folds_of_texts_without_labels(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(f"line {i}" for i in range(20)))
    path = str(tmp_path / "lines.txt")
    tests = [text_lines(path=path, folds=4, fold=fold).test.ids for fold in range(4)]
    assert sorted(len(ids) for ids in tests) == [5] * 4
    assert len({name for ids in tests for name in ids}) == 20
