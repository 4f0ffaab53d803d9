"""The folder of a run before it is trained: what a worker reads and a reader wants to know."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tlx.base import durable, sealed
from tlx.base.secrecy import masked, masked_line
from tlx.config import changes, data_paths
from tlx.config.components import components
from tlx.config.run import Run
from tlx.execution import launch, runs
from tlx.execution.lineage import Located, finished
from tlx.results import provenance, reading, record

PROVENANCE = "provenance.json"


BEFORE = "before"
"""In a run's folder: what `--force` is about to replace."""


class Facts:
    """What many runs started by one process have in common; looked up once.

    Fingerprints of inputs are looked up again after a minute.
    """

    fresh_s = 60.0

    def __init__(self) -> None:
        """Looks nothing up yet."""
        self._inputs: dict[str, tuple[float, dict[str, str]]] = {}

    @cached_property
    def versions(self) -> dict[str, str]:
        """Installed versions."""
        return provenance.versions()

    @cached_property
    def code(self) -> dict[str, object]:
        """Commit and difference of tlx's own checkout."""
        return provenance.git_state(Path(__file__).resolve().parent.parent)

    @cached_property
    def working_folder_code(self) -> dict[str, object]:
        """Those of the checkout that the person is in."""
        return provenance.git_state(Path.cwd())

    def inputs(self, paths: Mapping[str, str]) -> dict[str, str]:
        """Fingerprints of input files and folders."""
        key = repr(sorted(paths.items()))
        at, found = self._inputs.get(key, (-math.inf, {}))
        if time.monotonic() - at > self.fresh_s:
            found = provenance.stat_fingerprint(paths)
            self._inputs[key] = (time.monotonic(), found)
        return found


def prepare(
    found: Located,
    *,
    overrides: Sequence[str] = (),
    force: bool = False,
    facts: Facts | None = None,
    patient: bool = True,
) -> None:
    """Writes what a worker reads and a reader wants to know.

    Args:
        found: the run.
        overrides: as given.
        force: start anew; what is there is set aside until the run has finished.
        facts: that many runs have in common; None: looked up for this one.
        patient: as in `runs.at_work`.

    Raises:
        Busy: somebody is at work on the run.
        RunError: the parent's weights are gone.
    """
    folder, run, facts = found.folder, found.run, facts or Facts()
    if found.parent is not None and not Path(found.init).is_file():
        raise runs.RunError(
            f"backbone.init: {found.parent.folder.name} has no {runs.WEIGHTS}; "
            "train it again with --force"
        )
    if found.parent is not None:
        sealed.check(Path(found.init))
    with runs.at_work(folder, patient=patient):
        if force:
            _set_aside(folder)
        elif finished(folder) is not None:
            return  # meanwhile, by another process: its record speaks of what lies here
        if reading.status_of(folder) == "failed":  # it is about to be tried again
            (folder / record.FILE).unlink()
        runs.write_config(folder, run.plain, sync=False)
        text = "".join(f"{masked_line(line)}\n" for line in overrides)
        durable.write(folder / "overrides.txt", text, sync=False)
        lineage = []
        if found.parent is not None:
            before = provenance_of(found.parent.folder).get("lineage", [])
            lineage = [*before, found.parent.folder.name]
        try:
            earlier = provenance_of(folder)
        except (runs.RunError, sealed.Damaged) as error:
            say(f"{error}\n  it is written anew; what it said of earlier attempts is lost")
            earlier = {}
        first = {key: value for key, value in earlier.items() if key != "attempts"}
        runs.write_json(
            folder / PROVENANCE,
            masked(
                {
                    "run": folder.name,
                    "attempts": [*earlier.get("attempts", []), first] if first else [],
                    "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "versions": facts.versions,
                    "hardware": provenance.hardware(),
                    "code": facts.code,
                    "working_folder_code": facts.working_folder_code,
                    "seeds": {"seed": run.seed, "order_seed": run.order_seed},
                    "inputs": facts.inputs(input_paths(run)),
                    "init": found.init,
                    "lineage": lineage,
                    "changes": changes.marks(run.plain),
                    "components": components(run.plain),
                }
            ),
            sync=False,
        )
        durable.sync(folder / name for name in (runs.CONFIG, "overrides.txt", PROVENANCE))


