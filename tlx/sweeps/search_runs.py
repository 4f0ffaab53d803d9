"""Between a search and its runs: a trial, the runs that it plans, the value that they give it."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tlx.execution import runs
from tlx.results import table
from tlx.results.record import Record
from tlx.sweeps import spaces


class SearchError(runs.RunError):
    """A search that cannot go on as it is asked to."""


@contextlib.contextmanager
def damage_told(storage: str) -> Iterator[None]:
    """Has errors of reading a search's journal name it, and the ways on.

    Raises:
        SearchError: the journal is damaged.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        if "://" in storage:
            raise  # a database has words of its own
        raise SearchError(
            f"{storage} is damaged ({type(error).__name__}: {error}); put it back from a copy, or "
            "move it away: the search then begins anew, and what it draws again and has finished "
            "is not trained again"
        ) from error


@dataclass(frozen=True)
class Trial:
    """What one trial of a search tries.

    Attributes:
        number: from 0, the same after every restart.
        params: key to value; of a choice, the text of its override.
        resumed: whether another worker began it.
    """

    number: int
    params: Mapping[str, object] = field(default_factory=dict)
    resumed: bool = False

    @property
    def overrides(self) -> list[str]:
        """The parameters as overrides, in the order of the space."""
        return [spaces.override(key, value) for key, value in self.params.items()]


def planned(trial: Trial, *, base: Sequence[str], seeds: Sequence[int]) -> list[list[str]]:
    """The lines of overrides of a trial's runs, one a seed.

    >>> planned(Trial(3, {"optimizer.lr": 0.02}), base=["dataset=digits"], seeds=[0])
    [['dataset=digits', 'optimizer.lr=0.02', 'seed=0']]
    """
    return [[*base, *trial.overrides, f"seed={seed}"] for seed in seeds]


def value_of(records: Sequence[Record], objectives: Sequence[tuple[str, str]]) -> tuple[float, ...]:
    """The objectives' values of a trial: means over its runs; NaN where a run lacks one.

    Args:
        records: of its runs, one a seed.
        objectives: figures and their directions.

    Raises:
        SearchError: a figure that runs do not have.
    """
    values = []
    for figure, _ in objectives:
        found = [_figure(record, figure) for record in records]
        values.append(sum(found) / len(found) if found else math.nan)
    return tuple(values)


def _figure(record: Record, figure: str) -> float:
    value = table.objective(record, figure)
    if value is None:
        raise SearchError(
            f"objective {figure!r} is not in the record of {record.run}; name one of its val "
            "metrics, as val/NAME, or a figure of the run, like parameters/trainable"
        )
    return value
