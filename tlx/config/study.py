"""What is wrong with a study's node: its design, factors, tuned keys, baseline and claims."""

from collections.abc import Iterator, Mapping, Sequence

from hydra.errors import HydraException

from tlx.base.nodes import Node, node_at, target_of, texts
from tlx.config import schema, vocabularies
from tlx.config.arms import Level, design_of, expand, levels
from tlx.config.keys import GROUPS, exists, is_number, nearest_key, value_at
from tlx.config.overrides import key_of, parsed
from tlx.config.problems import Problem
from tlx.config.signatures import constant, signature
from tlx.config.suggest import listed, nearest
from tlx.results.grammar import parse

LEAST, MOST = 3, 100
"""Of `study.sequential.max_seeds`."""
OWN_KEYS = {
    "seed": "study.seeds sets it",
    "study": "a study cannot change itself",
    "experiment": "an arm is part of one experiment; name what differs",
}


def check(config: Node, metrics: Mapping[str, str]) -> Iterator[Problem]:
    """Problems of the study's node that the config alone can tell.

    Args:
        config: composed and normalised.
        metrics: of the task, with their directions.
    """
    study = config.get("study")
    if not isinstance(study, Mapping):
        return
    splits = _splits(study, config)
    yield from _seeds(study.get("seeds"))
    yield from _metric(study.get("metric"), metrics, splits)
    yield from _sequential(study)
    yield from _folds(study, config)
    found = [*_design(study), *_arms(study), *_factors(study, config), *_tune(study, config)]
    yield from found
    yield from _vocabularies(study, config, metrics)
    if not found:
        yield from _names(study, config, metrics, splits)


def _vocabularies(study: Node, config: Node, metrics: Mapping[str, str]) -> Iterator[Problem]:
    """Arms or tuned values that differ in their vocabularies, and figures that cannot tell them."""
    monitor = config.get("monitor") or f"val/{next(iter(metrics), 'loss')}"
    metric = study.get("metric") or f"test/{str(monitor).rpartition('/')[2]}"
    arms = vocabularies.keys_of([text for _, lines in _setters(study) for text in lines])
    for place, figure, varied in (
        ("study.metric", metric, arms),
        ("monitor", monitor, set(node_at(study, "tune"))),
    ):
        found = vocabularies.problem(place, figure, varied=varied, config=config)
        if found is not None:
            yield found


def _seeds(seeds: object) -> Iterator[Problem]:
    if not isinstance(seeds, list | tuple):
        return
    if not seeds:
        yield Problem("study.seeds", "has no seed")
    if len(set(map(str, seeds))) < len(seeds):
        yield Problem("study.seeds", f"{seeds} names a seed twice")
    if any(isinstance(seed, int) and not 0 <= seed < 2**32 for seed in seeds):
        yield Problem("study.seeds", f"{seeds}: seeds are 0 or more, and below 2**32")


def _sequential(study: Node) -> Iterator[Problem]:
    """A number of seeds that none can be added to, or nothing that adding them would decide."""
    node, seeds = study.get("sequential"), study.get("seeds")
    if not isinstance(node, Mapping):
        return
    place = "study.sequential"
    for key in node:
        if key != "max_seeds":
            yield Problem(f"{place}.{key}", "is no key; there is max_seeds", "max_seeds")
    most = node.get("max_seeds")
    if not isinstance(most, int) or isinstance(most, bool) or not LEAST <= most <= MOST:
        message = f"{most!r}; give the most seeds in all, {LEAST} to {MOST}: {{max_seeds: 20}}"
        yield Problem(f"{place}.max_seeds", message)
    elif isinstance(seeds, list | tuple) and all(isinstance(seed, int) for seed in seeds):
        if len(seeds) > most:
            message = f"{most} is less than study.seeds has, {len(seeds)}"
            yield Problem(f"{place}.max_seeds", message)
        elif seeds and max(seeds) + most - len(seeds) >= 2**32:
            yield Problem("study.seeds", f"{max(seeds)}: no room to go on from, below 2**32")
    if design_of(study) == "search":
        yield Problem(place, "means nothing with design=search, which makes no claims")
    elif not study.get("claims"):
        yield Problem(place, "has nothing to decide: state study.claims, or take it away")


