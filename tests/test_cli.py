"""The `tlx` command, driven in this process on small runs, and the same calls from Python."""

import csv
import json
import math
import os
import shutil
import signal
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

import launching
import tlx
from tlx import cli, diagnose
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.execution import execute, preparing, runs
from tlx.execution.lineage import Located
from tlx.results import record
from tlx.use.evaluate import evaluate

SMALL = [
    "dataset=digits",
    "dataset.labels_per_class=4",
    "backbone=timm",
    "backbone.name=test_resnet",
    "backbone.init=none",
    "backbone.image_size=32",
    "trainer=cpu",
    "trainer.epochs=null",
    "trainer.steps=12",
    "trainer.batch_size=16",
    "trainer.eval_every_steps=6",
    "logger=[csv]",
]
FIGURES = "accuracy"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run; nobody may change it."""
    torch.set_num_threads(1)
    runs_dir = tmp_path_factory.mktemp("trained")
    assert cli.main(["train", *SMALL, f"runs_dir={runs_dir}"]) == 0
    (folder,) = [path.parent for path in runs_dir.glob("*/record.json")]
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the finished run that a test may spoil, alone in its runs folder."""
    folder = tmp_path / "runs" / trained.name
    shutil.copytree(trained, folder)
    config = runs.read_config(folder)
    runs.write_config(folder, {**config, "runs_dir": str(folder.parent)})
    return folder


def tlx_says(capsys, *argv, status=0):
    """Standard output and error of a command that ends with `status`, never with a traceback."""
    capsys.readouterr()
    assert cli.main([str(word) for word in argv]) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return out, err


