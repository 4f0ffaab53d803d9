"""tlx: transfer-learning experiments that are composed, checked, resumed and compared.

`compose` and `check` need neither torch nor Lightning; the rest is imported when it is called.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "compose", "load", "run"]


def compose(overrides: list[str] | None = None, *, config_dir: str | None = None) -> dict[str, Any]:
    """A composed, checked and resolved config as plain data.

    Raises:
        tlx.config.check.CheckError: something is wrong; it lists everything at once.
    """
    from tlx.config.compose import compose as compose_plain

    return compose_plain(list(overrides or []), config_dir=config_dir)


def run(config: dict[str, Any], *, force: bool = False, config_dir: str | None = None) -> Any:
    """Trains the run that a config describes, unless its record is there; returns the Record.

    Raises:
        ValueError: the config is that of a study, which is several runs.
    """
    from tlx import execute

    if config.get("study"):
        raise ValueError(
            "the config has a study, which is several runs: use `tlx train`, or del "
            "config['study'] for the one run that the rest describes"
        )
    return execute.run(config, force=force, config_dir=config_dir)


def load(run: str, *, runs_dir: str = "runs") -> Any:
    """A finished run that predicts: `tlx.load("digits-…").predict(["photo.png"])`.

    Args:
        run: a run id, a part of one that no other run has, or a folder.
        runs_dir: where runs live.
    """
    from tlx import runs, use

    return use.Predictor(runs.find(run, runs_dir=runs_dir))
