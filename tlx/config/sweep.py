"""Several values in one line, `freeze_strategy=full,lp_ft 'seed=range(5)'`, as Hydra has them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from tlx.config.arms import Arm, Level, named
from tlx.config.design import Cell, StudyPlan, default_metric, levels_of, told
from tlx.config.overrides import first_line, key_of, parsed, prepared
from tlx.config.problems import CheckError, Problem
from tlx.config.suggest import listed

if TYPE_CHECKING:
    from tlx.config.compose import Composer


def expand(overrides: Sequence[str], composer: "Composer") -> list[list[str]]:
    """One line of overrides for every combination of values, the last key's fastest.

    Raises:
        CheckError: an override cannot be read, has no values to go through, or names no option.
    """
    found = [prepared(text, composer.library, sweep=True)[1] for text in overrides]
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise CheckError(problems)
    parser = OverridesParser.create(config_loader=composer.loader)
    read = parser.parse_overrides(list(overrides))
    for override in read:
        problems += _problems(override, composer)
    if problems:
        raise CheckError(problems)
    (lines,) = BasicSweeper.split_arguments(read, None)
    return lines


def _problems(override: Override, composer: "Composer") -> Iterator[Problem]:
    key, text = override.key_or_group, override.input_line
    if not override.is_sweep_override():
        return
    if override.is_interval_sweep():
        yield Problem(
            key,
            f"{text!r} is an interval, which has no values to go through; list them, or draw from "
            "it by a study with design=search",
            f"{key}=range(…)",
        )
        return
    try:
        values = list(override.sweep_string_iterator())
    except (HydraException, ValueError) as error:  # a step of 0
        yield Problem(key, f"{text!r} cannot be swept: {first_line(error)}")
        return
    if not values:
        options = composer.library.options(key)
        tail = f"; there are {listed(options, most=40)}" if options else ""
        yield Problem(key, f"{text!r} stands for no value{tail}")
    if key in composer.library.groups():
        for value in values:
            problem = prepared(f"{override.get_key_element()}={value}", composer.library)[1]
            if problem is not None:
                yield problem


def factors(overrides: Sequence[str], lines: Sequence[Sequence[str]]) -> list[dict[str, object]]:
    """For each expanded line, the keys that the overrides sweep and the values that it has.

    Args:
        overrides: as given to `expand`.
        lines: what it returned.
    """
    elements = {one.get_key_element(): one for one in map(parsed, overrides)}
    keys = {name: one.key_or_group for name, one in elements.items() if one.is_sweep_override()}
    found: list[dict[str, object]] = []
    for line in lines:
        read = [parsed(text) for text in line]
        values = {one.get_key_element(): one.value() for one in read}
        found.append({key: values[name] for name, key in keys.items()})
    return found


def plan(overrides: Sequence[str], composer: "Composer") -> StudyPlan:
    """The study that `tlx train -m` makes: its arms are the combinations of all but `seed`.

    Raises:
        CheckError: an override cannot be swept, a combination is wrong, or the experiment is a
            study already.
    """
    lines = expand(overrides, composer)
    found = factors(overrides, lines)
    arms = _arms([{key: row[key] for key in row if key != "seed"} for row in found], lines)
    made = _cells(lines, arms, composer)
    seeds = list(dict.fromkeys(cell.seed for cell in made))
    distinct = list({arm.name: arm for arm in arms}.values())
    return StudyPlan(
        design="grid",
        arms=tuple(distinct),
        baseline=distinct[0].name,
        metric=default_metric(made[0].config),
        seeds=tuple(seeds),
        factors=levels_of(distinct),
        tuned={},
        claims=(),
        question=None,
        cells=tuple(sorted(made, key=lambda cell: seeds.index(cell.seed))),
    )


def _arms(rows: Sequence[dict[str, object]], lines: Sequence[Sequence[str]]) -> list[Arm]:
    """The arm of each line; lines that differ in their seed alone have the same."""
    distinct: dict[str, list[Level]] = {}
    for row, line in zip(rows, lines, strict=True):
        texts = {key_of(text): (text,) for text in line}
        distinct.setdefault(repr(row), [Level(v, texts[k]) for k, v in row.items()])
    made = dict(zip(distinct, named(list(distinct.values()), list(rows[0])), strict=True))
    return [made[repr(row)] for row in rows]


def _cells(lines: Sequence[Sequence[str]], arms: Sequence[Arm], composer: "Composer") -> list[Cell]:
    made: list[Cell] = []
    problems: dict[str, list[Problem]] = {arm.name: [] for arm in arms}
    for line, arm in zip(lines, arms, strict=True):
        try:
            config = composer.compose(line)
        except CheckError as error:
            problems[arm.name] += [p for p in error.problems if p not in problems[arm.name]]
            continue
        if config.get("study") is not None:
            raise CheckError([_is_study()])
        seed = config["seed"]
        assert isinstance(seed, int)  # as was checked
        made.append(
            Cell(
                arm=arm.name,
                candidate="",
                seed=seed,
                overrides=tuple(line),
                factors=arm.factors,
                config=config,
            )
        )
    if found := told(problems):
        raise CheckError(found)
    return made


def _is_study() -> Problem:
    return Problem(
        "experiment",
        "is a study already, with arms and seeds of its own; start it without -m and put what is "
        "to vary into study.factors, or take its study away: ~study",
    )
