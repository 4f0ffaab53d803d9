"""Weights files: plain tensors pass, code is found without being run."""

import io
import os
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tlx.config import data_paths, files
from tlx.config.files import foreign_globals

TENSORS = OrderedDict(
    a=torch.ones(2, 3),
    b=torch.arange(4),
    c=torch.ones(2, dtype=torch.bfloat16),
    p=torch.nn.Parameter(torch.zeros(1)),
    n=torch.tensor(3),
    sparse=torch.eye(2).to_sparse(),
    dtype=torch.float16,
    size=torch.Size([1, 2]),
)


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_tensors_pass(tmp_path, zipped):
    path = tmp_path / "w.pth"
    content = {"state_dict": TENSORS, "epoch": 3, "name": "x", "rate": 0.1}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert foreign_globals(path) == []


@pytest.mark.parametrize("zipped", [True, False])
def test_code_beside_tensors_is_found_and_not_run(tmp_path, zipped):
    path = tmp_path / "w.pth"
    content = {"state_dict": TENSORS, "extra": Runs(tmp_path / "ran")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert any("system" in name for name in foreign_globals(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_found_under_every_protocol(tmp_path, protocol):
    path = tmp_path / "w.bin"
    path.write_bytes(pickle.dumps(Runs(tmp_path / "ran"), protocol=protocol))
    assert foreign_globals(path)
    assert not (tmp_path / "ran").exists()


def test_a_second_pickle_in_the_archive_is_read_too(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(TENSORS, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/more.pkl", pickle.dumps(Runs(tmp_path / "ran"), protocol=2))
    assert foreign_globals(path)


def test_the_arguments_that_timm_keeps_beside_its_weights_pass(tmp_path):
    path = tmp_path / "w.pth.tar"
    torch.save({"state_dict": TENSORS, "args": Namespace(lr=1)}, path)
    assert foreign_globals(path) == []
    assert files.check({"backbone": {"init": str(path)}}) == []


@pytest.mark.parametrize("content", [np.ones(2), Path("x")], ids=["numpy", "path"])
def test_what_safe_loading_refuses_is_refused(tmp_path, content):
    path = tmp_path / "w.pth"
    torch.save({"w": content}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert foreign_globals(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken", b"\x80\x02"])
def test_what_is_no_pickle_is_unreadable(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert foreign_globals(path) == ["unreadable"]


def test_an_archive_without_pickles_is_unreadable(tmp_path):
    path = tmp_path / "w.pth"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.txt", "x")
    path.write_bytes(buffer.getvalue())
    assert foreign_globals(path) == ["unreadable"]


def test_real_state_dicts_pass(tmp_path):
    path = tmp_path / "net.pth"
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(net.parameters())
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, path)
    assert foreign_globals(path) == []


@pytest.mark.parametrize(
    ("init", "fine"),
    [
        ("hub", True),
        ("none", True),
        ("run:digits-x-full-s0-0123456789", True),
        ("experiment:glyphs", True),
        ("run:", False),
        ("weights.safetensors", False),
        ("{tmp}", False),
        ("{tmp}/notes.txt", False),
        ("{tmp}/w.safetensors", True),
    ],
)
def test_starting_weights(tmp_path, init, fine):
    (tmp_path / "notes.txt").write_text("x")
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    found = files.check({"backbone": {"init": init.format(tmp=tmp_path)}})
    assert (not found) is fine


def dataset(root, **keys):
    return {
        "dataset": {"_target_": "tlx.data.images.folder.image_folder", "root": str(root), **keys}
    }


def test_for_a_file_its_folder_is_suggested(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("0.png", "1.png"):
        (tmp_path / "cat" / name).write_bytes(b"")
    (problem,) = files.check(dataset(tmp_path / "cat" / "0.png"))
    assert problem.suggestion == str(tmp_path / "cat")


def test_only_folders_are_suggested_for_a_folder(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"")
    (tmp_path / "photographs").mkdir()
    (problem,) = files.check(dataset(tmp_path / "photos"))
    assert problem.suggestion == str(tmp_path / "photographs")


def test_what_was_given_is_never_suggested(tmp_path):
    (tmp_path / "data").symlink_to(tmp_path / "gone")
    (tmp_path / "w.pth").symlink_to(tmp_path / "gone.pth")
    for config, given in (
        (dataset(tmp_path / "data"), tmp_path / "data"),
        (dataset(tmp_path / "data" / "more"), tmp_path / "data" / "more"),
        ({"backbone": {"init": str(tmp_path / "w.pth")}}, tmp_path / "w.pth"),
    ):
        (problem,) = files.check(config)
        assert problem.suggestion != str(given)


@pytest.mark.parametrize("classes", [[], ["cat"]])
def test_fewer_than_two_classes_are_too_few(tmp_path, classes):
    for name in classes:
        (tmp_path / "train" / name).mkdir(parents=True)
    (problem,) = files.check(dataset(tmp_path))
    assert "at least 2 classes" in str(problem)
    assert all(name in str(problem) for name in classes)


def columns(**keys):
    return {"dataset": {"_target_": "tlx.data.text.conll.conll", **keys}}


def test_files_of_columns(tmp_path):
    for name in ("train.txt", "own.bio"):
        (tmp_path / name).write_text("a O\n")
    root = str(tmp_path)
    for fine in (
        columns(root=root),
        columns(root=root, train="own.bio", extra={"late": "train.txt"}),
        columns(root=None, train=f"{root}/own.bio"),
        columns(root="???"),
    ):
        assert files.check(fine) == []
    (wrong,) = files.check(columns(root=root, val="own.boi"))
    assert (wrong.place, wrong.suggestion) == ("dataset.val", "own.bio")
    (wrong,) = files.check(columns(root=root, extra={"late": "trian.txt"}))
    assert (wrong.place, wrong.suggestion) == ("dataset.extra.late", "train.txt")
    (tmp_path / "train.txt").unlink()
    for missing in (columns(root=root), columns(root=None)):
        (wrong,) = files.check(missing)
        assert wrong.place == "dataset.train"
    (wrong,) = files.check(columns(root=f"{root}/own.bio"))
    assert wrong.place == "dataset.root"


def texts(source, **keys):
    module = {"text_csv": "table", "text_folder": "folder"}.get(source, "lines")
    return {"dataset": {"_target_": f"tlx.data.text.{module}.{source}", **keys}}


def test_tables_of_texts(tmp_path):
    for name in ("train.tsv", "dev.tsv", "night.tsv"):
        (tmp_path / name).write_text("0\tx\n")
    root, path = str(tmp_path), str(tmp_path / "train.tsv")
    assert files.check(texts("text_csv", path=path)) == []
    assert files.check(texts("text_csv", root=root, extra={"dark": "night.tsv"})) == []
    (problem,) = files.check(texts("text_csv"))
    assert "must be given" in str(problem)
    (problem,) = files.check(texts("text_csv", path=path, root=root))
    assert "both" in str(problem)
    (problem,) = files.check(texts("text_csv", path=str(tmp_path / "trian.tsv")))
    assert problem.suggestion == path
    (problem,) = files.check(texts("text_csv", path=root))
    assert "is a folder" in str(problem)
    (problem,) = files.check(texts("text_csv", root=root, val="devel.tsv"))
    assert (problem.place, problem.suggestion) == ("dataset.val", "dev.tsv")
    (problem,) = files.check(texts("text_csv", root=root, extra={"dark": "nigth.tsv"}))
    assert (problem.place, problem.suggestion) == ("dataset.extra.dark", "night.tsv")
    (problem,) = files.check(texts("text_csv", root=str(tmp_path / "gone")))
    assert problem.place == "dataset.root"
    (tmp_path / "train.tsv").unlink()
    (problem,) = files.check(texts("text_csv", root=root))
    assert problem.place == "dataset.train"


def test_folders_and_files_of_texts(tmp_path):
    (problem,) = files.check(texts("text_folder", root=str(tmp_path)))
    assert "at least 2 classes" in str(problem)
    (tmp_path / "a.txt").write_text("x")
    assert files.check(texts("text_lines", path=str(tmp_path), val=str(tmp_path / "a.txt"))) == []
    (problem,) = files.check(texts("text_lines", path=str(tmp_path), test=str(tmp_path / "b.txt")))
    assert (problem.place, problem.suggestion) == ("dataset.test", str(tmp_path / "a.txt"))
    (problem,) = files.check(texts("text_file", path=str(tmp_path)))
    assert "give a file" in str(problem)
    assert files.check(texts("text_file", path="???")) == []


def test_files_and_folders_of_usual_names_are_found(tmp_path):
    for name in ("Training/cat", "Training/dog", "Testing/cat"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    assert files.check(dataset(tmp_path / "photos")) == []
    (tmp_path / "photos" / "training_set" / "cat").mkdir(parents=True)
    (wrong,) = files.check(dataset(tmp_path / "photos"))
    assert "Training and training_set; give the one" in str(wrong)
    for name in ("Training.csv", "Training.conll"):
        (tmp_path / name).write_text("a O\n")
    table = {"_target_": "tlx.data.text.table.text_csv", "root": str(tmp_path), "train": "train"}
    assert files.check({"dataset": table}) == []
    assert files.check(columns(root=str(tmp_path), test="")) == []


def test_names_of_further_sets_are_names_of_files(tmp_path):
    (wrong,) = files.check(dataset(tmp_path, extra={"../evil": "night"}))
    assert wrong.place == "dataset.extra"
    (wrong,) = files.check(
        {"dataset": {"_target_": "tlx.data.images.table.image_csv", "extra": ["a/b"]}}
    )
    assert "'a/b' names files of the run" in str(wrong)


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["seg_train/seg_train", "seg_test/seg_test"], "dataset.train=seg_train/seg_train takes"),
        (["archive"], "archive takes those in it"),
    ],
)
def test_classes_one_folder_deeper_are_pointed_at(tmp_path, folders, says):
    for folder in folders:
        for name in ("ant", "bee"):
            (tmp_path / folder / name).mkdir(parents=True)
    (problem,) = data_paths.check(dataset(tmp_path)["dataset"])
    assert says in str(problem)


def test_a_class_that_is_called_train_is_pointed_at(tmp_path):
    for name in ("train", "bus", "car"):
        (tmp_path / name).mkdir()
    (problem,) = data_paths.check(dataset(tmp_path)["dataset"])
    assert "dataset.train=. dataset.val=null dataset.test=null" in str(problem)
