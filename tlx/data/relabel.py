"""Other data with the labels of a finished run: matched by name."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from tlx.data.divide import held
from tlx.data.listed import quoted
from tlx.data.splits import Labels, Sample, Split, Splits

LOG = logging.getLogger(__name__)


def relabelled(data: Splits, labels: Labels) -> Splits:
    """The same evaluation splits, with targets as places in other labels; says what differs.

    Classes, labels and tags are matched by name, numbers by position.

    Args:
        data: ready for a backbone.
        labels: of the run.

    Raises:
        ValueError: items have labels of another kind, or with names that the run has not.
    """
    own = data.labels
    if own == labels:
        return data
    if own.kind != labels.kind:
        raise ValueError(
            f"the data has labels of kind {own.kind!r}, the run was trained on {labels.kind!r}; "
            "evaluate on data with labels of the same kind"
        )
    if labels.kind == "real":
        return _numbers(data, labels)
    splits: dict[str, Split] = {"val": data.val, "test": data.test, **data.extra}
    counts: Counter[int] = Counter()
    for split in splits.values():
        counts += held(split.targets, own.kind)
    names = [own.names[place] for place in sorted(counts)]
    _check_names(names, labels, {own.names[place]: n for place, n in counts.items()})
    order = [name for name in own.names if name in labels.names]
    if order != [name for name in labels.names if name in order]:
        LOG.warning("the data has its classes in another order than the run; matched by name")
    if lacking := [name for name in labels.names if name not in names]:
        LOG.warning("the data has no item of %s, which the run knows", quoted(lacking))
    places = [labels.names.index(name) if name in labels.names else -1 for name in own.names]
    made = {
        name: _Relabelled(split, [_moved(t, places, labels) for t in split.targets])
        for name, split in splits.items()
    }
    val, test = made.pop("val"), made.pop("test")
    return replace(data, val=val, test=test, extra=made, labels=labels)


def _numbers(data: Splits, labels: Labels) -> Splits:
    own = data.labels.names
    if len(own) != len(labels.names):
        raise ValueError(
            f"the data has {len(own)} numbers an item ({quoted(own)}), the run predicts "
            f"{len(labels.names)} ({quoted(labels.names)}); evaluate on data with as many"
        )
    LOG.warning(
        "the data's numbers (%s) are taken for the run's (%s), by position",
        quoted(own),
        quoted(labels.names),
    )
    return replace(data, labels=labels)


def _check_names(names: Sequence[str], labels: Labels, counts: Mapping[str, int]) -> None:
    new = [name for name in names if name not in labels.names]
    if new:
        shown = ", ".join(f"{name!r} ({counts[name]})" for name in new[:20])
        raise ValueError(
            f"the data has classes that the run was not trained on: {shown}"
            f"{', ...' if len(new) > 20 else ''}; it knows {quoted(labels.names)}. Evaluate on "
            "data with the same classes, or leave these out"
        )


def _moved(target: Any, places: Sequence[int], labels: Labels) -> Any:
    """A target as places in the run's labels."""
    if labels.kind == "single":
        return places[target]
    if labels.kind == "tags":
        return tuple(places[tag] for tag in target)
    values = [0.0] * len(labels.names)
    for place, value in zip(places, target, strict=True):
        if value:
            values[place] = value
    return tuple(values)


@final
@dataclass(frozen=True)
class _Relabelled:
    """A split with other targets."""

    split: Split
    targets: Sequence[object]

    @property
    def ids(self) -> Sequence[str]:
        """Those of the split."""
        return self.split.ids

    @property
    def lengths(self) -> Sequence[int] | None:
        """Those of the split, where it has some."""
        found: Sequence[int] | None = getattr(self.split, "lengths", None)
        return found

    def __len__(self) -> int:
        """Number of items."""
        return len(self.split)

    def __getitem__(self, index: int) -> Sample:
        """The sample at a position."""
        return {**self.split[index], "target": self.targets[index]}