def predictions(folder, name="test"):
    with open(folder / "predictions" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- train ------------------------------------------------------------------------------------


def test_a_run_folder_holds_what_the_design_says(trained):
    names = {path.name for path in trained.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.yaml",
        "overrides.txt",
        "provenance.json",
        "metrics.csv",
        "record.json",
        "model.safetensors",
        "predictions",
        "progress.json",
    }
    assert not list(trained.rglob("*.tmp"))
    assert (trained / "overrides.txt").read_text().splitlines()[: len(SMALL)] == SMALL
    assert tlx.compose([*SMALL, f"runs_dir={trained.parent}"]) == runs.read_config(trained)
    assert [path.name for path in (trained / "predictions").iterdir()] == ["test.csv"]


def test_provenance_says_where_a_result_comes_from(trained):
    said = preparing.provenance_of(trained)
    assert said["run"] == trained.name
    assert {"python", "torch", "timm", "pytorch-lightning"} <= said["versions"].keys()
    assert said["hardware"]["cores"] == os.cpu_count()
    assert said["seeds"] == {"seed": 0, "order_seed": None}
    assert said["lineage"] == []
    assert said["inputs"] == {}
    assert said["data_fingerprint"]
    assert said["weights_id"] == "none"
    assert said["code"].keys() <= {"sha", "dirty", "diff"}


def test_predictions_give_the_recorded_figures(trained):
    rows, found = predictions(trained), record.read(trained).splits["test"]
    assert len(rows) == found.n == found.metrics["accuracy"].n
    assert len({row["id"] for row in rows}) == len(rows)
    correct = sum(row["label"] == row["prediction"] for row in rows)
    assert correct / len(rows) == pytest.approx(found.metrics["accuracy"].value, abs=1e-9)
    recalls = []
    for label in {row["label"] for row in rows}:
        own = [row for row in rows if row["label"] == label]
        recalls.append(sum(row["prediction"] == label for row in own) / len(own))
    mean = sum(recalls) / len(recalls)
    assert mean == pytest.approx(found.metrics["balanced_accuracy"].value, abs=1e-6)


def test_a_finished_run_is_not_trained_again(trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    out, _ = tlx_says(capsys, "train", *SMALL, f"runs_dir={trained.parent}")
    assert f"{trained.name} is finished already" in out
    after = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    assert before == after


def test_force_trains_again_to_the_same_figures(copied, capsys):
    before = record.read(copied)
    (copied / "leftover.txt").write_text("old")
    tlx_says(capsys, "train", "--force", *SMALL, f"runs_dir={copied.parent}")
    after = record.read(copied)
    assert not (copied / "leftover.txt").exists()
    assert after.splits == before.splits


def test_check_prints_the_config_and_the_id_and_trains_nothing(trained, tmp_path, capsys):
    out, _ = tlx_says(capsys, "train", "--check", *SMALL, f"runs_dir={tmp_path / 'none'}")
    config = yaml.safe_load(out)
    assert config["trainer"]["steps"] == 12
    assert out.splitlines()[-1] == f"# run id: {trained.name}"
    assert not (tmp_path / "none").exists()


def test_check_refuses_a_network_that_cannot_be_trained(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("a b c")
    given = [*("dataset=text_file", f"dataset.path={tmp_path / 'a.txt'}", "backbone=transformers")]
    given += ["backbone.init=none", "backbone.kwargs={d_model:16,n_layer:1,n_head:2,d_inner:16}"]
    _, err = tlx_says(capsys, "train", "--check", *given, "backbone.name=xlnet", status=2)
    assert "does not read left to right" in err
    assert "backbone.kwargs" not in err


def test_check_tells_of_a_network_that_cannot_be_exported(capsys):
    given = ["dataset=digits", "backbone=timm", "backbone.name=caformer_s18", "backbone.init=none"]
    out, _ = tlx_says(capsys, "train", "--check", *given)
    assert "# tlx export will refuse this network" in out


def test_options_may_stand_between_overrides(capsys):
    first, _ = tlx_says(capsys, "train", "--check", *SMALL)
    second, _ = tlx_says(capsys, "train", *SMALL[:4], "--check", *SMALL[4:])
    assert first == second


def test_check_of_a_study_names_every_run(capsys):
    out, _ = tlx_says(capsys, "train", "experiment=glyphs_to_digits", "--check", "study.seeds=[3]")
    lines = [line for line in out.splitlines() if line.startswith("# run id: ")]
    arms = [line.partition("(")[2] for line in lines if "(start " not in line]
    names = ("scratch", "linear_probe", "full", "lp_ft", "gradual")
    assert arms == [f"{name} seed 3)" for name in names]
    assert len({line.split()[3] for line in lines}) == 6  # the pretraining as well
    assert all("-s3-" in line for line in lines if "(start " not in line)


def test_check_of_a_study_looks_into_every_arm(capsys):
    changed = "study.arms.full=[optimizer.lrr=1]"
    _, err = tlx_says(capsys, "train", "--check", "experiment=glyphs_to_digits", changed, status=2)
    assert "optimizer.lrr" in err


# -- evaluate ---------------------------------------------------------------------------------


def shown(out):
    return {line.split()[0]: line.split()[1] for line in out.splitlines() if "/" in line}


def test_evaluation_on_the_runs_own_data_gives_its_record(trained, capsys):
    out, _ = tlx_says(capsys, "evaluate", trained)
    kept = record.read(trained).splits
    expected = {f"{s}/{m}": f"{v.value:.4f}" for s in kept for m, v in kept[s].metrics.items()}
    assert shown(out) == expected


def test_evaluation_on_other_data_of_the_same_classes(trained, capsys):
    argv = ["evaluate", trained.name, "--runs-dir", trained.parent]
    out, _ = tlx_says(capsys, *argv, "dataset=digits_shifted", "dataset.labels_per_class=4")
    found = shown(out)
    assert (
        found["test/accuracy"]
        == f"{record.read(trained).splits['test'].metrics[FIGURES].value:.4f}"
    )
    assert {"noise/accuracy", "rotation/accuracy", "contrast/accuracy"} <= found.keys()


def test_keys_alone_change_the_runs_own_data(trained):
    found = evaluate(trained, overrides=["dataset.labels_per_class=2"])
    assert found["val"]["n"] == 20
    assert found["test"]["n"] == record.read(trained).splits["test"].n


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["dataset=glyphs", "dataset.images_per_class=10"], "same classes"),
        (["dataset=digitz"], "did you mean 'digits'"),
        (["dataset.lables_per_class=2"], "labels_per_class"),
        (["trainer.steps=3"], "only the data can be changed"),
    ],
)
def test_evaluation_on_wrong_data_is_refused(trained, capsys, overrides, says):
    _, err = tlx_says(capsys, "evaluate", trained, *overrides, status=2)
    assert says in err