def _folds(study: Node, config: Node) -> Iterator[Problem]:
    """Too few folds, or folds of data that knows none, or beside what cannot go with them."""
    folds, place = study.get("folds"), "study.folds"
    if folds is None:
        return
    if isinstance(folds, list | tuple) and len({*map(str, folds)}) < max(len(folds), 1):
        yield Problem(place, f"{list(folds)}: name each group once, and one at least")
    if study.get("sequential"):
        yield Problem(place, "cannot be given for a study that adds seeds; leave one of them out")
    if design_of(study) == "search" or study.get("tune"):
        yield Problem(
            place,
            "cannot be given where values are chosen: what validates in one fold is tested in "
            "another; choose first, without folds",
        )
    dataset = node_at(config, "dataset")
    target = target_of(dataset)
    takes = signature(target)
    if takes is not None and not {"folds", "fold"} <= takes.parameters.keys():
        yield Problem(place, f"{target} does not divide its data in folds; choose other data")
    elif dataset.get("folds") is not None:
        yield Problem("dataset.folds", f"{place} gives it to each run; leave it out here")


def _splits(study: Node, config: Node) -> list[str] | None:
    """The evaluation splits that there will be; None where the config does not tell."""
    dataset = node_at(config, "dataset")
    target = target_of(dataset)
    varied = {key_of(text) for _, lines in _setters(study) for text in lines}
    module, _, name = target.rpartition(".")
    made = (constant(module, "EXTRA") or {}).get(name, ())
    keys = made if isinstance(made, Mapping) else ()
    changing = {"dataset", "dataset.extra", *(f"dataset.{key}" for key in keys)}
    if not target.startswith("tlx.") or varied & changing:
        return None
    given = [split for key in keys if dataset.get(key) is not None for split in made[key]]
    extra = dataset.get("extra")
    return ["test", "val", *(given if keys else made), *(node_at(dataset, "extra") or texts(extra))]


def _metric(
    metric: object,
    names: Mapping[str, str],
    splits: list[str] | None,
    place: str = "study.metric",
) -> Iterator[Problem]:
    if not isinstance(metric, str) or not names:
        return
    split, slash, name = metric.rpartition("/")
    if name not in names:
        near = nearest(name, names)
        message = f"{metric!r} is no metric; there are {listed(names)}"
        yield Problem(place, message, near and f"{split or 'test'}/{near}")
    elif not slash:
        yield Problem(place, f"{metric!r} names no split", f"test/{name}")
    elif splits is not None and split not in splits:
        near = nearest(split, splits)
        message = f"{metric!r}: there is no split {split!r}; there are {listed(splits)}"
        yield Problem(place, message, near and f"{near}/{name}")


def _design(study: Node) -> Iterator[Problem]:
    """A design without what it needs, or with what it has no use for."""
    design, arms, factors = design_of(study), study.get("arms"), study.get("factors")
    designs = "grid, one_at_a_time, leave_one_out, add_one_in or paired"
    if design == "arms":
        if arms is not None and not arms:
            yield Problem("study.arms", "has no arm")
        elif arms is None:
            yield Problem(
                "study.arms", f"is missing; give arms, or factors and a design: {designs}"
            )
        if factors:
            message = "mean nothing beside explicit arms; give one of the two"
            yield Problem("study.factors", message)
    elif arms:
        yield Problem(
            "study.arms", f"mean nothing with design={design}; take them away: ~study.arms"
        )
    elif not factors and design != "search":
        yield Problem("study.factors", f"is missing: design={design} makes its arms of factors")


def _arms(study: Node) -> Iterator[Problem]:
    arms = node_at(study, "arms") if design_of(study) == "arms" else {}
    before: dict[tuple[str, ...], str] = {}
    for name, spec in arms.items():
        if not isinstance(spec, list | tuple):
            continue
        place, lines = f"study.arms.{name}", texts(spec)
        yield from _lines(lines, place)
        other = before.setdefault(lines, name)
        if other != name:
            yield Problem(place, f"is the same as arm {other!r}: {list(lines)}")


def _lines(lines: Sequence[str], place: str) -> Iterator[Problem]:
    """Overrides that cannot be read, or that set what the study sets."""
    for text in lines:
        try:
            parsed(text)
        except HydraException:
            yield Problem(place, f"{text!r} is no override; give key=value")
            continue
        head = key_of(text).partition(".")[0]
        if head in OWN_KEYS and (head != "seed" or key_of(text) == "seed"):
            yield Problem(place, f"{text!r}: {OWN_KEYS[head]}")


def _factors(study: Node, config: Node) -> Iterator[Problem]:
    factors, design = node_at(study, "factors"), design_of(study)
    if design == "arms":
        return
    counts = {}
    for key, spec in factors.items():
        place = f"study.factors.{key}"
        if not isinstance(spec, Mapping | list | tuple):
            continue
        counts[key] = len(spec)
        if not spec:
            yield Problem(place, "has no level")
        if isinstance(spec, Mapping):
            for label, lines in spec.items():
                yield from _lines(texts(lines), f"{place}.{label}")
        else:
            yield from _key(key, place, config, study)
        if isinstance(spec, Mapping) or design not in {"leave_one_out", "add_one_in"}:
            yield from _levels(key, spec, place)
        else:
            yield from _elements(key, spec, place, config)
    if design == "paired" and len(set(counts.values())) > 1:
        told = ", ".join(f"{key} has {n}" for key, n in counts.items())
        yield Problem("study.factors", f"paired factors have equally many levels; {told}")


