"""The project of docs/extending.md, as it stands there: one of each of the eight kinds of thing."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tlx.config import signatures

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
BLOCK = re.compile(r"^```(?:python|yaml|toml)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"dataset", "backbone", "task", "freeze_strategy", "regularization", "executor", "logger"}
ALONE = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with every file of the page, by the name in its first line."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert not (folder / name).exists(), name
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(root, *line):
    done = subprocess.run(
        [sys.executable, "-m", *line], cwd=root, env=ALONE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_has_one_file_of_each_kind_and_one_option_where_there_is_a_group(root):
    assert {path.parent.name for path in (root / "conf").glob("*/*.yaml")} == {*KINDS, "experiment"}
    assert len(list((root / "conf").glob("*/*.yaml"))) == len(KINDS) + 1
    assert (root / "mycode" / "hardest.py").is_file()


@pytest.mark.parametrize("page", sorted(PAGE.parent.glob("*.md")), ids=lambda page: page.stem)
def test_what_code_of_the_guide_imports_is_there(page):
    imports = re.findall(r"^from (tlx[\w.]*) import (.+)$", page.read_text("utf-8"), re.MULTILINE)
    for module, names in imports:
        for name in names.strip("()").split(","):
            exec(f"from {module} import {name}")


@pytest.mark.slow
def test_one_of_each_kind_runs_in_one_study(root):
    said = run(root, "tlx.cli", "train", "experiment=all_of_mine")
    assert "all_of_mine: 2 runs, 2 finished" in said
    folders = [path.parent for path in (root / "runs").glob("*/record.json")]
    assert len(folders) == 2
    for folder in folders:
        record = json.loads((folder / "record.json").read_text())
        assert [stage["name"] for stage in record["stages"]] == ["head", "upper half"]
        assert record["task"] == "focal"
        rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        losses = [row for row in rows if "train/loss" in row]
        assert losses
        weighs = "confident" in (folder / "config.yaml").read_text().split("regularization:")[1]
        assert weighs == any("train/confident" in row for row in rows)
    (study,) = (root / "runs" / "studies").iterdir()
    with open(study / "tables" / "hardest.csv", encoding="utf-8", newline="") as file:
        assert {row["arm"] for row in csv.DictReader(file)} == {"plain", "confident"}
    assert "Hardest class" in (study / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_its_tests_pass(root):
    assert re.search(r"Ran \d+ tests.*\n\nOK", run(root, "unittest", "discover", "-s", "tests"))


@pytest.fixture
def within(root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root)
    yield root
    for name in [name for name in sys.modules if name.partition(".")[0] == "mycode"]:
        del sys.modules[name]
    signatures.forget()


def test_a_plain_module_is_a_backbone(within):
    from mycode.plain import conv

    made = conv()
    assert [group.name for group in made.groups] == ["0"]
    assert made.dims == {"pooled": 16}


def test_a_table_of_texts_is_a_source(within, tmp_path):
    from mycode.more_data import of_frame

    rows = "".join(f'"text number {i}",{"ab"[i % 2]}\n' for i in range(40))
    (tmp_path / "texts.csv").write_text(f"text,label\n{rows}")
    made = of_frame(path=str(tmp_path / "texts.csv"), labels_per_class=4)
    assert made.labels.names == ("a", "b")
    assert len(made.train) == 8


def test_a_dataset_of_the_hub_is_a_source(within, tmp_path):
    datasets = pytest.importorskip("datasets")
    import numpy as np
    from mycode.more_data import of_hub
    from PIL import Image

    images = [Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)) for i in range(40)]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    columns = {"image": images, "label": [i % 2 for i in range(40)]}
    data = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    data.save_to_disk(str(tmp_path / "saved"))
    made = of_hub(path=str(tmp_path / "saved"))
    assert made.labels.names == ("a", "b")
