"""Where a mend has changed what a config means: which configs it concerns, and since when.

A config that a change concerns bears its mark in the hash, and so gets another id than the runs
that were trained before it; all others keep theirs. A run folder says in provenance.json under
which changes it was trained, so that no reader takes one meaning for the other.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tlx.base.nodes import Node, leaf, node_at, sequence, target_of


@dataclass(frozen=True)
class Change:
    """One mend after which some configs train or judge something else than before.

    Attributes:
        mark: what stands in the hash and in provenance.json; never changed again.
        since: version of tlx that brought it.
        what: what such a config meant before, and means now, in a sentence.
        concerns: whether a normalised config means something else since. A key that asks for
            the old meaning makes it False.
        old: the override that asks for the old meaning; empty where there is none.
    """

    mark: str
    since: str
    what: str
    concerns: Callable[[Node], bool]
    old: str = ""


UNEQUAL = frozenset(
    {
        "tlx.tasks.token_classification.token_classification",
        "tlx.tasks.language_modeling.language_modeling",
        "tlx.data.images.augment.mixup",
        "tlx.data.images.augment.cutmix",
    }
)
"""Tasks whose items weigh differently, and what mixes a whole batch."""


def _accumulates_unequal_weights(config: Node) -> bool:
    """Whether a batch comes in parts, and its items may weigh differently, or are mixed."""
    if node_at(config, "trainer").get("accumulate") == 1:
        return False
    task = node_at(config, "task")
    weights = sequence(task.get("class_weights")) or [1.0]
    used = {target_of(node) for node in (task, *node_at(config, "augmentation").values())}
    own = any(not target.startswith("tlx.") for target in used)  # nobody knows what they weigh
    unequal = any(weight != weights[0] for weight in weights)
    return own or unequal or not used.isdisjoint(UNEQUAL)


STRATEGIES = "tlx.methods.strategies."
SEVERAL_STAGES = frozenset({"lp_ft", "gradual", "chain_thaw", "freeze_unfreeze", "freezeout"})
"""Strategies of tlx that give more than one stage; the others give one."""


def _best_of_last_stage(config: Node) -> bool:
    """Whether the best is looked for in one stage of several that there are, or may be."""
    node = node_at(config, "freeze_strategy")
    target = target_of(node)
    if config.get("select_from") != "last_stage":
        return False
    if not target.startswith("tlx."):
        return True  # somebody's own strategy: nobody knows its stages, and which restore the best
    if target.removeprefix(STRATEGIES) not in SEVERAL_STAGES:
        return False
    # with two stages, the best so far at the first one's end is the best of that stage
    restores = bool(node.get("restore_best")) and (
        target == f"{STRATEGIES}chain_thaw"
        or (target == f"{STRATEGIES}gradual" and node.get("stages") != 2)
    )
    return config.get("final_weights") == "best" or restores


NO_BEGINNING = (
    *("openai-community/", "gpt2", "distilgpt2", "distilbert/distilgpt2", "Qwen/"),
    *("HuggingFaceTB/SmolLM2", "EleutherAI/pythia", "EleutherAI/gpt", "bigscience/bloom"),
)
"""How names on the hub begin whose tokenizers put nothing before a text: they keep their ids."""


def _causal_text(config: Node) -> bool:
    task = node_at(config, "task")
    return leaf(task) == "language_modeling" and task.get("objective") == "causal"


def _begins_texts(config: Node) -> bool:
    """A causal language model whose tokenizer may be one that puts tokens before a text.

    A kind of network (a bare name that starts from random weights, or from a run) learns its
    vocabulary, which puts none there.
    """
    trunk = node_at(config, "backbone")
    known = str(trunk.get("name") or "").startswith(NO_BEGINNING)
    foreign = leaf(trunk) == "transformers" and not _is_kind(trunk) and not known
    return foreign and _causal_text(config)


def _is_kind(trunk: Node) -> bool:
    """Whether a backbone of transformers names a kind of network, whose vocabulary is learnt."""
    name = str(trunk.get("name") or "")
    return trunk.get("init") != "hub" and not name.startswith(("/", "~", ".")) and "/" not in name


def _chooses_a_penalty(config: Node) -> bool:
    """Whether a linear head is solved for several penalties, of which validation chooses."""
    optimizer = node_at(config, "optimizer")
    of_lbfgs = target_of(optimizer) == "tlx.training.optimizers.lbfgs"
    return of_lbfgs and len(sequence(optimizer.get("penalties"))) > 1


SPELLS = 1000
"""Entries of a vocabulary of characters or pieces that leave hardly any text unknown."""


def _may_not_know(config: Node) -> bool:
    """A language model with a learnt vocabulary that leaves words unknown.

    Vocabularies that spell are counted where they are small: others know nearly all of a text, and
    keep their ids.
    """
    trunk = node_at(config, "backbone")
    kind = trunk.get("vocabulary")
    if not _causal_text(config):
        return False
    if leaf(trunk) == "transformers" and trunk.get("init") == "hub":
        return False  # the network's own
    if kind in ("words", "identifiers", "whitespace"):
        return True
    few = isinstance(size := trunk.get("vocabulary_size"), int) and size < SPELLS
    rare = isinstance(least := trunk.get("least_count"), int) and least > 1
    return kind in ("characters", "wordpiece") and (few or rare)


NECK_IN_TOP_GROUP = re.compile(
    r"(tf_|test_)?efficientnet|mobilenetv2_|mnasnet_|inception_v3|test_(resnet|vit)\b|resnext\d|"
    r"(wide_|se)?resnet\d|vit_(tiny|small|base)_patch\d+_(\d+|dinov2|dinov3)\b|deit_"
)
"""How names of timm networks begin, none of whose layer groups is nothing but neck."""
WITHOUT_NECK = frozenset({"roberta", "distilbert", "electra", "deberta", "deberta-v2"})
"""Kinds of text networks that have nothing between their last layer and the head."""
REGROUPED = re.compile(
    r"(pool|ca|conv|rand|identity)former|\bpit_|\bcsatv2|flaubert|\bxlm(?![-_]r)"
)
"""Names of networks that have got other layer groups."""
BLIND_TO_GROUPS = frozenset(
    {"scratch", "full", "linear_probe", "pattern", "norm_only", "bitfit", "lp_ft"}
)


def _counts_neck(config: Node) -> bool:
    """`last_k`, or `freeze_first_k` up to the top, of a network that may have a neck of its own."""
    strategy, trunk = node_at(config, "freeze_strategy"), node_at(config, "backbone")
    target = target_of(strategy)
    if target not in (f"{STRATEGIES}last_k", f"{STRATEGIES}freeze_first_k"):
        return False
    if target.endswith("freeze_first_k") and strategy.get("k") == 1:
        return False  # freezes the stem of any network
    name, kind = str(trunk.get("name")), leaf(trunk)
    if kind == "awd_lstm":
        return trunk.get("pooling") == "attention"
    if kind == "transformers":
        return trunk.get("pooling") == "attention" or name not in WITHOUT_NECK
    plain = kind == "timm" and not trunk.get("kwargs")
    return not (plain and NECK_IN_TOP_GROUP.match(name))


def _regrouped(config: Node) -> bool:
    """A network with other layer groups than before, and something that counts them."""
    name = str(node_at(config, "backbone").get("name")).lower()
    strategy = node_at(config, "freeze_strategy")
    blind = target_of(strategy).startswith(STRATEGIES) and leaf(strategy) in BLIND_TO_GROUPS
    decays = node_at(config, "optimizer").get("layer_decay", 1.0) != 1.0
    return bool(REGROUPED.search(name)) and (decays or not blind)


NAMED_SINCE = re.compile(
    r"((deu|esp|ned)\.train|genia4ertask1|(eng|restaurant)train)(\.\w+)?$", re.IGNORECASE
)
"""Training files whose corpora's other files are found since by their names."""


