"""Vocabularies: learnt from texts, read from runs; tokenizers as the JSON of `tokenizers`."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tlx.backbones.backbone import Wanted
from tlx.backbones.weights.kinds import SAFETENSORS, kind_of

KINDS = ("wordpiece", "words", "identifiers", "whitespace", "characters")
PAD, UNKNOWN, FIRST, SEPARATOR, MASK, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]"
NAMES = {
    "pad": (PAD, "<pad>", "<|pad|>", "<|padding|>", "<|endoftext|>", "<|im_end|>"),
    "mask": (MASK, "<mask>", "<|mask|>"),
    "eos": (END, "</s>", SEPARATOR, "<|endoftext|>", "<|im_end|>", "<eos>"),
    "unknown": (UNKNOWN, "<unk>"),
}
"""What tokenizers call their special tokens, the likelier first."""
ENDLESS = 10_000
"""Characters of a word beyond which no pieces are learnt of it: that takes a time by their square,
and words of over 100 are unknown to WordPiece anyway."""
UNSPACED = Regex(
    "[\\p{Han}\\p{Hiragana}\\p{Katakana}\u30fc\uff70]"
    "[\u3099\u309a\uff9e\uff9f\ufe00-\ufe0f\U000e0100-\U000e01ef]*"
)
"""A character of Chinese or Japanese, which no blank parts from the next, with its marks."""
WORDS = pre_tokenizers.Sequence(
    [pre_tokenizers.Whitespace(), pre_tokenizers.Split(UNSPACED, behavior="isolated")]
)
"""Letters apart from punctuation, and each character of scripts that are written without blanks."""
SPLITTING = {
    "words": WORDS,
    "identifiers": WORDS,
    "whitespace": pre_tokenizers.WhitespaceSplit(),
    "characters": pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated"),
}
APART = normalizers.Replace(Regex(r"(?<=[\p{Ll}\p{Nd}])(?=\p{Lu})|_"), " ")
"""Takes identifiers apart at underscores, and where a capital follows a small letter or digit."""


@dataclass(frozen=True)
class Ids:
    """Ids of special tokens; None where a tokenizer has none."""

    pad: int
    mask: int | None
    eos: int | None
    unknown: int | None


def learn(
    texts: Callable[[], Iterable[str]],
    *,
    kind: str,
    size: int,
    lowercase: bool = False,
    least_count: int = 1,
    causal: bool = False,
) -> str:
    """A tokenizer whose vocabulary are the most frequent units of some texts.

    The same texts give the same tokenizer, in any process. Special tokens come first.

    Args:
        texts: gives them, each time it is called.
        kind: `wordpiece` (Devlin et al. 2019), `words` (letters apart from punctuation; of Han
            and Kana, which are written without blanks, each character), `identifiers` (words, and
            `read_file` and `readFile` are two of them), `whitespace` (words as blanks part them),
            `characters`.
        size: most entries, special tokens included.
        lowercase: of all texts, now and later.
        least_count: units that occur less often are unknown.
        causal: for networks that read left to right: no tokens are put around a text, and `[EOS]`
            takes the place of `[CLS]`, `[SEP]` and `[MASK]`.

    Raises:
        ValueError: an argument is out of range.
    """
    special = [PAD, UNKNOWN, END] if causal else [PAD, UNKNOWN, FIRST, SEPARATOR, MASK]
    if kind not in KINDS:
        raise ValueError(f"backbone.vocabulary={kind!r}; give one of {', '.join(KINDS)}")
    if size <= len(special):
        raise ValueError(
            f"backbone.vocabulary_size={size}; it holds {len(special)} special tokens, give more"
        )
    if least_count < 1:
        raise ValueError(f"backbone.least_count={least_count}; give 1 or more")
    if kind == "wordpiece":
        tokenizer = _pieces(texts, special, size, lowercase=lowercase, least_count=least_count)
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = SPLITTING[kind]
        changes: list[normalizers.Normalizer] = [APART] if kind == "identifiers" else []
        if lowercase:
            changes.append(normalizers.Lowercase())
        if changes:
            tokenizer.normalizer = normalizers.Sequence(changes)
        if kind == "characters":
            tokenizer.decoder = decoders.Fuse()
        trainer = trainers.WordLevelTrainer(
            vocab_size=size, min_frequency=least_count, special_tokens=special, show_progress=False
        )
        tokenizer.train_from_iterator(texts(), trainer)
    if not causal:
        tokenizer.post_processor = _around(tokenizer)
    return str(tokenizer.to_str())


def grown(tokenizer: str, texts: Iterable[str], *, size: int, least_count: int = 1) -> str:
    """A tokenizer of whole words or characters with the frequent new ones of other texts added.

    Old entries keep their ids. The new ones follow, the more frequent first.

    Args:
        tokenizer: as `learn` made it.
        texts: read once.
        size: most entries, old ones included.
        least_count: of a new entry.

    Raises:
        ValueError: its entries are parts of words.
    """
    content = json.loads(tokenizer)
    if content["model"]["type"] != "WordLevel":
        raise ValueError(
            f"a vocabulary of {content['model']['type']} cannot grow by new words; it spells them"
        )
    fresh = Tokenizer.from_str(tokenizer)
    fresh.train_from_iterator(
        texts,
        trainers.WordLevelTrainer(
            vocab_size=size, min_frequency=least_count, show_progress=False, special_tokens=[]
        ),
    )
    old: dict[str, int] = content["model"]["vocab"]
    ranked = sorted(json.loads(fresh.to_str())["model"]["vocab"].items(), key=lambda item: item[1])
    new = [word for word, _ in ranked if word not in old][: max(size - len(old), 0)]
    content["model"]["vocab"] = {**old, **{word: len(old) + i for i, word in enumerate(new)}}
    return json.dumps(content, ensure_ascii=False)


def plain(tokenizer: Tokenizer) -> str:
    """Its JSON, without padding and truncation, which are the data's."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return str(copy.to_str())


