"""What a network of texts reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

from tlx.data.inputs import plain_of, replaced

Text = str | tuple[str, str] | list[str]
"""A text, a pair of texts, or the words of one."""


@final
@dataclass(frozen=True)
class TextSpec:
    """See the protocol Spec.

    Attributes:
        tokenizer: as the JSON of `tokenizers`.
        max_length: most tokens of a text.
        pad_id: of padded tokens.
        padding_side: of batches, `right` or `left`.
        type_ids: whether the network takes token types.
        unit: what of a text the task reads: `pooled` (one vector), `word` or `token`.
        vocabulary: ids are below it; 0: nobody asks.
        mask_id: of the token that hides another; None where there is none, as of the next two.
        eos_id: of the end of a text.
        unknown_id: of what the tokenizer does not know.
        causal: whether the network reads left to right.
        objective: of a language model, `causal` or `masked`; of others none.
        block: tokens of a window of a language model.
        stride: tokens between windows of evaluation.
        mask_rate: share of tokens that are asked of a masked one.
        begins: whether windows begin as the tokenizer has it, which they did not before 0.2.0.
        spelling: counts of characters, by which what a token does not tell is charged.
    """

    modality: ClassVar[str] = "text"
    made_by: ClassVar[str] = "tlx.data.text.inputs.TEXTS"

    tokenizer: str
    max_length: int
    pad_id: int = 0
    padding_side: str = "right"
    type_ids: bool = False
    unit: str = "pooled"
    vocabulary: int = 0
    mask_id: int | None = None
    eos_id: int | None = None
    unknown_id: int | None = None
    causal: bool = False
    objective: str = ""
    block: int = 0
    stride: int = 0
    mask_rate: float = 0.0
    begins: bool = True
    spelling: Mapping[str, int] | None = None

    @property
    def left(self) -> bool:
        """Whether padding comes first."""
        return self.padding_side == "left"

    def plain(self) -> dict[str, object]:
        """See the protocol Spec."""
        return plain_of(self)

    def kept(self, plain: Mapping[str, object]) -> Self:
        """See the protocol Spec; runs before 0.2.0 began windows otherwise, and charged nothing."""
        return replaced(self, {"begins": False, "spelling": None, **plain})