def _finds_files_of_corpora(config: Node) -> bool:
    """Such a training file, named, in a folder where val or test may now be found."""
    data = node_at(config, "dataset")
    train = str(data.get("train") or "").replace("\\", "/").rpartition("/")[2]
    unnamed = data.get("val") is None or data.get("test") is None
    found = data.get("root") is not None and unnamed and bool(NAMED_SINCE.match(train))
    return leaf(data) == "conll" and found


def _drops_copies(config: Node) -> bool:
    return node_at(config, "dataset").get("drop_duplicates") is True


def _learns_words(config: Node) -> bool:
    """A vocabulary of words, learnt from texts that may be Chinese or Japanese.

    tlx's own texts are English; what starts from a run takes its vocabulary over.
    """
    trunk = node_at(config, "backbone")
    kind = leaf(trunk)
    if target_of(config.get("dataset")) == "tlx.data.text.stdlib.docs.stdlib_docs":
        return False
    if kind == "tfidf":
        return True
    learns = kind == "awd_lstm" or (kind == "transformers" and _is_kind(trunk))
    words = trunk.get("vocabulary") in ("words", "identifiers")
    return learns and words and trunk.get("init") == "none"


TOKEN_TASKS = frozenset(
    {
        "tlx.tasks.token_classification.token_classification",
        "tlx.tasks.language_modeling.language_modeling",
    }
)
NO_DECODER = re.compile(
    r"bert|electra|minilm|mpnet|xlnet|xlm|funnel|longformer|big_?bird|canine|ernie(?!_?4)|fnet|"
    r"nystrom|layoutlm|luke|mamba|granite|olmo(?!e)|\b(mra|yoso|esmc?|rembert|splinter|tapas|bros)\b|"
    r"\b(e5|bge|gte)-"
)
"""Names of encoders, and of decoders on which transformers puts no classifier."""