def size_of(tokenizer: str) -> int:
    """One more than the highest id: the rows that an embedding must have."""
    return 1 + max(Tokenizer.from_str(tokenizer).get_vocab(with_added_tokens=True).values())


def special_ids(tokenizer: str, known: Mapping[str, object]) -> Ids:
    """Ids of the special tokens.

    Args:
        tokenizer: JSON.
        known: `pad_token_id`, `eos_token_id` as the network's config states them; what it leaves
            open is looked up by the usual names. Networks without padding pad with the end: the
            mask hides it.
    """
    vocabulary = Tokenizer.from_str(tokenizer).get_vocab(with_added_tokens=True)
    most = max(vocabulary.values())

    def found(kind: str) -> int | None:
        stated = known.get(f"{kind}_token_id")
        stated = stated[0] if isinstance(stated, list | tuple) and stated else stated
        if isinstance(stated, int) and 0 <= stated <= most:
            return stated
        return next((vocabulary[name] for name in NAMES[kind] if name in vocabulary), None)

    pad, eos = found("pad"), found("eos")
    return Ids(
        pad=pad if pad is not None else eos or 0,
        mask=found("mask"),
        eos=eos,
        unknown=found("unknown"),
    )


def of_kept(wanted: Wanted) -> str | None:
    """The tokenizer of the finished run that is loaded again; None where none is."""
    tokenizer = (wanted.kept or {}).get("tokenizer")
    return tokenizer if isinstance(tokenizer, str) else None


def of_run(path: str | Path) -> str | None:
    """The tokenizer that a run's weights file carries; None for files of other origin."""
    try:
        if kind_of(Path(path)) != SAFETENSORS:
            return None
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("tlx", "{}"))
    except (SafetensorError, OSError, ValueError):
        return None  # what is wrong with the file is said where its weights are read
    spec = facts.get("input_spec", {}) if isinstance(facts, dict) else {}
    tokenizer = spec.get("tokenizer")
    return tokenizer if isinstance(tokenizer, str) else None


def _pieces(
    texts: Callable[[], Iterable[str]],
    special: list[str],
    size: int,
    *,
    lowercase: bool,
    least_count: int,
) -> Tokenizer:
    """A tokenizer that spells rare words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    inner: set[str] = set()
    shortened: dict[int, str] = {}
    for place, text in enumerate(texts()):
        parts = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        words = [word for word, _ in parts if len(word) <= ENDLESS]
        if len(words) < len(parts):
            shortened[place] = " ".join(words)
        for word in words:
            inner.update(word[1:])
    # the trainer numbers these in the order of a hash table, other in each process: tell it first
    spelled = [f"##{character}" for character in sorted(inner)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=least_count,
        special_tokens=special + spelled,
        show_progress=False,
    )
    learnt_from = (shortened.get(place, text) for place, text in enumerate(texts()))
    tokenizer.train_from_iterator(learnt_from, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] in special]
    return Tokenizer.from_str(json.dumps(content))


def _around(tokenizer: Tokenizer) -> processors.PostProcessor:
    """`[CLS] a [SEP]`, and for pairs `[CLS] a [SEP] b [SEP]` with types 0 and 1."""
    return processors.TemplateProcessing(
        single=f"{FIRST} $A {SEPARATOR}",
        pair=f"{FIRST} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (FIRST, SEPARATOR)],
    )
