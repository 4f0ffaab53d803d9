"""A task from one file outside the package: it trains, predicts, writes files, shows a view."""

import csv
import logging
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from tlx.config import signatures
from tlx.execution import execute
from tlx.report.build import build
from tlx.results import record
from tlx.sweeps import studies
from tlx.sweeps.executor import Ended
from tlx.use.predict import Predictor

RUN = (
    *("task=parity", "dataset=digits", "dataset.labels_per_class=4", "backbone=timm"),
    *("dataset.classes=[0,1,2]", "dataset.folds=20", "dataset.fold=0"),  # 27 images to test on
    *("backbone.init=none", "backbone.name=test_resnet", "backbone.image_size=32", "trainer=cpu"),
    *("trainer.epochs=null", "trainer.steps=4", "trainer.batch_size=8", "logger=[csv]"),
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TLX_SETTINGS", str(tmp_path / "none.toml"))
    (tmp_path / "tlx.toml").write_text('allow_targets = ["parity.*"]\n')
    (tmp_path / "conf" / "task").mkdir(parents=True)
    yaml = "# Odd or even.\n_target_: parity.parity\nsharpness: 1.0\n"
    (tmp_path / "conf" / "task" / "parity.yaml").write_text(yaml)
    shutil.copyfile(Path(__file__).with_name("parity_task.py"), tmp_path / "parity.py")
    monkeypatch.chdir(tmp_path)
    signatures.forget()
    yield tmp_path
    sys.modules.pop("parity", None)
    signatures.forget()


class Here:
    """An executor that runs jobs in this process; test_third_modality.py uses the local one."""

    def __init__(self):
        self.jobs = []

    def room(self, job):
        return not self.jobs

    def start(self, job):
        self.jobs.append(job)

    def ended(self, timeout_s):
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            execute.run_here(job.folder)
        return [Ended(job.folder, "finished") for job in jobs]

    def stop(self, **_):
        self.jobs = []

    def close(self):
        pass


def test_a_task_from_one_file(project, caplog, monkeypatch):
    from tlx.cli import main

    monkeypatch.setattr(studies, "make", lambda *args, **kwargs: Here())
    assert main(["train", "-m", *RUN, "task.sharpness=1,2"]) == 0
    (folder,) = (project / "runs" / "studies").iterdir()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '<section id="parity"' in page
    with open(folder / "tables" / "parity.csv", encoding="utf-8", newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert len(rows) == 2
    for run in (path.parent for path in (project / "runs").glob("*/record.json")):
        made = record.read(run)
        assert made.views == ("parity",)
        with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
            logged = [row for row in csv.DictReader(file) if row["train/loss"]]
        for row in logged:
            parts = float(row["train/right"]) + float(row["train/size"])
            assert float(row["train/loss"]) == pytest.approx(parts)
        assert logged
        odd = made.splits["test"].views["parity"]["odd"]
        lines = (run / "predictions" / "test.odd").read_text(encoding="utf-8").splitlines()
        with open(run / "predictions" / "test.csv", encoding="utf-8", newline="") as file:
            said = list(csv.DictReader(file))
        assert odd == len(lines) == sum(float(row["odd"]) > 0 for row in said) <= len(said)
        assert lines == [row["id"] for row in said if float(row["odd"]) > 0]
    image = project / "one.png"
    Image.new("L", (8, 8), 90).save(image)
    (found,) = Predictor(run).predict([image])
    assert set(found) == {"path", "odd"}

    (project / "tlx.toml").write_text("")
    signatures.forget()
    with caplog.at_level(logging.WARNING):
        build(folder, runs_dir=project / "runs")
    assert "leaves out the view parity" in caplog.text