def _classifies_with_a_decoder(config: Node) -> bool:
    """One vector a text from a decoder's last token, with a head that is trained step by step."""
    trunk = node_at(config, "backbone")
    if leaf(trunk) != "transformers" or target_of(config.get("task")) in TOKEN_TASKS:
        return False
    solved = target_of(config.get("optimizer")) == "tlx.training.optimizers.lbfgs"
    normed = "head_norm" in node_at(config, "regularization")
    if solved or normed or trunk.get("pooling", "auto") not in ("auto", "last"):
        return False
    return not NO_DECODER.search(str(trunk.get("name")).lower())


CHANGES: tuple[Change, ...] = (
    Change(
        mark="accumulated_weights",
        since="0.2.0",
        what="each part of a batch (trainer.accumulate) was divided by the weights of its own "
        "items, and mixed by itself; now the batch is weighed and mixed as a whole",
        concerns=_accumulates_unequal_weights,
    ),
    Change(
        mark="best_of_last_stage",
        since="0.2.0",
        what=(
            "the best weights on validation were those of any stage, and are now those of the last "
            "one (with restore_best: those of the stage that ends)"
        ),
        concerns=_best_of_last_stage,
        old="select_from=run",
    ),
    Change(
        mark="text_beginnings",
        since="0.2.0",
        what="language models whose tokenizers put a token before a text (Llama, Gemma) read texts "
        "after the end token, and were asked for it at the end; now each window begins, and each "
        "text ends, as the tokenizer has it",
        concerns=_begins_texts,
    ),
    Change(
        mark="penalty_path",
        since="0.2.0",
        what="of penalties with the same figure on validation lbfgs took the strongest, and none "
        "beyond optimizer.penalties; now the lower loss counts, and the path goes on while its "
        "end is the best",
        concerns=_chooses_a_penalty,
    ),
    Change(
        mark="unknown_spelled",
        since="0.2.0",
        what="bits per character and word perplexity had unknown words for nothing; now their "
        "characters are charged (the training is the same)",
        concerns=_may_not_know,
    ),
    Change(
        mark="neck_with_top",
        since="0.2.0",
        what="last_k and freeze_first_k counted a final norm or pooler (the neck) as a layer group "
        "in some networks and as part of the top one in others; now it goes with the top one",
        concerns=_counts_neck,
    ),
    Change(
        mark="regrouped",
        since="0.2.0",
        what="MetaFormers, PiT and CSATv2 were one layer group, and XLM and FlauBERT had their "
        "attention for layers and all else for neck; now their groups are their stages and layers",
        concerns=_regrouped,
    ),
    Change(
        mark="copies_within",
        since="0.2.0",
        what="dataset.drop_duplicates removed from train what another split has; now also copies "
        "within train (all of them where their labels differ), and from val what test has",
        concerns=_drops_copies,
    ),
    Change(
        mark="unspaced_scripts",
        since="0.2.0",
        what="a vocabulary of words took Chinese and Japanese from blank to blank for one word; "
        "now each character of Han and Kana is one, and tfidf has pairs of them (other scripts as "
        "before)",
        concerns=_learns_words,
    ),
    Change(
        mark="corpus_files",
        since="0.2.0",
        what="beside a dataset.train of CoNLL's German, Spanish or Dutch corpus, of JNLPBA's or "
        "MIT's, val and test were split off train; now the corpus's own files are found",
        concerns=_finds_files_of_corpora,
    ),
    Change(
        mark="decoder_head",
        since="0.2.0",
        what="the head on a decoder's last token had a bias, which the classifiers of transformers "
        "have not, so that it could not be exported; now it has none, where theirs has none",
        concerns=_classifies_with_a_decoder,
    ),
)
"""All changes, oldest first. Only ever added to: ids of finished runs rest on it."""


def concerning(config: Node) -> tuple[Change, ...]:
    """The changes that concern a normalised config, oldest first."""
    return tuple(change for change in CHANGES if change.concerns(config))


def marks(config: Node) -> list[str]:
    """Marks of the changes that concern a normalised config, sorted."""
    return sorted(change.mark for change in concerning(config))


def lacking(config: Node, trained_under: Sequence[str]) -> tuple[Change, ...]:
    """The changes that concern a config, but under which its run was not trained.

    Args:
        config: normalised.
        trained_under: marks in the provenance of the run.
    """
    return tuple(change for change in concerning(config) if change.mark not in trained_under)
