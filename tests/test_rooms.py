"""Who may import whom: the table of the design, held against every import in tlx/."""

import ast
import re
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tlx"
MODEL_ROOMS = {"tasks", "backbones", "data", "methods"}
# what runs: execution/, and what it calls and is called by
EXECUTION = {"execution", "fused", "train", "use"}
BELOW_EXECUTION = {"building", "config", "frozen", "results", "training", *MODEL_ROOMS}
MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "methods": {"base.ranges"},
    "results": set(),
    "data": {"methods"},
    "backbones": {
        "data.audio.spec",
        "data.images.spec",
        "data.inputs",
        "data.splits",
        "data.text.spec",
        "methods",
    },
    "tasks": {"backbones", "data", "methods"},
    "frozen": MODEL_ROOMS,
    "config": {
        *("data.text.column_files", "data.split_files", "data.split_folders", "data.split_names"),
        "backbones.weights.kinds",
        *("methods.stages", "results.grammar", "results.reading", "results.record"),
    },
    "report": {"config.check", "results"},
    "training": MODEL_ROOMS | {"frozen", "config.run", "config.schema", "results.record"},
    "building": {"config", "training", "frozen", *MODEL_ROOMS},
    **{name: EXECUTION | BELOW_EXECUTION for name in EXECUTION},
    "diagnose": {"config", "results"},
    "sweeps": {"execution", "config", "results", "training.engine.pruning"},
    **{
        name: EXECUTION
        | BELOW_EXECUTION
        | {"sweeps", "report"}
        | {"diagnose", "init_command", "study_commands"}
        for name in ("commands", "study_commands")
    },
    "cache_commands": {"frozen"},
    "init_command": {"config"},
    "testing": EXECUTION | BELOW_EXECUTION,
    "template": {*MODEL_ROOMS, "base", "testing", "training"},
}
ORDER = (
    *("silence", "leases", "lease_journal", "lease_places", "runs", "lost_ranks", "lineage"),
    *("finished", "teachers"),
    *("launch", "preparing", "train", "fused", "execute", "rehearsal", "use"),
)
"""Of what runs: each may import those before it alone."""

