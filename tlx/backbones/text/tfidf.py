"""TF-IDF as a backbone without weights: what every network of texts is to be compared with.

Shapes: N items, T tokens, F terms.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Any, final

import numpy as np
import torch
from scipy.sparse import csr_array
from tokenizers import Tokenizer
from torch import Tensor, nn

from tlx.backbones.backbone import POOLED, Backbone, Features, Wanted
from tlx.backbones.text import terms, vocabulary
from tlx.backbones.weights import files as weights
from tlx.base.ranges import Range
from tlx.data.text.spec import TextSpec

MODALITY = "text"
MOST_WORDS = 200_000
"""Of the tokenizer; which terms count is decided by `features`."""
AT_ONCE = 2000
"""Texts that are tokenised together."""


def tfidf(
    wanted: Wanted,
    /,
    *,
    init: str = "none",
    features: Annotated[int, Range(least=1)] = 20_000,
    bigrams: bool = True,
    sublinear: bool = False,
    lowercase: bool = True,
    max_length: int = 2048,
) -> Backbone:
    """TF-IDF vectors of words and pairs of neighbouring words, learnt from the training texts.

    With `freeze_strategy=linear_probe optimizer=lbfgs` it is TF-IDF and logistic regression, solved
    on sparse vectors. Of Han and Kana each character is a word: terms are characters and pairs.

    Args:
        wanted: the training texts, or what the run read that is loaded again.
        init: `none`: there are no weights to start from.
        features: most terms, the most frequent of them.
        bigrams: whether pairs of words are terms too.
        sublinear: whether counts enter as 1 + their logarithm.
        lowercase: of all texts.
        max_length: words of a text that count.

    Raises:
        ValueError: there are starting weights, a task of words or tokens, or too few features.

    Source: Spärck Jones 1972; smoothed and normalised as scikit-learn's TfidfVectorizer.
    """
    if init != "none":
        raise ValueError(f"backbone.init={init!r}: TF-IDF has no weights; give none")
    if wanted.features != POOLED:
        raise ValueError(
            f"TF-IDF gives one vector a text, and the task reads each {wanted.features}"
        )
    if features < 1 or max_length < 1:
        raise ValueError(f"backbone.features={features}, max_length={max_length}; give 1 or more")
    kept, corpus = vocabulary.of_kept(wanted), wanted.corpus
    tokenizer = kept or vocabulary.learn(
        corpus or (lambda: ()), kind="words", size=MOST_WORDS, lowercase=lowercase
    )
    ids = vocabulary.special_ids(tokenizer, {})
    words = vocabulary.size_of(tokenizer)
    first = 1 + max(_special(tokenizer))
    module = Tfidf(features, first=first, words=words, bigrams=bigrams, sublinear=sublinear)
    if corpus is not None and kept is None:
        module.learn(_encoded(tokenizer, corpus(), max_length))
    return Backbone(
        module=module,
        features=pooled,
        groups=(),
        fine_groups=(),
        head_level=0,
        dims={"pooled": features},
        reads=TextSpec(tokenizer=tokenizer, max_length=max_length, pad_id=ids.pad),
        weights_id=weights.content_id(module) if corpus is not None else "none",
        export={"source": "tfidf"},
        sparse=partial(_sparse, module),
        noted=partial(_noted, module, special=tuple(_special(tokenizer)), id_=ids.unknown),
    )


def pooled(module: nn.Module, inputs: object) -> Features:
    """Features of a batch of texts."""
    return Features(pooled=module(inputs))


def _sparse(module: "Tfidf", inputs: Iterable[Any]) -> csr_array:
    return module.sparse(each["input_ids"].numpy() for each in inputs)


def _noted(
    module: "Tfidf",
    notes: Mapping[str, Any],
    splits: Mapping[str, object],
    *,
    special: tuple[int, ...],
    id_: int | None,
) -> dict[str, object]:
    """The notes, where all words are unknown that are no term, and not the tokenizer's alone."""

    def unknown(split: Any) -> int:
        ids: Tensor = split.tokens.parts["input_ids"].values
        return int(_unknown(module, ids, special=special, id_=id_).sum())

    counts = notes.get("tokens", {})
    return {
        **notes,
        "tokens": {
            name: {**each, "unknown": unknown(splits[name])} for name, each in counts.items()
        },
    }


