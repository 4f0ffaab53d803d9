"""What is wrong with a search before it starts, told without importing Optuna."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from tlx.base.nodes import Node, node_at
from tlx.config.problems import Problem
from tlx.config.suggest import listed, nearest
from tlx.sweeps import spaces
from tlx.sweeps.search_entries import EXAMPLE

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random", "grid")
PRUNERS = ("none", "median", "successive_halving", "hyperband")
RUN_FIGURES = (
    "parameters/total",
    "parameters/trainable",
    "peak_memory_bytes",
    "samples_per_s",
    "used_steps",
    "wall_s",
)
"""Figures of a run as a whole that may be an objective."""

SQL = ("postgresql+psycopg", "sqlite")
MODES = ("max", "min")


def problems(search: Node, *, metrics: Mapping[str, str]) -> list[Problem]:
    """All that a `search` node says and cannot be done.

    Args:
        search: fields of `tlx.config.schema.SearchConfig`.
        metrics: the task's metrics and their directions; empty: unknown.
    """
    space = search.get("space") or {}
    if not isinstance(space, Mapping):
        return [Problem("search.space", f"is {space!r}; give keys and what each may be")]
    found = [*spaces.problems(space)]
    if not space:
        found.append(Problem("search.space", f"is empty; give keys, each with {EXAMPLE}"))
    objectives = node_at(search, "objectives")
    return [
        *found,
        *_objectives(objectives, metrics),
        *_combined(search, objectives),
        *([] if found else _grid(search, space)),
        *_storage(search.get("storage")),
    ]


def _objectives(objectives: Node, metrics: Mapping[str, str]) -> Iterator[Problem]:
    known = [*(f"val/{name}" for name in metrics), *RUN_FIGURES]
    for figure, mode in objectives.items():
        place = f"search.objectives.{figure}"
        split, slash, metric = str(figure).partition("/")
        if mode not in MODES:
            yield Problem(place, f"has direction {mode!r}; give max or min")
        if figure in RUN_FIGURES:
            continue
        if split != "val" and slash and split != "parameters":
            near = f"val/{metric}" if not metrics or metric in metrics else nearest(metric, known)
            yield Problem(
                place,
                f"is a figure of {split!r}; a search may look at validation only, since a test "
                "figure that chose the hyperparameters is no test",
                near,
            )
        elif not slash or (metrics and figure not in known):
            near = nearest(str(figure), known)
            yield Problem(place, f"is no figure; there are {listed(known, most=20)}", near)
        elif mode in MODES and metrics.get(metric, mode) != mode:
            yield Problem(place, f"is better at its {metrics[metric]}, not {mode}", metrics[metric])


def _combined(search: Node, objectives: Node) -> Iterator[Problem]:
    sampler, pruner = search.get("sampler", "tpe"), search.get("pruner", "none")
    for key, value, options in (("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if value not in options:
            near = nearest(str(value), options)
            yield Problem(f"search.{key}", f"is {value!r}; give one of {', '.join(options)}", near)
    if len(objectives) > 1 and pruner != "none":
        yield Problem(
            "search.pruner",
            f"is {pruner}; with several objectives no trial can be told to be the worse half-way",
            "none",
        )
    if len(objectives) > 1 and sampler == "cmaes":
        yield Problem(
            "search.sampler", "is cmaes, which has one objective; several need tpe", "tpe"
        )
    if pruner != "none" and objectives and not str(next(iter(objectives))).startswith("val/"):
        only = next(iter(objectives))
        yield Problem(
            "search.pruner", f"is {pruner}, but {only} is known at a run's end only", "none"
        )


def _grid(search: Node, space: Node) -> Iterator[Problem]:
    if search.get("sampler") != "grid":
        return
    for key, entry in spaces.entries(space).items():
        if entry.values() is None:
            yield Problem(
                f"search.space.{key}",
                "has no end of values, and the grid takes each; give range(start, stop, step) or "
                "choices, or another search.sampler",
            )


def _storage(storage: object) -> Iterator[Problem]:
    if not isinstance(storage, str):
        return
    if "://" not in storage:
        if not storage.endswith(".journal"):
            yield Problem(
                "search.storage",
                f"is {storage!r}; give a file NAME.journal, postgresql+psycopg://HOST/DATABASE, "
                "sqlite:///FILE, or null for a journal in the study's folder",
            )
        return
    parts = urlsplit(storage)
    if parts.scheme not in SQL:
        fix = "postgresql+psycopg" if parts.scheme.startswith("postgres") else None
        rest = storage.partition("://")[2]
        yield Problem(
            "search.storage",
            f"has the kind {parts.scheme!r}; give one of {', '.join(SQL)}",
            fix and f"{fix}://{rest.rpartition('@')[2]}",
        )
    elif parts.password:
        yield Problem(
            "search.storage",
            "holds a password, and a config is written down and logged; leave it out: PGPASSWORD "
            "or ~/.pgpass gives it",
        )
