"""Damaged files of runs and studies: a right answer, or one message that names the file."""

import dataclasses
import itertools
import json
import re
import shutil

import pytest
import torch
from PIL import Image

import launching
from cover import cover
from studying import PROBE
from tlx import cli
from tlx.backbones.weights import files as weights
from tlx.base import sealed
from tlx.execution import execute, runs
from tlx.results import manifest
from tlx.results.manifest import Manifest, PlannedRun

STUDY = "few"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of two finished runs and of a study of them; nobody may change it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("whole")
    folders = [
        launching.freeze([*PROBE, f"seed={seed}"], runs_dir=root / "runs") for seed in (0, 1)
    ]
    for folder in folders:
        execute.run_here(folder)
        shutil.rmtree(folder / "before", ignore_errors=True)
    planned = tuple(
        PlannedRun(run=folder.name, arm="probe", seed=seed, overrides=PROBE)
        for seed, folder in enumerate(folders)
    )
    made = Manifest(
        **{"study": STUDY, "question": None, "design": "arms", "baseline": "probe"},
        **{"metric": "test/accuracy", "mode": "max", "directions": {"accuracy": "max"}},
        **{"claims": (), "seeds": (0, 1), "arms": ("probe",), "factors": {}, "tuned": {}},
        **{"runs": planned, "parents": (), "command": ("tlx", "train"), "created": "now"},
    )
    manifest.write(root / "runs" / manifest.STUDIES / STUDY, made)
    Image.new("L", (8, 8), 100).save(root / "one.png")
    return root