# -- predict ----------------------------------------------------------------------------------


@pytest.fixture
def photos(trained, tmp_path):
    """Some test images of the run's own data as PNG files, with their ids."""
    from tlx.building.calls import splits

    test = splits(runs.read_run(trained).dataset).test
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    ids = {}
    for index in range(9):
        sample = test[index]
        path = folder / ("deeper" if index > 5 else "") / f"image{index}.png"
        sample["input"].save(path)
        ids[str(path)] = sample["id"]
    (folder / ".hidden").write_text("not an image")
    return folder, ids


def test_prediction_of_files_equals_the_runs_own(trained, photos, tmp_path, capsys):
    folder, ids = photos
    own = {row["id"]: row for row in predictions(trained)}
    first = min(ids)
    target = tmp_path / "out" / "made.csv"
    tlx_says(capsys, "predict", trained, folder, first, "--output", target)
    with open(target, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [*sorted(ids), first]
    assert set(rows[0]) == {"path", "prediction", "probabilities"}
    for row in rows:
        assert row["prediction"] == own[ids[row["path"]]]["prediction"]
        assert math.isclose(sum(json.loads(row["probabilities"]).values()), 1, abs_tol=1e-5)


def test_prediction_goes_to_standard_output(trained, photos, capsys):
    out, _ = tlx_says(capsys, "predict", trained, photos[0])
    assert len(list(csv.DictReader(out.splitlines()))) == 9
    assert not sys.stdout.closed


def test_batches_do_not_change_a_prediction(trained, photos):
    predictor = tlx.load(str(trained))
    one, many = predictor.predict([photos[0]], batch_size=2), predictor.predict([photos[0]])
    assert [row["prediction"] for row in one] == [row["prediction"] for row in many]


def test_every_unreadable_file_is_named(trained, photos, capsys):
    folder, _ = photos
    for name in ("broken1.png", "zz.png"):
        (folder / name).write_bytes(b"no image")
    _, err = tlx_says(capsys, "predict", trained, folder, status=2)
    assert "2 files cannot be read" in err
    assert "broken1.png" in err
    assert "zz.png" in err


def test_nothing_to_predict_is_an_error(trained, tmp_path, capsys):
    _, err = tlx_says(capsys, "predict", trained, tmp_path / "missing", status=2)
    assert "missing does not exist" in err
    (tmp_path / "empty").mkdir()
    _, err = tlx_says(capsys, "predict", trained, tmp_path / "empty", status=2)
    assert "no files in" in err


# -- rerun, export ----------------------------------------------------------------------------


def test_rerun_gives_equal_figures(copied, capsys):
    out, _ = tlx_says(capsys, "rerun", copied)
    assert out.splitlines()[-1] == "every figure is equal"
    again = copied.parent / "rerun" / copied.name
    first, second = launching.weights(copied), launching.weights(again)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rerun_of_a_cached_run_allows_for_rounding(tmp_path, capsys):
    line = [*("dataset=digits", "dataset.labels_per_class=6", "backbone=timm", "trainer=cpu")]
    line += ["backbone.name=test_resnet", "backbone.init=none", "backbone.image_size=32"]
    line += ["freeze_strategy=linear_probe", "trainer.epochs=8", f"runs_dir={tmp_path}"]
    tlx_says(capsys, "train", *line)
    (folder,) = tmp_path.glob("digits-*")
    out, _ = tlx_says(capsys, "rerun", folder)
    assert out.splitlines()[-1].startswith("every figure is equal up to rounding, 0.0001")


def test_rerun_tells_a_tampered_record(copied, tmp_path, capsys):
    path = copied / "record.json"
    data = json.loads(path.read_text())
    data["splits"]["test"]["metrics"]["accuracy"]["value"] += 0.25
    path.write_text(json.dumps(data))
    out, _ = tlx_says(capsys, "rerun", copied, "--into", tmp_path / "again", status=1)
    assert "differs by -0.25" in out
    assert out.splitlines()[-1] == "1 figures differ"


def test_an_unfinished_run_cannot_be_used(copied, capsys):
    path = copied / "record.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "status": "failed", "error": "it was made to"}))
    (copied / "model.safetensors").unlink()
    _, err = tlx_says(capsys, "rerun", copied, status=2)
    assert "has not finished; train it first" in err
    for command in ("evaluate", "export"):
        _, err = tlx_says(capsys, command, copied, status=2)
        assert "it failed: it was made to; `tlx train …` with the overrides of the run" in err


def test_export_is_plain_timm(copied, capsys):
    import timm

    from tlx.backbones.export.networks import overlay

    out, _ = tlx_says(capsys, "export", copied)
    folder = copied / "export"
    assert {Path(line).name for line in out.splitlines()} >= {"config.json", "model.safetensors"}
    plain = timm.create_model(
        "test_resnet", pretrained=True, num_classes=10, pretrained_cfg_overlay=overlay(folder)
    ).eval()
    network = tlx.load(str(copied)).model.network
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), network(images))


