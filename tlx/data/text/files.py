"""Files as texts: decoded, with every bad one named."""

from collections.abc import Mapping

from tlx.data.decoding import OnEmpty, check_on_empty, decoded, refuse_empty
from tlx.data.items import Pool
from tlx.data.listed import Listed
from tlx.data.text.texts import text_pool


def read(
    listed: Mapping[str, Listed], *, encoding: str, on_empty: OnEmpty
) -> tuple[dict[str, Pool], list[str]]:
    """The texts of files, one a file, and the ids of those without text, which are left out.

    Args:
        listed: files of each split.
        encoding: of all.
        on_empty: whether a file without text is an error, or left out.

    Raises:
        ValueError: files are in another encoding, or empty; all are listed.
    """
    check_on_empty(on_empty)
    pools: dict[str, Pool] = {}
    wrong: list[str] = []
    empty: list[str] = []
    for split, files in listed.items():
        kept: list[tuple[int, str]] = []
        for place, path in enumerate(files.paths):
            try:
                text = decoded(path, encoding).strip()
            except ValueError as error:
                wrong.append(str(error))
                continue
            if text:
                kept.append((place, text))
            else:
                empty.append(files.ids[place])
        pools[split] = text_pool(
            [files.ids[place] for place, _ in kept],
            [text for _, text in kept],
            [files.targets[place] for place, _ in kept],
        )
    refuse_empty(empty, wrong, on_empty=on_empty, total=sum(len(f.ids) for f in listed.values()))
    return pools, empty