def _levels(key: str, spec: object, place: str) -> Iterator[Problem]:
    """Levels that cannot be written as overrides, or that are given twice."""
    try:
        found = levels(key, spec)
    except ValueError as error:
        yield Problem(place, str(error))
        return
    before: dict[object, Level] = {}
    for level in found:
        number = is_number(level.value) and not isinstance(spec, Mapping)
        other = before.setdefault(level.value if number else level.overrides, level)
        if other is not level:
            message = f"{other.value!r} and {level.value!r} are the same level"
            yield Problem(place, message)


def _elements(key: str, spec: Sequence[object], place: str, config: Node) -> Iterator[Problem]:
    """Elements that are to be taken away and are not there, or are named twice."""
    here = value_at(config, key)
    if not isinstance(here, Mapping | list | tuple):
        if here is not None:
            message = f"is no list; take elements of a list such as {schema.LIST_GROUPS[1]}"
            yield Problem(place, message)
        return
    names = [str(name) for name in here]
    for name in spec:
        if str(name) not in names:
            shape = f"{key}=[{','.join([*names, str(name)])}]"
            message = f"{name!r} is not in the run, which has {listed(names)}; put it in: {shape}"
            yield Problem(place, message, nearest(str(name), names))
        elif [str(other) for other in spec].count(str(name)) > 1:
            yield Problem(place, f"{name!r} is there twice")


def _tune(study: Node, config: Node) -> Iterator[Problem]:
    for key, values in node_at(study, "tune").items():
        place = f"study.tune.{key}"
        if not isinstance(values, list | tuple):
            continue
        if not values:
            yield Problem(place, "has no value to choose from")
        yield from _levels(key, values, place)
        yield from _key(key, place, config, study)
        setters = [who for who, lines in _setters(study) if key in map(key_of, lines)]
        if setters:
            message = f"{setters[0]} sets {key} too; tune it or set it, not both"
            yield Problem(place, message)


def _setters(study: Node) -> Iterator[tuple[str, Sequence[str]]]:
    """What sets keys, in words, and the overrides by which it does."""
    for name, lines in node_at(study, "arms").items():
        yield f"arm {name!r}", texts(lines)
    for key, spec in node_at(study, "factors").items():
        if isinstance(spec, Mapping):
            yield from ((f"factor {key!r}", texts(lines)) for lines in spec.values())
        else:
            yield f"factor {key!r}", [key]


def _key(key: str, place: str, config: Node, study: Node) -> Iterator[Problem]:
    """A factor or tuned key that the config does not have."""
    head, _, tail = key.partition(".")
    if key in OWN_KEYS or head == "study":
        yield Problem(place, f"cannot be varied: {OWN_KEYS[head]}")
    elif not (exists(key, config) or (tail and head in _changed(study))):
        yield Problem(place, f"{key!r} is no key of the config", nearest_key(key, config))


def _changed(study: Node) -> set[str]:
    """Groups whose option differs between arms, so that their keys may be there in some only."""
    return {key_of(text) for _, lines in _setters(study) for text in lines} & set(GROUPS)


def _names(
    study: Node, config: Node, metrics: Mapping[str, str], splits: list[str] | None
) -> Iterator[Problem]:
    """A baseline or claims about arms that there are not."""
    baseline = study.get("baseline")
    if design_of(study) == "search":
        for key in filter(study.get, ("baseline", "claims")):
            yield Problem(f"study.{key}", "means nothing with design=search, which has no arms")
        return
    try:
        arms = [arm.name for arm in expand(study, config)]
    except (ValueError, TypeError):
        return  # what is no mapping or list has its own problem already
    if any(not arm.strip() for arm in arms):
        yield Problem("study.arms", "has an arm without a name")
    if len(set(arms)) < len(arms):
        twice = next(name for name in arms if arms.count(name) > 1)
        yield Problem("study.factors", f"two arms would be called {twice!r}; label their levels")
    if baseline is not None and baseline not in arms:
        near = nearest(str(baseline), arms)
        yield Problem("study.baseline", f"{baseline!r} is no arm; there are {listed(arms)}", near)
    own = str(study.get("metric") or "test/loss")
    for text in texts(study.get("claims")):
        try:
            claim = parse(text, arms=arms, metric=own)
        except ValueError as error:
            yield Problem("study.claims", str(error))
            continue
        if claim.metric != own:
            yield from _metric(claim.metric, metrics, splits, "study.claims")
