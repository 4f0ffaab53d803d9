"""Our files and somebody else's package of the same name: nobody is sent to it, and it is seen."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tlx
from tlx import diagnose
from tlx.base import ownership
from tlx.results import provenance

ROOT = Path(__file__).resolve().parent.parent
READ = ("docs", "tlx", "conf", "experiments", "benchmarks")
ALONE = ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "tlx_command.py")
FROM_INDEX = re.compile(
    r"pip[\d.]*\s+(install|download|wheel)\b[^`]*?(?<![\w./])tlx\b(?!/)|\btlx\[\w"
)
THEIRS = ("tlx/__init__.py", "tlx/util/__init__.py", "tlx-0.1.125.dist-info/METADATA")
OURS = ("tlx/__init__.py", "tlx/conf/config.yaml", "tlx_command.py")
LINKED = ("_editable_impl_tlx_experiments.pth", "tlx/conf/config.yaml", "tlx_command.py")


def pages():
    files = [file for name in READ for file in (ROOT / name).rglob("*") if file.is_file()]
    text = [
        file for file in files if file.suffix in {".py", ".md", ".yaml", ".html", ".js", ".css"}
    ]
    return [*text, *(ROOT / name for name in ALONE)]


def test_no_line_sends_anybody_to_the_index_for_tlx():
    assert len(pages()) > 300
    wrong = [
        f"{page.relative_to(ROOT)}:{number}: {line.strip()}"
        for page in pages()
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
        if FROM_INDEX.search(line)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("line", "sends"),
    [
        ("Needs `pip install 'tlx[slurm]'`, and a login node", True),
        ("pip install -U tlx", True),
        ("python -m pip install --quiet tlx-experiments", True),
        ("needs the extra tlx[datasets]", True),
        ("`pip install -c constraints.txt .`, then `tlx doctor`", False),
        ("pip uninstall tlx, then install this one again: pip install --no-deps .", False),
        ("pip install -e '.[slurm]'", False),
    ],
)
def test_the_search_knows_such_lines(line, sends):
    assert bool(FROM_INDEX.search(line)) is sends


def test_the_version_is_that_of_the_code_and_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == ownership.DISTRIBUTION
    assert project["version"] == tlx.__version__ == provenance.versions()["tlx"]


def installed(site, info, files):
    folder = site / f"{info}.dist-info"
    folder.mkdir(parents=True)
    (folder / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))
    return folder


def imported(site, code="import tlx"):
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        cwd=site,
        env={"PYTHONPATH": str(site)},
        check=False,
    )


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages with our first files in it."""
    (tmp_path / "tlx" / "base").mkdir(parents=True)
    first = ("__init__.py", "base/__init__.py", "base/ownership.py", "base/version.py")
    for name in first:
        (tmp_path / "tlx" / name).write_bytes((ROOT / "tlx" / name).read_bytes())
    (tmp_path / "tlx_command.py").write_bytes((ROOT / "tlx_command.py").read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "infos",
    [
        {},  # a checkout, or a copy that a job runs
        {"tlx_experiments-0.2.0": OURS},
        {"tlx_experiments-0.2.0": LINKED},
        {"tlx-0.1.0": OURS},  # ours, before it had a name of its own
        {"tlx_experiments-0.2.0": OURS, "tlxzoo-0.0.1": ("tlxzoo/__init__.py",)},
        {"tlx_experiments-0.2.0": OURS, "tlx_sdk-0.3.2": ("tlx_sdk/__init__.py",)},
    ],
)
def test_our_package_is_imported(site, infos):
    for info, files in infos.items():
        installed(site, info, files)
    assert imported(site).returncode == 0
    assert not ownership.problems([str(site)])


@pytest.mark.parametrize("theirs", ["tlx-0.1.125", "tlx_other-2.0"])
def test_a_second_owner_of_our_file_is_named(site, theirs):
    installed(site, "tlx_experiments-0.2.0", OURS)
    installed(site, theirs, THEIRS)
    done = imported(site)
    assert done.returncode == 1
    assert f"belongs to two packages, tlx-experiments and {theirs}" in done.stderr
    assert "pip uninstall tlx" in done.stderr
    ((wrong, mend),) = ownership.problems([str(site), str(site)])
    assert theirs in wrong
    assert f"pip uninstall {theirs.partition('-')[0]}" in mend


def test_the_command_says_so_too(site):
    installed(site, "tlx_experiments-0.2.0", OURS)
    installed(site, "tlx-0.1.125", THEIRS)
    done = imported(site, "import sys, tlx_command; sys.exit(tlx_command.main())")
    assert done.returncode == 1
    assert done.stderr.startswith("tlx: ")
    assert "belongs to two packages" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("code", ["", "compose = 1"])
def test_the_command_knows_that_anothers_package_covers_ours(site, code):
    (site / "tlx" / "__init__.py").write_text(code)
    done = imported(site, "import sys, tlx_command; sys.exit(tlx_command.main())")
    assert done.returncode == 1
    assert str(site / "tlx" / "__init__.py") in done.stderr
    assert "pip uninstall tlx" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_doctor_looks_where_packages_are_imported_from(tmp_path, monkeypatch):
    installed(tmp_path, "tlx-0.1.125", THEIRS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(diagnose, "_torch_problems", list)
    monkeypatch.setattr(diagnose, "_devices", lambda: ("CPU",))
    wrong = [title for title, _ in diagnose.examine().problems]
    assert any(f"tlx-0.1.125 in {tmp_path} is somebody else's" in title for title in wrong)


def test_our_earlier_name_beside_the_new_one_is_told(tmp_path):
    installed(tmp_path, "tlx-0.1.0", LINKED)
    installed(tmp_path, "tlx_experiments-0.2.0", LINKED)
    ((wrong, _),) = ownership.problems([str(tmp_path)])
    assert "earlier name" in wrong


def test_no_folder_is_no_fault(tmp_path):
    assert not ownership.problems([str(tmp_path / "missing"), str(tmp_path / "some.zip")])
    ownership.require(str(tmp_path / "some.zip" / "tlx" / "__init__.py"))
