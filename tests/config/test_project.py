"""A project: a folder with a tlx.toml, whose functions a config may call."""

import os
import sys

import pytest

from tlx import diagnose
from tlx.config import components, listing, places, project, settings, signatures
from tlx.config.check import CheckError
from tlx.config.compose import compose
from tlx.config.identity import run_id
from tlx.config.settings import load_settings

MODULE = '''
"""Nothing of it is imported to check a config."""
import os
from os import system
from tlx.methods.strategies import full
raise SystemExit("imported")
def upper(layout, *, share: float = 0.5): ...
def _helper(): ...
class Kept: ...
'''


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with a package and options, in whose subfolder one works."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TLX_SETTINGS", str(tmp_path / "none.toml"))
    folder = tmp_path / "work"
    for name, text in {
        "tlx.toml": 'allow_targets = ["mymoths.*"]\n',
        "mymoths/__init__.py": "",
        "mymoths/freezing.py": MODULE,
        "conf/freeze_strategy/upper.yaml": "# Upper ones.\n_target_: mymoths.freezing.upper\n",
        "deep/below/.keep": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder / "deep" / "below")
    signatures.forget()
    yield folder.resolve()
    signatures.forget()


def test_it_is_found_from_a_folder_below_and_its_options_compose(root):
    assert project.current().root == root
    assert compose(["freeze_strategy=upper"])["freeze_strategy"] == {
        "_target_": "mymoths.freezing.upper",
        "share": 0.5,
    }
    assert sys.path[-1] == str(root)
    with pytest.raises(CheckError, match="did you mean 'share'"):
        compose(["freeze_strategy=upper", "freeze_strategy.shaer=1"])


def test_only_what_its_modules_define_is_allowed(root):
    for name in ("system", "full", "_helper", "nothing"):
        with pytest.raises(CheckError, match="not allowed"):
            compose([f"freeze_strategy._target_=mymoths.freezing.{name}"])
    with pytest.raises(CheckError, match=r"mymoths\.freezing\.os is no module"):
        compose(["freeze_strategy._target_=mymoths.freezing.os.system"])
    with pytest.raises(CheckError, match=r"did you mean 'mymoths\.freezing\.upper'"):
        compose(["freeze_strategy._target_=mymoths.freezing.uper"])
    found = listing.text("targets").splitlines()
    assert [line for line in found if line.startswith("mymoths")] == [
        "mymoths.freezing.Kept",
        "mymoths.freezing.upper",
    ]


def test_its_options_are_listed(root):
    assert "upper                    Upper ones." in listing.text("freeze_strategy").splitlines()
    folder = root / "conf" / "freeze_strategy"
    (folder / "upper.yaml").rename(folder / "full.yaml")
    with pytest.raises(CheckError, match=r"freeze_strategy=full is in .*conf/freeze_strategy"):
        compose([])


def test_outside_of_it_nothing_of_it_is_allowed(root, monkeypatch):
    compose(["freeze_strategy=upper"])
    monkeypatch.chdir(root.parent)
    assert project.current() is None
    assert "mymoths.freezing.upper" not in load_settings().allow_targets
    monkeypatch.setenv(project.VARIABLE, str(root))
    assert "mymoths.freezing.upper" in load_settings().allow_targets
    monkeypatch.setenv(project.VARIABLE, str(root.parent))
    with pytest.raises(CheckError, match=r"TLX_PROJECT: .* holds no tlx\.toml"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'allow_targets = ["shutil.*"]',
            "'shutil' is in .*; a project allows functions of its own",
        ),
        ('allow_targets = ["nowhere.*"]', "'nowhere' is no module there"),
        ("allow_remote_code = true", "is for your own settings file alone"),
        ('allow_environment = ["TOKEN"]', "is for your own settings file alone"),
        ("allow_target = []", "did you mean 'allow_targets'"),
    ],
)
def test_it_allows_its_own_functions_and_nothing_else(root, text, message):
    (root / "tlx.toml").write_text(text)
    with pytest.raises(CheckError, match=message):
        load_settings()