@pytest.fixture
def spoilt(whole, tmp_path):
    """A copy that a test may spoil; its runs folder."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy" / "runs"


def first_run(runs_dir):
    return min(runs_dir.glob("digits-*s0-*"))


def place(runs_dir, name):
    """Path of a file that is named as in FILES."""
    if name == "leases.db":
        return runs_dir / ".leases" / name
    if name == "manifest.json":
        return runs_dir / manifest.STUDIES / STUDY / name
    return first_run(runs_dir) / name


FILES = (
    *("record.json", "provenance.json", "metrics.csv", "config.yaml", "overrides.txt"),
    *("progress.json", "model.safetensors", "predictions/test.csv", "manifest.json", "leases.db"),
)
DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "cut at a line": lambda content: b"\n".join(content.split(b"\n")[: content.count(b"\n") // 2]),
    "binary": lambda content: bytes(range(256)) * 8,
    "zeros": lambda content: bytes(len(content)),
    "a list": lambda content: b"[]\n",
    "an object": lambda content: b"{}\n",
    "a number": lambda content: b"3\n",
    "deep": lambda content: b"[" * 100_000,
    "a bit": lambda content: (
        content[: len(content) // 2 + 5]
        + bytes([content[len(content) // 2 + 5] ^ 1])
        + content[len(content) // 2 + 6 :]
    ),
}
COMMON = ("empty", "cut", "binary", "a list", "an object", "a bit")
QUICK = ("status", "list", "clean", "train")
SLOW = ("evaluate", "predict", "export", "report", "rerun", "force")


def words(command, runs_dir, tmp_path):
    """The command line."""
    run, own = first_run(runs_dir).name, ["--runs-dir", str(runs_dir)]
    return {
        "evaluate": ["evaluate", run, *own],
        "predict": ["predict", run, str(runs_dir.parent / "one.png"), *own],
        "export": ["export", run, "--into", str(tmp_path / "export"), *own],
        "rerun": ["rerun", run, "--into", str(tmp_path / "again"), *own],
        "train": ["train", *PROBE, "seed=0", f"runs_dir={runs_dir}"],
        "force": ["train", *PROBE, "seed=0", f"runs_dir={runs_dir}", "--force"],
        "report": ["report", STUDY, *own],
        "status": ["status", STUDY, *own],
        "list": ["list", "runs", *own],
        "clean": ["clean", STUDY, *own],
    }[command]


@dataclasses.dataclass
class Outcome:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def figures(self):
        """Numbers on lines of figures and predictions."""
        lines = [
            line for line in self.out.splitlines() if re.match(r"(val|test)/|.*one\.png", line)
        ]
        return [re.sub(r"^.*one\.png", "", line) for line in lines]


def outcome(command, runs_dir, tmp_path, capfd):
    """Runs a command in this process."""
    capfd.readouterr()
    status = cli.main(words(command, runs_dir, tmp_path))
    return Outcome(status, *capfd.readouterr())


@pytest.fixture(scope="module")
def right():
    """Figures of commands on what is whole, as they are met."""
    return {}


def check(found, path, *, right, case):
    """A right answer, or a message that names the file; no traceback in either."""
    assert "tlx --debug" not in found.err, (case, found.err)
    assert "Traceback" not in found.err, (case, found.err)
    if found.status:
        assert found.status in (1, 2), case
        assert str(path) in found.err, (case, found.err)
    elif found.figures and right:
        assert found.figures == right, case


def spoil(runs_dir, name, damage):
    """Damages a file; its path."""
    path = place(runs_dir, name)
    path.parent.mkdir(exist_ok=True)
    content = path.read_bytes() if path.exists() else b"SQLite format 3\0" + bytes(4000)
    path.write_bytes(DAMAGES[damage](content))
    return path


@pytest.mark.parametrize("name", FILES)
def test_damage_keeps_no_command_from_the_other_runs(name, whole, tmp_path, capfd):
    # to compose a config takes longer than all else
    train = name in {"record.json", "provenance.json"}
    for number, damage in enumerate(COMMON):
        runs_dir = tmp_path / str(number) / "runs"
        shutil.copytree(whole / "runs", runs_dir)
        path = spoil(runs_dir, name, damage)
        for command in QUICK if train else QUICK[:-1]:
            found = outcome(command, runs_dir, tmp_path, capfd)
            check(found, path, right=None, case=(name, damage, command))
            if command == "list":
                other = next(runs_dir.glob("digits-*s1-*"))
                assert re.search(f"{other.name} +finished", found.out)
        if name == "record.json":
            # one bit may be one of a figure
            assert len(find_finished(runs_dir, capfd, tmp_path)) in (
                {0, 3} if damage == "a bit" else {0}
            )


def test_a_finished_run_is_finished_without_its_provenance(spoilt, tmp_path, capfd):
    path = spoil(spoilt, "provenance.json", "binary")
    found = outcome("train", spoilt, tmp_path, capfd)
    assert found.status == 0
    assert "is finished already" in found.out
    assert str(path) in found.out


def find_finished(runs_dir, capfd, tmp_path):
    """Commands that take the first run for finished."""
    run = first_run(runs_dir)
    found = {command: outcome(command, runs_dir, tmp_path, capfd) for command in QUICK}
    one = f"{run.name} +finished"
    return [
        *(["list"] if re.search(one, found["list"].out) else []),
        *(["status"] if "2 finished" in found["status"].out else []),
        *(["train"] if found["train"].status == 0 else []),
    ]


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize("damage", ["cut", "a bit"])
def test_no_figure_comes_of_damaged_files(whole, damage, command, tmp_path, capfd, right):
    for name in ("config.yaml", "model.safetensors", "record.json"):
        runs_dir = tmp_path / name / "runs"
        shutil.copytree(whole, runs_dir.parent)
        if command not in right:
            right[command] = outcome(command, runs_dir, tmp_path, capfd).figures
            assert right[command]
        path = spoil(runs_dir, name, damage)
        found = outcome(command, runs_dir, tmp_path, capfd)
        check(found, path, right=right[command], case=(name, damage, command))
        # one bit of a figure says nothing of the weights, and one of trainer.nodes nothing at all
        if (damage == "cut" and name != "record.json") or name == "model.safetensors":
            assert found.status == 2


def test_the_report_leaves_out_what_is_damaged(spoilt, tmp_path, capfd, caplog):
    paths = [spoil(spoilt, name, "cut") for name in ("predictions/test.csv", "metrics.csv")]
    paths += [spoil(spoilt, "provenance.json", "a bit")]
    found = outcome("report", spoilt, tmp_path, capfd)
    assert found.status == 0, found.err
    for path in paths:
        assert caplog.text.count(f"{path} is damaged") == 1
    assert "2 finished" in found.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage", "command"),
    [
        (*each, command)
        for each, command in zip(
            cover(FILES, list(DAMAGES), every=4), itertools.cycle(SLOW), strict=False
        )
    ],
)
def test_damage_is_told_of_or_of_no_concern(
    name, damage, command, whole, spoilt, tmp_path, capfd, right
):
    if command not in right:
        shutil.copytree(whole, tmp_path / "whole")
        right[command] = outcome(command, tmp_path / "whole" / "runs", tmp_path, capfd).figures
    path = spoil(spoilt, name, damage)
    found = outcome(command, spoilt, tmp_path / "own", capfd)
    check(found, path, right=right[command], case=(name, damage, command))


def test_nothing_starts_from_damaged_weights(spoilt, tmp_path, capfd):
    path = spoil(spoilt, "model.safetensors", "a bit")
    child = [*PROBE, f"backbone.init=run:{path.parent.name}"]
    with pytest.raises(sealed.Damaged, match=re.escape(str(path))):
        launching.freeze(child, runs_dir=spoilt)
    with pytest.raises(sealed.Damaged, match=re.escape(str(path))):
        weights.content_id(path)
    found = outcome("export", spoilt, tmp_path, capfd)
    assert (found.status, str(path) in found.err) == (2, True)
    assert not (tmp_path / "export").exists()


def test_older_records_without_seals_are_taken_as_they_are(spoilt, tmp_path, capfd):
    path = place(spoilt, "record.json")
    old = json.loads(path.read_text())
    del old["files"]
    path.write_text(json.dumps(old, indent=1))
    spoil(spoilt, "model.safetensors", "a bit")
    assert outcome("predict", spoilt, tmp_path, capfd).status == 0


def test_what_a_config_says_beside_the_result_may_be_changed(spoilt, tmp_path, capfd):
    folder = first_run(spoilt)
    config = runs.read_config(folder)
    runs.write_config(folder, {**config, "keep": "checkpoints"})
    assert runs.read_config(folder)["keep"] == "checkpoints"
    runs.write_config(folder, {**config, "backbone": {**config["backbone"], "image_size": 33}})
    with pytest.raises(sealed.Damaged, match=r"config\.yaml"):
        runs.read_config(folder)