def _set_aside(folder: Path) -> None:
    """Moves what a run has left into its folder `before/`, where it stays until it is replaced.

    A finished result that is there already, of an attempt to replace it that did not finish, is
    worth more than what that attempt left.
    """
    aside = folder / BEFORE
    # of a record that cannot be read nobody knows whether the run had finished
    worth = ("finished", record.UNREADABLE)
    if reading.status_of(aside) not in worth or reading.status_of(folder) in worth:
        shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name in {".lock", BEFORE}:
            continue
        if not (aside / path.name).exists():
            path.rename(aside / path.name)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def provenance_of(folder: Path) -> dict[str, Any]:
    """What provenance.json of a run says; {} where there is none.

    Raises:
        RunError: it is damaged.
    """
    return runs.read_json(folder / PROVENANCE)


def init_of(folder: Path) -> str:
    """Where a run that was prepared takes its starting weights from.

    Raises:
        RunError: its provenance does not say so.
    """
    found = provenance_of(folder).get("init")
    if not isinstance(found, str):
        raise runs.damaged(folder / PROVENANCE, "it lacks init")
    return found


def input_paths(run: Run) -> dict[str, str]:
    """The files and folders outside the project that a run reads."""
    init, dataset = run.backbone.arguments["init"], run.dataset
    named = data_paths.places(dataset.target, dataset.arguments)
    found = {f"dataset.{key}": path for key, path in named.items()}
    if init not in {"hub", "none"} and ":" not in init:
        found["backbone.init"] = init
    return found


def changed_inputs(folder: Path, run: Run) -> list[str]:
    """What changed on disk or in the code since a finished run, a line each."""
    try:
        before = provenance_of(folder)
    except (runs.RunError, sealed.Damaged) as error:  # the run is finished all the same
        return [f"  note: whether anything changed since is not known: {error}"]
    lines = []
    now = provenance.stat_fingerprint(input_paths(run))
    for name, value in before.get("inputs", {}).items():
        if now.get(name) != value:
            lines.append(f"  note: {name} changed on disk since; --force trains on what is there")
    sha = provenance.git_state(Path(__file__).resolve().parent.parent).get("sha")
    if before.get("code", {}).get("sha") != sha:
        lines.append("  note: the code has changed since (provenance.json has its commit)")
    return lines


def say(text: str) -> None:
    """A line for the person, on rank 0 only."""
    if launch.is_first():
        print(text, flush=True)


def refuse_changed(run: Run, folder: Path) -> None:
    """Refuses to take up a run whose config means something else since it was frozen.

    Raises:
        RunError: with each change, the commit that trained the run, and the key that still says
            the old meaning, where there is one; or functions of the project that were edited.
    """
    before = provenance_of(folder)
    code = components(run.plain)
    if edited := sorted(n for n, had in before.get("components", {}).items() if code.get(n) != had):
        commit = before.get("working_folder_code", {}).get("sha") or "unknown"
        raise runs.RunError(
            f"{folder.name} was frozen with other code of {', '.join(edited)}; the line that "
            f"started it starts today's, under another id; the project's commit was {commit}"
        )
    lacking = changes.lacking(run.plain, before.get("changes", []))
    if not lacking:
        return
    commit = before.get("code", {}).get("sha")
    lines = [f"{folder.name} was frozen when its config meant something else:"]
    for change in lacking:
        lines.append(f"  {change.mark} (since tlx {change.since}): {change.what}")
        if change.old:
            lines.append(f"    {change.old} in its config asks for the old meaning")
    lines.append(f"  it was frozen at commit {commit or 'unknown'}; run it there")
    raise runs.RunError("\n".join(lines))