def test_a_project_of_somebody_else_is_refused_until_it_is_named(root, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    if (root / "tlx.toml").stat().st_uid == 0:
        os.chown(root / "tlx.toml", 54321, -1)
    with pytest.raises(CheckError, match=rf"TLX_PROJECT={root}"):
        load_settings()
    monkeypatch.setenv(project.VARIABLE, str(root))
    assert "mymoths.freezing.upper" in load_settings().allow_targets


def test_a_module_that_is_no_python_is_named_with_its_line(root):
    (root / "mymoths" / "freezing.py").write_text("def upper(layout:\n")
    with pytest.raises(CheckError, match=r"freezing\.py, line 1: is no Python"):
        compose(["freeze_strategy=upper"])


def test_the_users_own_settings_allow_modules_of_the_path_too(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(root)
    file = tmp_path / "settings.toml"
    monkeypatch.setenv("TLX_SETTINGS", str(file))
    file.write_text('allow_targets = ["mymoths.freezing.*"]\n')
    assert "mymoths.freezing.upper" in settings.load_settings().allow_targets
    assert "mymoths.other.upper" not in settings.load_settings().allow_targets


def test_a_package_installed_for_editing_is_found(root, monkeypatch, tmp_path):
    """Some installers leave no folder on the path but a finder, which knows where files are."""
    from importlib.util import spec_from_file_location

    file = tmp_path / "far" / "editable_moths.py"
    file.parent.mkdir()
    file.write_text("def net(): ...\n")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return spec_from_file_location(name, file) if name == "editable_moths" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    signatures.forget()
    assert signatures.module_file("editable_moths") == file
    assert signatures.public("editable_moths") == {"net"}


def test_a_run_is_known_by_the_code_of_its_own_functions(root):
    def ids(*lines):
        """Of today's files, as another process would read them."""
        for name, text in lines:
            (root / "mymoths" / name).write_text(text)
        signatures.forget()
        components._digest.cache_clear()
        return run_id(compose(["freeze_strategy=upper"])), run_id(compose([]))

    first, plain = ids(
        ("freezing.py", "from . import shares\n" + MODULE), ("shares.py", "HALF = 2")
    )
    same = '"""Other words."""\nfrom . import shares  # and so on\n\n' + MODULE.replace(", ", ",  ")
    assert ids(("freezing.py", same)) == (first, plain)
    assert ids(("unused.py", "HALF = 4")) == (first, plain)
    edited = {
        first,
        *(
            ids((name, text))[0]
            for name, text in [
                ("shares.py", "HALF = 3"),
                ("freezing.py", same.replace("...", "return ()")),
                ("__init__.py", "HALF = 2"),
            ]
        ),
    }
    assert len(edited) == 4
    assert ids()[1] == plain


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with an entry point, as an installer leaves it."""
    site = tmp_path / "site"
    yaml = "# A head start.\n_target_: moth_options.freezing.late\n"
    wrong = "# Of another package.\n_target_: shutil.rmtree\n"
    for name, text in {
        "moth_options/__init__.py": "raise SystemExit('imported')\n",
        "moth_options/freezing.py": "def late(layout, *, after: int = 3): ...\n",
        "moth_options/conf/freeze_strategy/late.yaml": yaml,
        "moth_options/conf/freeze_strategy/wrong.yaml": wrong,
        "tlx_moths-1.2.dist-info/METADATA": "Name: tlx-moths\nVersion: 1.2\n",
        "tlx_moths-1.2.dist-info/entry_points.txt": "[tlx.options]\nmoths = moth_options\n",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("TLX_SETTINGS", str(tmp_path / "none.toml"))
    signatures.forget()
    yield site
    signatures.forget()


def test_an_installed_package_brings_options(installed):
    assert compose(["freeze_strategy=late"])["freeze_strategy"]["after"] == 3
    assert "late                     A head start." in listing.text("freeze_strategy").splitlines()
    with pytest.raises(CheckError, match=r"shutil\.rmtree' is not allowed"):
        compose(["freeze_strategy=wrong"])
    assert places.Library.here().own == (installed / "moth_options" / "conf",)


def test_the_doctor_says_who_brings_options(root, installed):
    lines, problems = diagnose._options()
    assert problems == []
    assert lines == [
        f"project {root}: freeze_strategy=upper",
        "options of tlx-moths 1.2: freeze_strategy=late, freeze_strategy=wrong",
    ]
    (root / "tlx.toml").write_text("allow_target = []\n")
    (_, ((wrong, _),)) = diagnose._options()
    assert "allow_target: is no setting" in wrong
