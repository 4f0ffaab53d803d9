"""Texts in files: decoded, with every bad one named."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

from tlx.data.decoding import OnEmpty, check_on_empty, decoded, refuse_empty
from tlx.data.draw import Draw
from tlx.data.items import Medium, Pool
from tlx.data.listed import Listed
from tlx.data.splits import Labels, Splits
from tlx.data.text.texts import MEDIUM, from_texts, text_pool


@final
@dataclass(frozen=True)
class TextFiles:
    """Reads texts, see `tlx.data.files.FileReader`.

    Attributes:
        encoding: of all files.
        on_empty: whether a file without text is an error, or left out (`skip`).
        length_buckets: whether training batches are made of texts of like length.
    """

    encoding: str
    on_empty: OnEmpty = "error"
    length_buckets: bool = True
    medium: Medium = MEDIUM

    def read(self, listed: Mapping[str, Listed]) -> tuple[dict[str, Pool], dict[str, list[str]]]:
        """The texts, one a file; what is in another encoding, or empty, is told all at once."""
        check_on_empty(self.on_empty)
        pools: dict[str, Pool] = {}
        wrong: list[str] = []
        empty: list[str] = []
        for split, files in listed.items():
            texts: dict[int, str] = {}
            for place, path in enumerate(files.paths):
                try:
                    texts[place] = decoded(path, self.encoding).strip()
                except ValueError as error:
                    wrong.append(str(error))
            empty += [files.ids[place] for place, text in texts.items() if not text]
            full = [place for place, text in texts.items() if text]
            pool = text_pool(
                [files.ids[place] for place in full],
                [texts[place] for place in full],
                [files.targets[place] for place in full],
            )
            groups = [files.groups[place] for place in full] if files.groups else ()
            pools[split] = replace(pool, groups=groups)
        total = sum(len(files.ids) for files in listed.values())
        refuse_empty(empty, wrong, on_empty=self.on_empty, total=total)
        return pools, {"empty": empty} if empty else {}

    def splits(
        self, pools: Mapping[str, Pool], labels: Labels, *, draw: Draw, notes: Mapping[str, object]
    ) -> Splits:
        """The splits of a source of texts."""
        return from_texts(pools, labels, draw=draw, length_buckets=self.length_buckets, notes=notes)