# -- runs that start from runs ----------------------------------------------------------------


EXPERIMENT = """\
# Question: none; a small run that others start from.
defaults:
  - override /dataset: digits
  - override /backbone: {backbone}
  - override /trainer: cpu
dataset:
  labels_per_class: 4
backbone:
  image_size: 32
  init: {init}
trainer:
  epochs: null
  steps: 4
  batch_size: 16
"""
BACKBONE = """\
# The smallest residual network, as my own option.
_target_: tlx.backbones.timm.networks.timm
name: test_resnet
init: none
"""


@pytest.fixture
def own(tmp_path):
    """A folder for --config-dir with a backbone and experiments."""
    folder = tmp_path / "own"
    (folder / "backbone").mkdir(parents=True)
    (folder / "experiment").mkdir()
    (folder / "backbone" / "tiny.yaml").write_text(BACKBONE)
    starts = {"first": "none", "a": "experiment:b", "b": "experiment:a", "self": "experiment:self"}
    for name, init in starts.items():
        text = EXPERIMENT.format(backbone="tiny", init=init)
        (folder / "experiment" / f"{name}.yaml").write_text(text)
    return folder


def test_own_backbone_composes_and_lists(own, capsys):
    out, _ = tlx_says(capsys, "list", "backbone", "--config-dir", own)
    assert "tiny                     The smallest residual network" in out
    out, _ = tlx_says(capsys, "list", "--config-dir", own)
    assert sum(line.startswith("experiment ") for line in out.splitlines()) == 1
    assert "first" in out
    out, _ = tlx_says(capsys, "list", "experiment", "--config-dir", own)
    assert "Question: none; a small run" in out
    config = tlx.compose(["backbone=tiny", "backbone.image_size=32"], config_dir=str(own))
    assert config["backbone"]["name"] == "test_resnet"


def test_a_run_starts_from_an_experiment_and_from_a_run(own, tmp_path, capsys):
    runs_dir = tmp_path / "runs"
    child = [
        *(word for word in SMALL if not word.startswith(("backbone.init", "trainer.steps"))),
        "trainer.steps=2",
        f"runs_dir={runs_dir}",
        "--config-dir",
        str(own),
    ]
    by_name = ["train", *child, "backbone.init=experiment:first"]
    said, _ = tlx_says(capsys, *by_name, "--check")
    out, _ = tlx_says(capsys, *by_name)
    assert "which is trained first" in out
    folders = {path.parent.name: path.parent for path in runs_dir.glob("*/record.json")}
    assert len(folders) == 2
    (parent,) = [f for f in folders.values() if runs.read_config(f)["trainer"]["steps"] == 4]
    (made,) = [f for f in folders.values() if f != parent]
    assert said.splitlines()[-1] == f"# run id: {made.name}"
    assert runs.read_config(made)["backbone"]["init"] == f"run:{parent.name}"
    assert record.read(made).lineage == (parent.name,)
    assert preparing.provenance_of(made)["lineage"] == [parent.name]
    assert record.read(made).weights_id != "none"

    out, _ = tlx_says(capsys, *by_name)
    assert f"{made.name} is finished already" in out
    short = parent.name.rpartition("-")[2]
    out, _ = tlx_says(capsys, "train", *child, f"backbone.init=run:{short}")
    assert f"{made.name} is finished already" in out

    out, _ = tlx_says(capsys, "rerun", made)
    assert out.splitlines()[-1] == "every figure is equal"


