"""tlx: transfer-learning experiments that are composed, checked, resumed and compared.

`compose` and `check` need neither torch nor Lightning; the rest is imported when it is called.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tlx.base import ownership
from tlx.base.version import __version__

if TYPE_CHECKING:
    from pandas import DataFrame

    from tlx.results.record import Record
    from tlx.use.predict import Predictor

__all__ = ["__version__", "compose", "load", "run", "study"]

ownership.require(__file__)


def compose(overrides: list[str] | None = None, *, config_dir: str | None = None) -> dict[str, Any]:
    """A composed, checked and resolved config as plain data.

    Raises:
        tlx.config.check.CheckError: something is wrong; it lists everything at once.
    """
    from tlx.config.compose import compose as compose_plain

    return compose_plain(list(overrides or []), config_dir=config_dir)


def run(
    config: Mapping[str, object], *, force: bool = False, config_dir: str | None = None
) -> "Record":
    """Trains the run that a config describes, unless its record is there; returns the Record.

    Raises:
        ValueError: the config is that of a study, which is several runs.
    """
    from tlx.execution import execute

    if config.get("study"):
        raise ValueError(
            "the config has a study, which is several runs: use `tlx.study`, or del "
            "config['study'] for the one run that the rest describes"
        )
    return execute.run(config, force=force, config_dir=config_dir)


def study(
    name: str, overrides: list[str] | None = None, *, config_dir: str | None = None
) -> "DataFrame":
    """Trains what is missing of a study; returns a pandas table of its figures, a row each.

    Args:
        name: of the experiment.
        overrides: what differs from its file.
        config_dir: the user's own groups and experiments.

    Raises:
        tlx.config.check.CheckError: the study, or an arm of it, is wrong.
    """
    from tlx.results import manifest
    from tlx.results.table import runs_table
    from tlx.sweeps import studies

    line = [f"experiment={name}", *(overrides or [])]
    made = studies.study(line, config_dir=config_dir)
    studies.drive(made, command=["tlx", "train", *line])
    return runs_table(made.runs_dir, manifest=manifest.read(made.folder))


def load(run: str, *, runs_dir: str = "runs") -> "Predictor":
    """A finished run that predicts: `tlx.load("digits-…").predict(["photo.png"])`.

    Args:
        run: a run id, a part of one that no other run has, or a folder.
        runs_dir: where runs live.
    """
    from tlx.execution import runs
    from tlx.use.predict import Predictor

    return Predictor(runs.find(run, runs_dir=runs_dir))
