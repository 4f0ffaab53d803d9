"""Tags of files that cannot follow one another: refused, or read as scorers do and recorded."""

import logging
from collections.abc import Iterator, Mapping
from typing import Literal

from tlx.data.text.columns import Columns
from tlx.methods import tags
from tlx.methods.tags import Scheme

LOG = logging.getLogger(__name__)
OnFault = Literal["scorer", "error"]
MAX_PLACES = 1_000
"""Of words, in a record; the count is of all."""
MAX_SHOWN = 3


def check_on_fault(on_fault: str) -> None:
    """Raises a ValueError where it is no choice."""
    if on_fault not in ("scorer", "error"):
        raise ValueError(f"dataset.on_fault={on_fault!r}; give scorer or error")


def problems(file: Columns, scheme: Scheme, *, on_fault: OnFault) -> Iterator[str]:
    """What is wrong with the tags of a file, with places.

    Args:
        file: that was read.
        scheme: of its tags.
        on_fault: `error`: tags that are none of the scheme, and those that cannot follow the one
            before; `scorer`: only the former, which no scorer could read either.
    """
    for sentence in file.sentences:
        for fault in tags.faults(sentence.tags, scheme):
            if on_fault == "error" or not tags.readable(sentence.tags[fault.place], scheme):
                yield f"{file.path}:{sentence.lines[fault.place]}: {fault.message}"


def notes(files: Mapping[str, Columns], scheme: Scheme) -> dict[str, object]:
    """For the record: words whose tags do not say the entities that are read; a warning if any.

    Args:
        files: split -> what its file holds; all tags are of the scheme.
        scheme: of all tags.
    """
    words, count = 0, 0
    places: list[dict[str, object]] = []
    for split, file in files.items():
        for sentence in file.sentences:
            words += len(sentence.tags)
            for place, tag, read in tags.repairs(sentence.tags, scheme):
                count += 1
                if len(places) < MAX_PLACES:
                    line = sentence.lines[place]
                    where = {"split": split, "file": str(file.path), "line": line}
                    places.append({**where, "tag": tag, "read": read})
    if not count:
        return {}
    shown = ", ".join(
        f"{each['file']}:{each['line']} {each['tag']} as {each['read']}"
        for each in places[:MAX_SHOWN]
    )
    LOG.warning(
        "%d of %d tags cannot stand where they do in %s, and are read as the CoNLL scorer reads "
        "them: %s%s; dataset.on_fault=error refuses them",
        count,
        words,
        scheme,
        shown,
        ", ..." if count > MAX_SHOWN else "",
    )
    return {"faulty_tags": {"count": count, "words": words, "places": places}}