@pytest.mark.slow
def test_a_study_of_one_seed_claims_no_interval(own, tmp_path, capsys):
    text = EXPERIMENT.format(backbone="tiny", init="none")
    text += "study:\n  arms: {one: [], two: [freeze_strategy=linear_probe]}\n  seeds: [5]\n"
    (own / "experiment" / "pair.yaml").write_text(text)
    given = ["experiment=pair", "--config-dir", own, f"runs_dir={tmp_path / 'runs'}"]
    out, _ = tlx_says(capsys, "train", *given)
    made = {path.parent.name for path in (tmp_path / "runs").glob("*/record.json")}
    assert len(made) == 2
    table = out.partition("pair: accuracy on test")[2]
    (row,) = [line for line in table.splitlines() if line.strip().startswith("two ")]
    assert "n=1" in row
    assert "[" not in row  # an interval needs two seeds
    assert out.rstrip().splitlines()[-1].startswith("report: ")
    said, _ = tlx_says(capsys, "train", *given, "--check")
    assert {line.split()[3] for line in said.splitlines() if "# run id" in line} == made


def test_a_missing_start_is_refused(tmp_path, capsys):
    given = ["train", *SMALL, f"runs_dir={tmp_path}", "backbone.init=run:abc"]
    for more in ([], ["--check"]):
        _, err = tlx_says(capsys, *given, *more, status=2)
        assert "no run 'abc'" in err


@pytest.mark.parametrize("name", ["a", "self"])
@pytest.mark.parametrize("more", [[], ["--check"]])
def test_a_circle_is_refused(name, more, own, tmp_path, capsys):
    argv = ["train", f"experiment={name}", "--config-dir", own, f"runs_dir={tmp_path / 'runs'}"]
    _, err = tlx_says(capsys, *argv, *more, status=2)
    assert "goes in a circle" in err
    assert not (tmp_path / "runs").exists()


def test_the_head_is_kept_on_request(trained, tmp_path):

    from tlx.building.calls import regularization, splits
    from tlx.building.networks import model

    config = tlx.compose([*SMALL, "init_head=keep"])
    run = typed(config)
    effects = regularization(run)
    labels = splits(run.dataset).labels
    path = str(trained / runs.WEIGHTS)
    state = model(run, labels, effects=effects, init=path).network.state_dict()
    kept = launching.weights(trained)
    assert all(torch.equal(state[name], kept[name]) for name in kept)
    new = model(run.changed(init_head="new"), labels, effects=effects, init=path)
    state = new.network.state_dict()
    assert not torch.equal(state["head.linear.weight"], kept["head.linear.weight"])
    assert all(torch.equal(state[n], kept[n]) for n in kept if n.startswith("backbone."))


def test_a_head_of_other_classes_cannot_be_kept(copied, capsys):
    words = [word for word in SMALL if not word.startswith(("backbone.init", "dataset"))]
    argv = [
        *("train", *words, f"backbone.init=run:{copied.name}", "init_head=keep"),
        *("dataset=glyphs", "dataset.images_per_class=10", f"runs_dir={copied.parent}"),
    ]
    _, err = tlx_says(capsys, *argv, status=2)
    assert "use init_head=new" in err


# -- inputs that changed ----------------------------------------------------------------------


def test_changed_data_and_weights_are_reported_for_a_finished_run(
    trained, photos, tmp_path, capsys
):
    root = tmp_path / "data"
    for split in ("train", "val", "test"):
        for number, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for index in range(4):
                color = (60 * number + 50, 20 * index, len(split) * 9)
                from PIL import Image

                Image.new("RGB", (40, 40), color).save(root / split / name / f"{index}.png")
    weights = tmp_path / "start.safetensors"
    shutil.copy(trained / runs.WEIGHTS, weights)
    words = [word for word in SMALL if not word.startswith(("backbone.init", "dataset"))]
    argv = [
        *("train", *words, "dataset=image_folder", f"dataset.root={root}", "trainer.steps=2"),
        *("trainer.batch_size=4", f"backbone.init={weights}", f"runs_dir={tmp_path / 'runs'}"),
    ]
    tlx_says(capsys, *argv)
    out, _ = tlx_says(capsys, *argv)
    assert "finished already" in out
    assert "changed on disk" not in out
    (root / "train" / "cat" / "0.png").write_bytes((root / "train" / "cat" / "1.png").read_bytes())
    out, _ = tlx_says(capsys, *argv)
    assert "note: dataset.root changed on disk since" in out
    assert "backbone.init changed" not in out
    os.utime(weights, ns=(1, 1))
    out, _ = tlx_says(capsys, *argv)
    assert "note: backbone.init changed on disk since" in out


