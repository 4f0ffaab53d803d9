"""`tlx init` writes a project that runs at once, and what is edited in it is trained anew."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tlx import cli, init_command

ALONE = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "OMP_NUM_THREADS": "1"}


def written(folder):
    files = init_command.init(folder)
    return {file.relative_to(folder).as_posix(): file.read_text() for file in files}


def test_it_writes_a_module_of_the_projects_name(tmp_path, capsys):
    assert cli.main(["init", str(tmp_path / "Moth-2")]) == 0
    assert f"now: cd {tmp_path / 'Moth-2'} && make run && make test" in capsys.readouterr().out
    root = tmp_path / "Moth-2"
    files = {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()}
    assert {"moth_2/networks.py", "tests/test_moth_2.py", ".gitignore", "tlx.toml"} <= set(files)
    assert not [name for name, text in files.items() if init_command.NAME in text]
    assert f"PYTHON ?= {sys.executable}" in files["Makefile"]
    assert "pip" not in files["Makefile"]
    assert 'allow_targets = ["moth_2.*"]' in files["tlx.toml"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("json", "is the name of another module.*my_json"),
        ("torch", "is the name of another module"),
        ("tlx", "is the name of another module"),
        ("tests", "is the name of another module"),
        ("2moths", "is no name for a module; give one such as moths"),
        ("mött", "is no name for a module"),
        ("class", "is no name for a module"),
        ("full", "is there, and not empty"),
    ],
)
def test_a_wrong_folder_is_refused_before_anything_is_written(name, message, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=message):
        init_command.init(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_nothing_of_the_template_is_unused(tmp_path):
    """Each option is chosen by an experiment, each function is an option's, and is tested."""
    files = written(tmp_path / "moths")
    experiments = "".join(t for n, t in files.items() if n.startswith("conf/experiment"))
    (test,) = (text for name, text in files.items() if name.startswith("tests/"))
    options = [n for n in files if re.fullmatch(r"conf/(?!experiment).*\.yaml", n)]
    assert len(options) == 4
    for name in options:
        target = re.search(r"_target_: moths\.(\w+)\.(\w+)", files[name])
        assert Path(name).stem in experiments
        assert f"def {target[2]}(" in files[f"moths/{target[1]}.py"]
        assert f"from moths.{target[1]} import" in test


def make(root, *line):
    done = subprocess.run(
        ["make", *line], cwd=root, env=ALONE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_it_runs_and_an_edited_strategy_has_another_table(tmp_path):
    """Without any environment: no PYTHONPATH, no settings, no activated interpreter."""
    root = tmp_path / "moths"
    init_command.init(root)
    assert "OK" in make(root, "test")
    first = make(root, "run")
    assert "12 runs, 12 finished" in first
    file = root / "moths" / "freezing.py"
    text = file.read_text()
    assert text.count("below[-count:]") == 1
    file.write_text(text.replace("below[-count:]", "below[:count]"))
    edited = make(root, "run")
    assert "full seed 0" not in edited  # finished already
    rows, before = table(edited), table(first)
    assert rows["upper"] != before["upper"]
    for name in ("full", "linear_probe"):  # written to as many digits as the table's spread asks
        assert float(rows[name]) == pytest.approx(float(before[name]), abs=0.0051)


def table(text):
    """Arm to its mean test accuracy."""
    return dict(re.findall(r"^ (\w+) +(0\.\d+) \[", text, flags=re.MULTILINE))
