"""Figures of language models that cannot compare vocabularies."""

from collections.abc import Collection

from tlx.base.nodes import Node, leaf, node_at
from tlx.config.overrides import key_of
from tlx.config.problems import Problem

VOCABULARY = frozenset(
    ("backbone", "backbone.vocabulary", "backbone.vocabulary_size", "backbone.least_count")
)
"""Keys that give a language model another vocabulary; names on the hub may share one."""
LEARNT = frozenset(("dataset.fraction", "dataset.path", "dataset.of"))
"""Keys of the texts to train on, which give another vocabulary where it is learnt of them."""
LOWERCASE = "backbone.lowercase"
"""Gives it another text as well."""
PER_TOKEN = ("perplexity", "loss", "accuracy")
PER_TEXT = "bits_per_character"


def problem(place: str, figure: object, *, varied: Collection[str], config: Node) -> Problem | None:
    """What is wrong with a figure that chooses between vocabularies; None: nothing.

    A figure per token is the better, the less a token tells: fewer words, or mere characters. One
    per character of the text is not, since unknown words are charged.

    Args:
        place: of the figure.
        figure: `val/perplexity`.
        varied: keys whose values are compared.
        config: normalised.
    """
    node = node_at(config, "task")
    split, _, name = str(figure).rpartition("/")
    if leaf(node) != "language_modeling":
        return None
    if name in (*PER_TOKEN, PER_TEXT, "word_perplexity") and LOWERCASE in varied:
        return Problem(
            place,
            f"{figure!r} is of another text where {LOWERCASE} differs, one without capitals; leave "
            f"{LOWERCASE} out",
        )
    learns = node.get("objective") == "causal" and _learns(node_at(config, "backbone"))
    keys = sorted((VOCABULARY | LEARNT if learns else VOCABULARY) & {*varied})
    if not keys or name not in PER_TOKEN:
        return None
    message = (
        f"{figure!r} is a figure per token, and cannot compare vocabularies ({', '.join(keys)}): "
        "the less a token tells, the better it is"
    )
    if node.get("objective") == "masked":
        return Problem(place, f"{message}; of masked tokens there is no other, leave these out")
    return Problem(place, message, f"{split or 'val'}/{PER_TEXT}")


def _learns(trunk: Node) -> bool:
    """Whether a vocabulary is learnt of the training texts, and is none of letters alone."""
    if not trunk or trunk.get("vocabulary") == "characters":
        return False
    if leaf(trunk) != "transformers":
        return True
    name = str(trunk.get("name") or "")
    return trunk.get("init") == "none" and "/" not in name and not name.startswith(("~", "."))


def keys_of(lines: Collection[str]) -> set[str]:
    """Keys that some overrides set."""
    return {key_of(str(line)).lstrip("+") for line in lines}
