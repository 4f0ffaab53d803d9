"""Copies of the code: what a queued job runs is what there was when it was submitted."""

import os
import subprocess
import sys

from tlx.config.compose import compose
from tlx.config.identity import run_id
from tlx.sweeps import snapshot

ASK = """
from tlx.config.compose import compose
from tlx.config.identity import run_id
print(run_id(compose(["freeze_strategy=upper"])))
"""


def test_a_copy_holds_the_project_and_names_its_runs_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    root = tmp_path / "work"
    option = "_target_: copied_moths.upper\n"
    for name, text in {
        "tlx.toml": 'allow_targets = ["copied_moths.*"]\n',
        "copied_moths.py": "def upper(layout): ...\n",
        "conf/freeze_strategy/upper.yaml": option,
        "runs/large.bin": "none of the code",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.chdir(root)
    before = run_id(compose(["freeze_strategy=upper"]))
    copy = snapshot.take(root / "runs")
    assert snapshot.take(root / "runs") == copy
    (root / "copied_moths.py").write_text("def upper(layout): return ()\n")
    kept = sorted(p.name for p in (copy / snapshot.PROJECT).iterdir())
    assert kept == ["conf", "copied_moths.py", "tlx.toml"]
    said = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=tmp_path,
        env={**os.environ, **snapshot.environment(copy)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == before