# -- list, doctor -----------------------------------------------------------------------------


def test_every_group_lists_its_options_with_a_line_each(capsys):
    out, _ = tlx_says(capsys, "list")
    groups = [line.split()[0] for line in out.splitlines()]
    assert {"backbone", "dataset", "freeze_strategy", "experiment", "runs", "targets"} <= set(
        groups
    )
    for group in groups:
        if group in {"runs", "targets"}:
            continue
        out, _ = tlx_says(capsys, "list", group)
        assert out.strip()
        for line in out.splitlines():
            assert len(line.split()) > 2, f"{group}: {line!r} says nothing of the option"


def test_list_suggests(capsys):
    _, err = tlx_says(capsys, "list", "freeze_stratgy", status=2)
    assert "nearest: freeze_strategy" in err


def test_list_runs(trained, tmp_path, capsys):
    out, _ = tlx_says(capsys, "list", "runs", "--runs-dir", trained.parent)
    assert out.split() == [trained.name, "finished"]
    out, _ = tlx_says(capsys, "list", "runs", "--runs-dir", tmp_path)
    assert not out.strip()


def test_list_targets(capsys):
    out, _ = tlx_says(capsys, "list", "targets")
    assert "tlx.data.images.digits.digits" in out.splitlines()


def test_doctor_tells_versions_and_devices(capsys, monkeypatch):
    monkeypatch.setattr(diagnose, "_torch_problems", list)
    monkeypatch.setattr(diagnose, "_devices", lambda: ("CPU: 2 cores, 8 GiB", "GPU: none"))
    seen = diagnose.versions(diagnose.SHOWN)
    fitting = {**dict.fromkeys(diagnose.SHOWN, "1"), **seen, "torch": "2.11.0"}
    monkeypatch.setattr(diagnose, "versions", lambda _: fitting)
    monkeypatch.setattr(diagnose.metadata, "distributions", list)
    out, _ = tlx_says(capsys, "doctor")
    assert f"torch {fitting['torch']}" in out
    assert "GPU: none" in out
    assert "fits together" in out


@pytest.mark.parametrize(
    ("installed", "says"),
    [
        ({"torch": "2.11.0+cpu", "torchvision": "0.26.0+cu128"}, "CPU-only build"),
        ({"torch": "2.11.0+cu128", "torchvision": "0.26.0+cpu"}, "CPU-only build"),
        ({"hydra-core": "1.4.0"}, "hydra-core 1.4.0 is untested"),
        ({"timm": None}, "timm is not installed"),
    ],
)
def test_doctor_names_bad_pairings(installed, says, capsys, monkeypatch):
    good = {**dict.fromkeys(diagnose.SHOWN, "1"), "hydra-core": "1.3.2"}
    found = {k: v for k, v in {**good, **installed}.items() if v is not None}
    monkeypatch.setattr(diagnose, "versions", lambda _: found)
    monkeypatch.setattr(diagnose, "_torch_problems", list)
    monkeypatch.setattr(diagnose.metadata, "distributions", list)
    out, _ = tlx_says(capsys, "doctor", status=1)
    (problem,) = [line for line in out.splitlines() if line.startswith("PROBLEM")]
    assert says in problem
    assert "mend it: pip install" in out


def test_doctor_finds_the_second_lightning(capsys, monkeypatch):
    package = types.SimpleNamespace(metadata={"Name": "Lightning"})
    monkeypatch.setattr(diagnose.metadata, "distributions", lambda: [package])
    monkeypatch.setattr(diagnose, "_torch_problems", list)
    out, _ = tlx_says(capsys, "doctor", status=1)
    assert "pip uninstall lightning" in out