def _unknown(
    module: "Tfidf", ids_T: Tensor, *, special: tuple[int, ...], id_: int | None
) -> Tensor:
    """Which tokens [T] are words that are no term of their own: new ones, and too rare ones."""
    terms_F = module.terms_F.cpu()
    place_T = torch.searchsorted(terms_F, ids_T.long()).clamp(max=len(terms_F) - 1)
    known_T = (terms_F[place_T] == ids_T) | torch.isin(ids_T, torch.tensor(special))
    return ~known_T | (ids_T == (-1 if id_ is None else id_))


@final
class Tfidf(nn.Module):
    """Token ids to TF-IDF vectors of length 1.

    Attributes:
        terms_F: code of each term, sorted; of what is not used, a code above all.
        idf_F: weight of each term; 0 for what is not used.
    """

    terms_F: Tensor
    idf_F: Tensor

    def __init__(
        self, features: int, *, first: int, words: int, bigrams: bool, sublinear: bool
    ) -> None:
        """Knows no term yet.

        Args:
            features: how many terms there may be.
            first: least id that is a word, and no special token.
            words: ids are below it.
            bigrams: whether pairs are terms.
            sublinear: whether counts enter as 1 + log.
        """
        super().__init__()
        self.first, self.words = first, words
        self.bigrams, self.sublinear = bigrams, sublinear
        self.register_buffer("terms_F", torch.full((features,), words * (words + 1)))
        self.register_buffer("idf_F", torch.zeros(features))

    @property
    def coding(self) -> terms.Coding:
        """How terms are coded."""
        return terms.Coding(first=self.first, words=self.words, bigrams=self.bigrams)

    def learn(self, texts: Iterable[Sequence[int]]) -> None:
        """Takes the most frequent terms of some texts, and their weights (a mutator)."""
        found = terms.count(texts, self.coding).most_frequent(len(self.terms_F))
        number = len(found.codes)
        often = torch.from_numpy(found.within).double()
        self.terms_F[:number] = torch.from_numpy(found.codes)
        self.idf_F[:number] = ((1 + found.texts) / (1 + often)).log() + 1

    def sparse(self, texts: Iterable[Sequence[int]]) -> csr_array:
        """Vectors [N, F] of texts, given as token ids, of which only what is not 0 is held."""
        made = terms.matrix(
            texts, self.coding, codes_F=self.terms_F.cpu().numpy(), sublinear=self.sublinear
        )
        made.data *= self.idf_F.cpu().numpy()[made.indices]
        length_N = np.sqrt(made.power(2).sum(axis=1))
        made.data /= np.repeat(length_N, np.diff(made.indptr))
        return made.astype(np.float32)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Vectors [N, F] of `input_ids` and `attention_mask` [N, T]."""
        ids_NT = inputs["input_ids"].masked_fill(~inputs["attention_mask"].bool(), 0)
        codes_NC = self._codes(ids_NT)
        place_NC = torch.searchsorted(self.terms_F, codes_NC).clamp(max=len(self.terms_F) - 1)
        known_NC = (self.terms_F[place_NC] == codes_NC) & (codes_NC >= 0)
        counts_NF = self.idf_F.new_zeros(len(ids_NT), len(self.terms_F))
        counts_NF.scatter_add_(1, place_NC, known_NC.to(counts_NF.dtype))
        if self.sublinear:
            counts_NF = torch.where(counts_NF > 0, 1 + counts_NF.clamp(min=1).log(), 0.0)
        return nn.functional.normalize(counts_NF * self.idf_F, dim=1)

    def _codes(self, ids_NT: Tensor) -> Tensor:
        """Codes of the terms at each place; -1 where there is none: special or unknown words."""
        word_NT = ids_NT >= self.first
        single_NT = torch.where(word_NT, ids_NT, -1)
        if not self.bigrams:
            return single_NT
        pair_NT = self.words * (1 + ids_NT[:, :-1]) + ids_NT[:, 1:]
        pair_NT = torch.where(word_NT[:, :-1] & word_NT[:, 1:], pair_NT, -1)
        return torch.cat([single_NT, pair_NT], dim=1)


def _special(tokenizer: str) -> list[int]:
    """Ids of what is no word."""
    made = Tokenizer.from_str(tokenizer)
    names = (vocabulary.PAD, vocabulary.UNKNOWN, vocabulary.FIRST, vocabulary.SEPARATOR)
    found = [made.token_to_id(name) for name in (*names, vocabulary.MASK)]
    return [number for number in found if number is not None]


def _encoded(tokenizer: str, texts: Iterable[str], max_length: int) -> Iterator[list[int]]:
    made = Tokenizer.from_str(tokenizer)
    made.enable_truncation(max_length)
    left = iter(texts)
    while part := list(islice(left, AT_ONCE)):
        yield from (encoding.ids for encoding in made.encode_batch_fast(part))
