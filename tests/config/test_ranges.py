"""Ranges of numbers: every option has one, and those of a person's own functions are read too."""

import ast
import fnmatch
import re

import pytest

from tlx.base.ranges import Range
from tlx.config import limits, schema
from tlx.config.check import CheckError, schema_signature
from tlx.config.compose import compose
from tlx.config.identity import run_id
from tlx.config.places import targets_by_group
from tlx.config.signatures import OPAQUE, REQUIRED, signature
from tlx.config.types import Misfit, conform


def annotation(text):
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("text", "fits", "not_fits"),
    [
        ("Annotated[int, Range(least=0, most=30)]", [0, 30, 9.0], [-1, 31, -5]),
        ("Annotated[float, Range(above=0, below=1)]", [0.5], [0, 1, float("inf")]),
        ("Annotated[float | None, Range(least=-1.5)]", [None, -1.5, 1e9], [-2, float("inf")]),
        ("Annotated[float, Range(endless=True, above=0)]", [float("inf")], [0, -1]),
        ("Annotated[list[float] | None, Range(least=0)]", [None, [], [0, 2]], [[1, -1]]),
        ("Annotated[dict[str, float], Range(most=1)]", [{"a": 1}], [{"a": 0, "b": 2}]),
        ("Annotated[int | str, Range(least=0)]", ["stem", "-5", 3], [-1]),
        ("list[Annotated[int, Range(least=1)]]", [[1, 2]], [[0]]),
        ("typing.Annotated[int, ranges.Range(least=1)]", [1], [0]),
        ("Annotated[int, 'a note', Range(least=1)]", [1], [0]),
        ("Annotated[bool, Range(least=1)]", [False], []),
    ],
)
def test_a_range_beside_a_type(text, fits, not_fits):
    for value in fits:
        assert conform(value, annotation(text), {}) == value
    for value in not_fits:
        with pytest.raises(Misfit, match="give a number"):
            conform(value, annotation(text), {})


def test_of_several_types_the_range_is_told():
    for text in ("Annotated[int, Range(least=0)] | None", "str | Annotated[int, Range(least=0)]"):
        with pytest.raises(Misfit, match="is -5; give a number at least 0"):
            conform(-5, annotation(text), {})


@pytest.mark.parametrize("text", ["Range(least=LOW)", "Range(from_=1)", "Range(least='a')"])
def test_a_range_that_cannot_be_read_is_a_problem(text):
    with pytest.raises(Misfit, match="plain numbers"):
        conform(1, annotation(f"Annotated[int, {text}]"), {})


def test_another_type_is_named_without_the_range():
    with pytest.raises(Misfit, match=r"give int or null$"):
        conform("x", annotation("Annotated[int | None, Range(least=0)]"), {})


def places(group, target, name):
    leaf = target.rpartition(".")[2]
    return f"{group}.{leaf}.{name}" if group in schema.LIST_GROUPS else f"{group}.{name}"


def numbers():
    """Place, annotation, aliases and default of every option that is a number, or holds some."""
    signatures = [
        (places(group, target, "{}"), signature(target))
        for group, targets in targets_by_group().items()
        for target in targets
    ]
    signatures += [(f"{key}.{{}}", schema_signature(of)) for key, of in schema.NODES.items()]
    signatures += [("{}", schema_signature("Config"))]
    for place, found in signatures:
        for name, parameter in found.parameters.items():
            text = ast.unparse(parameter.annotation)
            for alias, value in found.aliases.items():
                text = re.sub(rf"\b{alias}\b", lambda _, v=value: ast.unparse(v), text)
            if re.search(r"\b(int|float)\b", text):
                yield place.format(name), parameter, text, found.aliases


def test_every_number_has_a_range():
    options = list(numbers())
    assert len(options) > 150
    without = [
        place
        for place, _, text, _ in options
        if "Range(" not in text
        and not any(fnmatch.fnmatchcase(place, pattern) for pattern in limits.RANGES)
    ]
    # levels of a study's factors are values of other keys, which have ranges of their own
    assert set(without) <= {"study.factors", "study.tune", "study.sequential", "search.objectives"}


def test_every_default_is_in_its_range():
    for place, parameter, _, aliases in numbers():
        if parameter.default is not REQUIRED and parameter.default is not OPAQUE:
            try:
                conform(parameter.default, parameter.annotation, aliases)
            except Misfit as misfit:
                pytest.fail(f"{place}: {misfit}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["augmentation=[randaugment]", "augmentation.randaugment.magnitude=-5"],
            r"augmentation\.randaugment\.magnitude: is -5; give a number at least 0 and at most 30",
        ),
        (["augmentation=[standard]", "augmentation.standard.max_stretch=0.5"], "at least 1"),
        (["augmentation=[color]", "augmentation.color.hue=0.7"], "at most 0.5"),
        (["schedule=cosine", "schedule.end_factor=2"], "at least 0 and at most 1"),
        (["task.class_weights=[1,-1]"], "is -1.0; give a number at least 0"),
        (["dataset.seed=-1"], "at least 0"),
    ],
)
def test_numbers_out_of_range_are_problems_of_the_check(overrides, said):
    with pytest.raises(CheckError, match=said):
        compose(overrides)


def test_ids_do_not_know_of_ranges():
    assert run_id(compose([])) == run_id(compose(["dataset.seed=0"]))


def test_a_persons_own_function_has_its_ranges_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TLX_SETTINGS", str(tmp_path / "settings.toml"))
    (tmp_path / "settings.toml").write_text('allow_targets = ["ranged.net"]\n')
    (tmp_path / "ranged.py").write_text(
        "from typing import Annotated\nfrom tlx.base.ranges import Range\n"
        "Share = Annotated[float, Range(above=0, most=1)]\n"
        "def net(*, init: str = 'none', width: Annotated[int, Range(least=1)] = 3,"
        " share: Share = 0.5): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "own" / "backbone"
    folder.mkdir(parents=True)
    (folder / "mynet.yaml").write_text("_target_: ranged.net\n")
    config = compose(["backbone=mynet", "backbone.width=4.0"], tmp_path / "own")
    assert config["backbone"]["width"] == 4
    with pytest.raises(CheckError) as caught:
        compose(["backbone=mynet", "backbone.width=0", "backbone.share=2"], tmp_path / "own")
    assert "backbone.width: is 0; give a number at least 1" in str(caught.value)
    assert "backbone.share: is 2.0; give a number above 0 and at most 1" in str(caught.value)


@pytest.mark.parametrize("target", ["[os.system]", "{a: b}", "3", "null", "true", "[[x]]"])
@pytest.mark.parametrize("place", ["optimizer", "dataset", "task", "logger.csv"])
def test_a_target_that_is_no_text_is_a_problem(target, place):
    with pytest.raises(CheckError, match=rf"{place}"):
        compose([f"++{place}._target_={target}"])


def test_a_range_says_itself():
    assert str(Range(least=0, below=1)) == "at least 0 and below 1"
