"""Values against annotations."""

import ast

import pytest

from tlx.config.types import Misfit, conform, known


def fit(value, annotation, **aliases):
    return conform(value, expr(annotation), {k: expr(v) for k, v in aliases.items()})


def expr(text):
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        (1, "float", 1.0),
        (1e3, "int", 1000),
        (None, "int | None", None),
        (3, "float | None", 3.0),
        ("x", "str", "x"),
        ("x", "'str | None'", "x"),
        ([1, 2], "tuple[float, float]", [1.0, 2.0]),
        ([1, 2], "tuple[int, ...]", [1, 2]),
        (["a"], "Sequence[str]", ["a"]),
        ({"a": [1]}, "dict[str, list[int]]", {"a": [1]}),
        ({"a": object}, "Mapping[str, Any]", {"a": object}),
        (32, "Literal['32', 'bf16']", "32"),
        (False, "Literal['off', 'on']", "off"),
        (True, "Literal['off', 'on']", "on"),
        ("auto", "int | Literal['auto']", "auto"),
        (2, "Optional[int]", 2),
        ("fine", "Groups", "fine"),
    ],
)
def test_fits(value, annotation, wanted):
    found = fit(value, annotation, Groups="Literal['fine', 'coarse']")
    assert found == wanted
    assert type(found) is type(wanted)
    assert known(expr(annotation), {"Groups": expr("Literal['fine', 'coarse']")})


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, "int"),
        (True, "float"),
        (2.5, "int"),
        ("1", "int"),
        (1, "bool"),
        (1, "str"),
        (None, "int"),
        (float("nan"), "float"),
        ("ab", "list[str]"),
        ([1, "a"], "list[int]"),
        ([1], "tuple[float, float]"),
        ([1], "dict[str, int]"),
        ({"a": "x"}, "dict[str, int]"),
        ("fien", "Literal['fine', 'coarse']"),
        (True, "Literal['fine', 'coarse']"),
        ("x", "int | None"),
    ],
)
def test_does_not_fit(value, annotation):
    with pytest.raises(Misfit):
        fit(value, annotation)


def test_the_nearest_choice_is_suggested():
    with pytest.raises(Misfit) as caught:
        fit("corse", "Literal['fine', 'coarse'] | None")
    assert caught.value.suggestion == "coarse"


@pytest.mark.parametrize(
    "annotation", ["Tensor", "torch.Tensor", "Callable[[int], int]", "list[Tensor]"]
)
def test_what_cannot_be_checked_is_known_as_such(annotation):
    assert not known(expr(annotation), {})
