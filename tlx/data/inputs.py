"""What goes into networks: what a network reads, and who makes it of raw items.

A modality is one `Inputs`, and one `Spec` by which a network says what it reads of that kind.
Nothing else in tlx needs to know what the items are.
"""

from collections.abc import Mapping
from dataclasses import Field, fields, replace
from typing import ClassVar, Protocol, Self, TypeVar


class Spec(Protocol):
    """What a network reads: facts alone, in a frozen dataclass that a file of weights can hold.

    Attributes:
        modality: what the items are, one word.
        made_by: dotted name of the `Inputs` that make of raw items what this describes.
    """

    modality: ClassVar[str]
    made_by: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Field[object]]]

    def plain(self) -> dict[str, object]:
        """All of it as JSON data, with the modality as `kind`; `None` may be left out."""
        ...

    def kept(self, plain: Mapping[str, object]) -> Self:
        """The same, as far as a finished run's weights say nothing else in their `plain`."""
        ...


S = TypeVar("S", bound=Spec)


def plain_of(spec: Spec) -> dict[str, object]:
    """The fields of a spec that are not None, as JSON data, with its modality as `kind`."""
    values = {field.name: getattr(spec, field.name) for field in fields(spec)}
    return {"kind": spec.modality} | {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }


def replaced(spec: S, plain: Mapping[str, object]) -> S:
    """A spec with those of its fields that a mapping has; others' keys are passed over."""
    names = {field.name for field in fields(spec)}
    changed: S = replace(
        spec,
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plain.items()
            if name in names
        },
    )
    return changed