STANDARD_LIBRARY_ONLY = (
    *("base/names.py", "base/ownership.py", "base/ranges.py", "base/secrecy.py"),
    "base/settings_file.py",
    "base/version.py",
    *("methods/stages.py", "methods/strategies.py"),
    *("data/split_files.py", "data/split_folders.py", "data/split_names.py"),
    *("data/text/column_files.py", "backbones/weights/kinds.py"),
)
NO_TORCH = ("config", "cli.py", "__init__.py")
HEAVY = {"torch", "torchvision", "pytorch_lightning", "timm", "transformers", "wandb", "ray"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path, *, top_only=False):
    """Dotted names that a file imports; `from a import b` gives a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inner(path):
    return {name.removeprefix("tlx.") for name in imports(path) if name.startswith("tlx.")}


def test_there_are_rooms():
    assert {"methods", "config", "data", "backbones", "tasks"} <= {room(p) for p in modules()}


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_table(path):
    here = room(path)
    if here in {"cli", "__init__"}:
        return
    assert here in MAY_IMPORT, f"{here} is no room of the table"
    others = MAY_IMPORT[here] | (set() if here in {"base", "methods"} else {"base"})
    for name in inner(path):
        allowed = name.split(".")[0] == here or any(
            name == other or name.startswith(f"{other}.") for other in others
        )
        assert allowed, f"{here} may not import tlx.{name}"


def place(name):
    """Where a module of what runs stands in the order; None for another."""
    words = name.removeprefix("execution.").split(".")
    return ORDER.index(words[0]) if words[0] in ORDER else None


@pytest.mark.parametrize("path", [p for p in modules() if room(p) in EXECUTION], ids=str)
def test_what_runs_imports_only_what_stands_before_it(path):
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    if own.endswith("__init__"):
        return
    assert place(own) is not None, f"{own} has no place in the order"
    for name in inner(path):
        other = place(name)
        assert other is None or other <= place(own), f"{own} may not import {name}"


def test_the_table_notices_a_wrong_import(tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text("from tlx.training import fit\nimport tlx.building\n")
    assert inner(file) == {"training.fit", "building"}
    assert not inner(file) & {f"{room}.fit" for room in MAY_IMPORT["methods"]}


@pytest.mark.parametrize("path", [PACKAGE / name for name in STANDARD_LIBRARY_ONLY], ids=str)
def test_what_config_imports_needs_only_the_standard_library(path):
    own = tuple(
        f"tlx.{name.removesuffix('.py').replace('/', '.')}" for name in STANDARD_LIBRARY_ONLY
    )
    for name in imports(path):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or name.startswith(("tlx.methods.", *own)), name


def test_methods_need_only_torch_numpy_and_the_standard_library():
    for path in (PACKAGE / "methods").rglob("*.py"):
        for name in imports(path):
            top = name.split(".")[0]
            assert top in {*sys.stdlib_module_names, "torch", "numpy", "tlx"}, (
                f"{path.name}: {name}"
            )


def test_every_package_init_is_light():
    found = sorted(PACKAGE.rglob("__init__.py"))
    assert found
    for path in found:
        for name in imports(path, top_only=True):
            light = name in ("tlx.base.ownership", "tlx.base.version.__version__")  # see above
            assert light or name.split(".")[0] in sys.stdlib_module_names, f"{path}: {name}"


def test_config_and_the_command_line_start_without_torch():
    for path in modules():
        if path.relative_to(PACKAGE).as_posix().startswith(NO_TORCH):
            for name in imports(path, top_only=room(path) != "config"):
                assert name.split(".")[0] not in HEAVY, f"{path}: {name}"


def test_no_folder_of_data_imports_its_sibling():
    """A modality stands alone; `tables` is a form of files, and below all modalities."""
    data = PACKAGE / "data"
    folders = {path.name for path in data.iterdir() if (path / "__init__.py").is_file()}
    assert folders >= {"audio", "images", "text", "tables"}
    for folder in sorted(folders):
        others = folders - {folder, "tables"}
        for path in sorted((data / folder).rglob("*.py")):
            wrong = [
                name
                for name in inner(path)
                if name.split(".")[:1] == ["data"] and name.split(".")[1] in others
            ]
            assert not wrong, f"{path.relative_to(PACKAGE)}: {wrong}"


KINDS = re.compile(
    r'"(image|audio|tags|pooled|word|token)"|WindowedText|attention_mask|isinstance\(task|"text"'
)
OF_PLOTLY = re.compile(r'"text": |\["text"\]|css\("text"\)')
OF_CELLS = re.compile(r'kind: str = "text"|kind == "text"|not in \("text", ')


def test_a_report_names_no_modality_and_no_kind_of_label():
    """But for Plotly's own keys, and the kinds of a table's cells."""
    for path in (PACKAGE / "report").rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            named = KINDS.search(line) and not OF_PLOTLY.search(line) and not OF_CELLS.search(line)
            assert not named, f"{path.name}: {line.strip()}"


ENGINE = (
    *("building", "train", "use", "execution", "training", "frozen", "fused", "config", "sweeps"),
)
OTHER_WORDS = {
    **dict.fromkeys(
        ("config/schema.py", "config/identity.py"), '"tags"'
    ),  # by which runs are found
    **dict.fromkeys(("sweeps/studies.py", "sweeps/searching.py"), '"tags"'),
    "config/data_paths.py": '"word"',  # an argument that is no path
}
"""Words that mean something else in a file."""


@pytest.mark.parametrize("name", ENGINE)
def test_the_engine_names_no_modality_and_no_kind_of_label(name):
    files = sorted((PACKAGE / name).rglob("*.py"))
    assert files
    for path in files:
        other = OTHER_WORDS.get(path.relative_to(PACKAGE).as_posix())
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.replace(other, "") if other else line
            assert not KINDS.search(text), f"{path.name}: {line.strip()}"