# -- mistakes, interruptions ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["train", "datset=digits"], "did you mean 'dataset'"),
        (["train", "freeze_strategy=lpft"], "did you mean 'lp_ft'"),
        (["train", "optimizer.lrr=1"], "did you mean 'lr'"),
        (["train", "trainer.steps=-1"], "trainer.steps"),
        (["train", "experiment=nothing"], "experiment"),
        (["train", "--config-dir", "nowhere"], "is no folder"),
        (["list", "--config-dir", "nowhere"], "nowhere"),
        (["evaluate", "nothing"], "no run 'nothing'"),
        (["rerun", "nothing"], "no run 'nothing'"),
        (["export", "nothing"], "no run 'nothing'"),
        (["predict", "nothing", "file.png"], "no run 'nothing'"),
    ],
)
def test_mistakes_end_in_a_message(argv, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, err = tlx_says(capsys, *argv, status=2)
    assert err.startswith(f"tlx {argv[0]}: ")
    assert says in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv", [["trian"], ["train", "--frce"], ["predict"], ["export", "x", "y"], ["list", "a", "b"]]
)
def test_the_command_line_itself_is_checked(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: tlx" in capsys.readouterr().err


def test_help_and_version(capsys):
    out, _ = tlx_says(capsys)
    assert "examples:" in out
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"tlx {tlx.__version__}\n"


def test_an_unforeseen_error_names_its_place(capsys, monkeypatch):
    def broken(config, **kwargs):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(execute, "run", broken)
    _, err = tlx_says(capsys, "train", *SMALL, status=1)
    assert "ZeroDivisionError: by zero" in err
    assert "test_cli.py:" in err
    with pytest.raises(ZeroDivisionError):
        cli.main(["--debug", "train", *SMALL])


def test_an_ambiguous_part_of_an_id_lists_the_runs(copied, capsys):
    shutil.copytree(copied, copied.parent / "digits-other")
    _, err = tlx_says(capsys, "evaluate", "digits", "--runs-dir", copied.parent, status=2)
    assert "fits 2 runs" in err
    assert copied.name in err


def test_a_folder_is_found_from_inside_it(trained, monkeypatch):
    monkeypatch.chdir(trained)
    assert runs.find(".", runs_dir="runs") == trained


def test_a_signal_stops_with_130_and_the_same_line_goes_on(trained, tmp_path, capsys, monkeypatch):
    from tlx.training.engine.module import TransferModule

    original, seen = TransferModule.training_step, [0]

    def stopped(self, batch, batch_idx):
        seen[0] += 1
        if seen[0] == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(TransferModule, "training_step", stopped)
    argv = ["train", *SMALL, f"runs_dir={tmp_path}"]
    _, err = tlx_says(capsys, *argv, status=130)
    assert "the same command goes on" in err
    folder = tmp_path / trained.name
    assert record.read(folder).status == "interrupted"
    tlx_says(capsys, *argv)
    assert seen[0] == 12
    first, second = launching.weights(trained), launching.weights(folder)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert record.read(folder).splits == record.read(trained).splits


def test_control_c_ends_with_130(capsys, monkeypatch):
    def pressed(config, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "run", pressed)
    _, err = tlx_says(capsys, "train", *SMALL, status=130)
    assert "the same command goes on" in err


def hold(folder, ready, done):
    """In another process: at work on a run until told to stop."""
    with runs.at_work(folder):
        ready.set()
        done.wait(60)


def test_a_second_launch_of_a_run_in_training_is_refused(trained, tmp_path, capsys):
    folder = tmp_path / trained.name
    ready, done = launching.CONTEXT.Event(), launching.CONTEXT.Event()
    other = launching.CONTEXT.Process(target=hold, args=(folder, ready, done))
    other.start()
    try:
        assert ready.wait(120)
        _, err = tlx_says(capsys, "train", *SMALL, f"runs_dir={tmp_path}", status=2)
    finally:
        done.set()
        other.join(60)
    assert f"{folder.name} is being trained already, by process {other.pid}" in err
    assert not (folder / "config.yaml").exists()


def test_stopped_workers_end_with_130(copied):
    from tlx.base.ends import Interrupted, Pruned

    path = copied / "record.json"
    said = {"interrupted": Interrupted, "failed": runs.RunError, "pruned": Pruned}
    for status, error in said.items():
        data = {**json.loads(path.read_text()), "status": status, "error": "the reason"}
        path.write_text(json.dumps(data))
        with pytest.raises(error, match="the reason"):
            execute.after_launch(copied)
    path.write_text(json.dumps({**data, "status": "running", "error": None}))
    with pytest.raises(runs.Lost, match="did not finish"):
        execute.after_launch(copied)


# -- from Python ------------------------------------------------------------------------------


def test_the_same_from_python(trained, photos):
    config = tlx.compose([*SMALL, f"runs_dir={trained.parent}"])
    made = tlx.run(config)
    assert made == record.read(trained)
    loaded = tlx.load(trained.name, runs_dir=str(trained.parent))
    rows = loaded.predict([photos[0]])
    assert [row["path"] for row in rows] == sorted(photos[1])
    assert set(rows[0]) == {"path", "prediction", "probabilities"}


def test_a_study_is_no_single_run():
    with pytest.raises(ValueError, match="study"):
        tlx.run(tlx.compose(["experiment=glyphs_to_digits"]))


def test_force_keeps_the_earlier_result_until_the_new_one_is_there(copied, monkeypatch):
    place = Located(copied, runs.read_run(copied))
    before = (copied / "model.safetensors").read_bytes()

    def broken(*args, **kwargs):
        raise ValueError("the data is gone")

    with monkeypatch.context() as patch:
        patch.setattr("tlx.train.train.train", broken)
        with pytest.raises(ValueError, match="gone"):
            execute.train(place, force=True)
        with pytest.raises(ValueError, match="gone"):
            execute.train(place, force=True)  # a second attempt harms it no more than the first
    kept = copied / preparing.BEFORE
    assert execute.finished(copied) is None
    assert execute.finished(kept) is not None
    assert (kept / "model.safetensors").read_bytes() == before
    execute.train(place)
    assert execute.finished(copied) is not None
    assert not kept.exists()


@pytest.mark.parametrize("keep", ["checkpoints", "weights", "record"])
def test_keep_says_what_is_left(copied, keep):
    (copied / "checkpoints").mkdir()
    execute.tidy(copied, keep=keep)
    assert (copied / "checkpoints").exists() is (keep == "checkpoints")
    assert (copied / "model.safetensors").exists() is (keep != "record")
    assert (copied / "record.json").exists()
    assert (copied / "predictions").exists()


def test_a_rerun_computes_with_the_runs_threads(trained, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    execute.rerun(runs.read_run(trained), into=tmp_path, parents=trained.parent, original=trained)
    assert asked == [preparing.provenance_of(trained)["threads"]]


def test_a_rerun_of_a_run_of_before_is_refused_where_it_meant_something_else(copied, capsys):
    config, path = runs.read_config(copied), copied / preparing.PROVENANCE
    facts = json.loads(path.read_text())
    del facts["changes"], config["select_from"]
    record_path = copied / record.FILE
    written = json.loads(record_path.read_text())
    del written["files"]  # which records have only since
    runs.write_json(record_path, written)
    runs.write_json(path, {**facts, "code": {"sha": "0123abc"}})
    runs.write_config(copied, config)
    preparing.refuse_changed(typed(config), copied)  # of one stage: it means what it meant
    strategy = compose(["freeze_strategy=lp_ft"])["freeze_strategy"]
    several = {**config, "freeze_strategy": strategy}
    runs.write_config(copied, several)
    _, err = tlx_says(capsys, "rerun", copied, status=2)
    assert "best_of_last_stage" in err
    assert "0123abc" in err
    assert "select_from=run in its config" in err
    assert not (copied.parent / "rerun").exists()
    preparing.refuse_changed(typed({**several, "select_from": "run"}), copied)


@pytest.mark.slow
def test_the_same_study_from_python(own, tmp_path):
    text = EXPERIMENT.format(backbone="tiny", init="none")
    text += "study:\n  arms: {one: [], two: [freeze_strategy=linear_probe]}\n  seeds: [5]\n"
    (own / "experiment" / "pair.yaml").write_text(text)
    frame = tlx.study("pair", [f"runs_dir={tmp_path / 'runs'}"], config_dir=str(own))
    assert set(frame["arm"]) == {"one", "two"}
    assert {"val", "test"} <= set(frame["split"])
