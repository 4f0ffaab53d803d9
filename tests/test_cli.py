"""The command line, driven as a person would, on one small trained run."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import tlx
from tlx import execute, runs, use
from tlx.cli import main
from tlx.results import record

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "dataset=digits",
    "dataset.labels_per_class=4",
    "backbone=timm",
    "backbone.name=test_resnet",
    "backbone.image_size=32",
    "trainer=cpu",
    "trainer.epochs=null",
    "trainer.steps=12",
    "trainer.batch_size=16",
]
RANDOM = ["backbone.init=none"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    assert main(["train", *SMALL, *RANDOM, f"runs_dir={root}"]) == 0
    (folder,) = root.iterdir()
    return folder


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_run_folder_holds_everything(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "config.yaml", "overrides.txt", "provenance.json", "metrics.csv", "record.json",
        "predictions", "checkpoints", "model.safetensors",
    }  # fmt: skip
    facts = json.loads((trained / "provenance.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["data_fingerprint"]
    assert facts["weights_id"] == "none"
    found = record.read(trained)
    assert found.used_steps == found.budget_steps == 12
    assert found.stages[0].samples_per_s > 0


def test_predictions_give_the_recorded_accuracy(trained: Path) -> None:
    with open(trained / "predictions" / "test.csv") as file:
        rows = list(csv.DictReader(file))
    right = np.mean([row["label"] == row["prediction"] for row in rows])
    metric = record.read(trained).splits["test"].metrics["accuracy"]
    assert right == pytest.approx(metric.value)
    assert len(rows) == metric.n


def test_a_finished_run_is_not_run_again(
    trained: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "record.json").stat().st_mtime_ns
    code, out, _ = run_cli(capsys, "train", *SMALL, *RANDOM, f"runs_dir={root}")
    assert code == 0
    assert "finished already" in out
    assert (trained / "record.json").stat().st_mtime_ns == before


def test_check_prints_the_config_and_the_id(
    trained: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_cli(capsys, "train", "--check", *SMALL, *RANDOM, f"runs_dir={root}")
    assert code == 0
    assert trained.name in out


def test_evaluate_on_its_own_data_gives_the_record(
    trained: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_cli(capsys, "evaluate", trained.name, "--runs-dir", str(root))
    assert code == 0
    value = record.read(trained).splits["test"].metrics["accuracy"].value
    assert f"test/accuracy  {value:.4f}" in out


def test_evaluate_on_other_data_and_on_other_labels(
    trained: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [trained.name, "--runs-dir", str(root)]
    code, out, _ = run_cli(capsys, "evaluate", *where, "dataset=digits_shifted")
    assert code == 0
    assert "rotation/accuracy" in out
    code, _, err = run_cli(capsys, "evaluate", *where, "dataset=glyphs")
    assert code == 2
    assert "same classes" in err


def test_predict_equals_the_predictions_file(
    trained: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tlx import build

    test = build.splits(runs.read_config(trained)).test
    for i in range(20):
        test[i]["input"].save(tmp_path / f"{i:02d}.png")
    code, out, _ = run_cli(capsys, "predict", trained.name, str(tmp_path), "--runs-dir", str(root))
    assert code == 0
    found = list(csv.DictReader(out.splitlines()))
    with open(trained / "predictions" / "test.csv") as file:
        expected = list(csv.DictReader(file))[:20]
    assert [row["prediction"] for row in found] == [row["prediction"] for row in expected]
    loaded = tlx.load(trained.name, runs_dir=str(root)).predict([tmp_path])
    assert [row["prediction"] for row in loaded] == [row["prediction"] for row in expected]


def test_predict_lists_every_file_that_it_cannot_read(
    trained: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.png", "two.jpg"):
        (tmp_path / name).write_text("no image")
    code, _, err = run_cli(capsys, "predict", trained.name, str(tmp_path), "--runs-dir", str(root))
    assert code == 2
    assert "one.png" in err
    assert "two.jpg" in err


def test_rerun_gives_every_figure_again(
    trained: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_cli(capsys, "rerun", trained.name, "--runs-dir", str(root))
    assert code == 0, out
    assert "every figure is equal" in out


def test_rerun_notices_another_figure(
    trained: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / trained.name
    shutil.copytree(trained, copy)
    text = (copy / "record.json").read_text()
    value = record.read(copy).splits["test"].metrics["accuracy"].value
    (copy / "record.json").write_text(text.replace(repr(value), repr(value + 0.01), 1))
    code, out, _ = run_cli(capsys, "rerun", str(copy))
    assert code == 1
    assert "differs by" in out


def test_export_loads_into_plain_timm(
    trained: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs-dir", str(root), "--into", str(tmp_path / "out")]
    code, out, _ = run_cli(capsys, "export", trained.name, *where)
    assert code == 0
    assert "model.safetensors" in out
    file = str(tmp_path / "out" / "model.safetensors")
    overlay = {"file": file, "num_classes": 10}
    plain = timm.create_model(
        "test_resnet", pretrained=True, num_classes=10, pretrained_cfg_overlay=overlay
    )
    _, made = use.load(trained)
    inputs = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(inputs), made.network(inputs))


@pytest.mark.parametrize("group", ["backbone", "freeze_strategy", "experiment", "targets"])
def test_list(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_cli(capsys, "list", group)
    assert code == 0
    assert len(out.splitlines()) >= 2


def test_list_knows_runs_and_suggests_groups(
    trained: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_cli(capsys, "list", "runs", "--runs-dir", str(root))
    assert code == 0
    assert trained.name in out
    code, _, err = run_cli(capsys, "list", "backbones")
    assert code == 2
    assert "backbone" in err


def test_doctor_names_bad_pairings(monkeypatch: pytest.MonkeyPatch) -> None:
    from tlx import diagnose

    sound = diagnose.versions(diagnose.SHOWN)
    assert not diagnose._pairings(sound)
    broken = {**sound, "torch": "2.13.0+cpu", "hydra-core": "1.4.0"}
    text = " ".join(wrong + mend for wrong, mend in diagnose._pairings(broken))
    assert "torchvision::nms" in text
    assert "hydra-core 1.4.0" in text


def test_doctor_prints_versions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_cli(capsys, "doctor")
    assert f"timm {timm.__version__}" in out
    assert code == 0, out


def test_a_run_starts_from_a_run(
    trained: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = [*SMALL, f"backbone.init=run:{trained.name}", "freeze_strategy=linear_probe"]
    code, out, err = run_cli(capsys, "train", *child, "init_head=keep", f"runs_dir={root}")
    assert code == 0, err
    assert f"starts from {trained.name}" in out
    (folder,) = [path for path in root.iterdir() if "linear_probe" in path.name]
    assert record.read(folder).lineage == (trained.name,)
    first, second = use.load(trained)[1].network, use.load(folder)[1].network
    before, after = first.state_dict(), second.state_dict()
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(equal for name, equal in same.items() if name.startswith("backbone."))
    assert not any(equal for name, equal in same.items() if name.startswith("head."))


def test_an_experiment_is_trained_first_and_then_reused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    (own / "experiment").mkdir(parents=True)
    (own / "experiment" / "parent.yaml").write_text(
        "# A parent.\ndefaults:\n  - override /dataset: digits\n  - override /backbone: timm\n"
        "backbone: {name: test_resnet, init: none, image_size: 32}\n"
        "dataset: {labels_per_class: 3}\ntrainer: {epochs: null, steps: 4}\n"
    )
    (own / "experiment" / "circle.yaml").write_text(
        "# Itself.\ndefaults:\n  - override /dataset: digits\n  - override /backbone: timm\n"
        "backbone: {name: test_resnet, init: 'experiment:circle', image_size: 32}\n"
    )
    common = ["--config-dir", str(own), f"runs_dir={tmp_path / 'runs'}"]
    child = [*SMALL, "backbone.init=experiment:parent"]
    code, out, err = run_cli(capsys, "train", *child, *common)
    assert code == 0, err
    assert "which is trained first" in out
    code, out, _ = run_cli(capsys, "train", *child, "seed=1", *common)
    assert code == 0
    assert "which is trained first" not in out
    assert len([p for p in (tmp_path / "runs").iterdir() if "labels" not in p.name]) == 3
    code, _, err = run_cli(capsys, "train", "experiment=circle", *common)
    assert code == 2
    assert "circle" in err


def test_a_second_launch_of_a_run_at_work_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tlx.compose([*SMALL, *RANDOM, f"runs_dir={tmp_path}"])
    folder = tmp_path / execute.run_id(config)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom tlx import runs\n"
        "with runs.at_work(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        status, _, err = run_cli(capsys, "train", *SMALL, *RANDOM, f"runs_dir={tmp_path}")
        holder.kill()
    assert status == 2
    assert "is being trained already" in err
    assert f"process {holder.pid}" in err


def test_changed_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    for label in ("a", "b"):
        (data / label).mkdir(parents=True)
        for i in range(12):
            value = np.full((8, 8, 3), 10 * i + 100 * (label == "b"), np.uint8)
            Image.fromarray(value).save(data / label / f"{i}.png")
    line = [
        *SMALL, *RANDOM, "dataset=image_folder", f"dataset.root={data}",
        f"runs_dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    line.remove("dataset=digits")
    assert run_cli(capsys, "train", *line)[0] == 0
    assert "changed on disk" not in run_cli(capsys, "train", *line)[1]
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(data / "a" / "new.png")
    assert "dataset.root changed on disk" in run_cli(capsys, "train", *line)[1]


def test_mistakes_end_in_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_cli(capsys, "train", "trainer.epoch=3", "optimiser=sgd")
    assert code == 2
    assert "2 problems" in err
    assert "Traceback" not in err
    code, _, err = run_cli(capsys, "evaluate", "no-such-run", "--runs-dir", "nowhere")
    assert code == 2
    assert "no run" in err


def test_help_needs_nothing_heavy() -> None:
    code = "import sys\nfrom tlx.cli import parser\nparser()\nprint('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
