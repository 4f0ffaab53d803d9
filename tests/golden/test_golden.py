"""What must not change unless a change of meaning says so: ids of configs, figures of runs.

ids.tsv: id at commit 6d35975, marks of the changes that concern the config since, command line.
figures.json: of the runs of runs.py, as that commit gave them; `make golden` compares every bit.
"""

import json
import shlex
from pathlib import Path

import pytest
import torch

from golden import runs
from tlx.config import changes, identity, schema
from tlx.config.compose import Composer
from tlx.config.places import conf_dir

HERE = Path(__file__).parent
LINES = [line.split("\t") for line in (HERE / "ids.tsv").read_text(encoding="utf-8").splitlines()]
FIGURES = json.loads((HERE / "figures.json").read_text(encoding="utf-8"))
# parts of a batch are held against the whole of it in training/test_memory.py, solved heads against
# scikit-learn's in training/test_probe.py
QUICK = {"images", "texts", "stored"}
# counted from sorted scores or bins: a last digit can move a whole item
CONTINUOUS = {"loss", "brier", "perplexity", "word_perplexity", "bits_per_character"}


@pytest.fixture(scope="module")
def configs():
    composer = Composer(None)
    return {line: composer.compose(shlex.split(line), check=False) for _, _, line in LINES}


def test_configs_that_no_change_concerns_keep_their_ids(configs, monkeypatch):
    with_changes = {line: identity.run_id(config) for line, config in configs.items()}
    monkeypatch.setattr(changes, "CHANGES", ())
    assert [line for was, _, line in LINES if identity.run_id(configs[line]) != was] == []
    monkeypatch.undo()
    assert [line for was, marks, line in LINES if (with_changes[line] == was) is bool(marks)] == []


def test_each_change_concerns_the_configs_that_it_is_meant_for(configs):
    concerned = {
        line: changes.marks(identity.normalise(config)) for line, config in configs.items()
    }
    assert {line: marks.split() for _, marks, line in LINES} == concerned


def test_the_lines_choose_every_option_of_every_group():
    said = {word for *_, line in LINES for word in line.replace("[", " ").split()}
    words = {part for word in said for part in word.replace("]", "").replace("=", ",").split(",")}
    assert len(LINES) >= 60
    groups = (*schema.TARGET_GROUPS, *schema.LIST_GROUPS, *schema.SCHEMA_GROUPS)
    options = {path.stem for group in groups for path in (conf_dir() / group).glob("*.yaml")}
    implied = {"resnet10t", "adamw", "cosine", "auto", "csv", "weight_decay"}
    of_datasets = {
        *("audio_classification", "image_classification", "text_classification"),
        "language_modeling",
    }
    assert options - words - implied - of_datasets == set()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in runs.RUNS],
)
def test_figures_are_as_recorded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = torch.are_deterministic_algorithms_enabled()
    runs.write_data(tmp_path)
    try:
        folders = runs.train(name)
    finally:
        torch.use_deterministic_algorithms(before)
    assert len(folders) == sum(key.startswith(f"{name}/") for key in FIGURES)
    for position, folder in enumerate(folders):
        recorded = FIGURES[f"{name}/{position}"]
        figures = runs.figures_of(folder)
        assert folder.name == recorded["id"]
        assert figures.keys() == recorded["figures"].keys()
        for figure, value in recorded["figures"].items():
            if figure.rpartition("/")[2] in CONTINUOUS:
                assert figures[figure] == pytest.approx(value, rel=1e-5), figure
