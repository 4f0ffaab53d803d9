"""Where a network of transformers comes from: its config, its tokenizer, its weights."""

import difflib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import RepositoryNotFoundError, StrictDataclassError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import logging as hf_logging

from tlx.backbones.text import vocabulary
from tlx.backbones.transformers import kernels
from tlx.backbones.weights import files as weights
from tlx.base import bounds

KNOWN = (
    "google-bert/bert-base-uncased",
    "google-bert/bert-base-chinese",
    "distilbert/distilbert-base-uncased",
    "FacebookAI/roberta-base",
    "FacebookAI/xlm-roberta-base",
    "microsoft/deberta-v3-base",
    "answerdotai/ModernBERT-base",
    "google/electra-small-discriminator",
    "sentence-transformers/all-MiniLM-L6-v2",
    "openai-community/gpt2",
    "Qwen/Qwen3-0.6B-Base",
    "HuggingFaceTB/SmolLM2-135M",
)
"""Names that a mistyped one may have meant."""
VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model"),
    *("spiece.model", "spm.model", "sentencepiece.bpe.model"),
)
RESERVED = ("vocab_size", "pad_token_id", "dtype", "torch_dtype", "trust_remote_code")
REMOTE = "trust_remote_code"
ABOUT_ATTENTION = "attn_implementation"
UNBUILT = (
    *(TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError),
    *(ImportError, StrictDataclassError),
)
"""What the library raises of entries of a config that do not go together, beside ValueError."""


@dataclass(frozen=True)
class WeightsSource:
    """What a name stands for.

    Attributes:
        name: as given.
        kind: `type` (a kind of network, `bert`), `folder`, or `hub`.
    """

    name: str
    kind: str


def source_of(name: str, init: str) -> WeightsSource:
    """What a name stands for.

    Kinds of network come first where the weights are not the hub's, then folders, then the hub.

    Raises:
        ValueError: a kind of network where pretrained weights are wanted.
        FileNotFoundError: a folder without config.json, or that is not there.
    """
    if name in CONFIG_MAPPING_NAMES and not Path(name, "config.json").is_file():
        if init != "hub":
            return WeightsSource(name, "type")
        if name not in {"gpt2", "openai-gpt"}:  # these are names on the hub too
            raise ValueError(
                f"backbone.name={name!r} is a kind of network, without weights; give a name of the "
                f"hub ({_nearest(name, KNOWN)}) or a folder, or backbone.init=none"
            )
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(
                f"backbone.name={name!r} is a folder without config.json; give one that "
                "transformers' save_pretrained wrote"
            )
        return WeightsSource(str(path), "folder")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"backbone.name={name!r}: there is no such folder")
    return WeightsSource(name, "hub")


def check_init(init: str) -> None:
    """Passes `hub`, `none`, and a file that is there.

    Raises:
        ValueError: a run or an experiment, which is no file yet.
        FileNotFoundError: there is no such file.
    """
    weights.require_resolved(init, "hub, none, a file")
    if init not in {"hub", "none"} and not Path(init).is_file():
        raise FileNotFoundError(
            f"backbone.init={init!r} is no file; allowed: hub, none, run:ID, experiment:NAME, or a "
            "file of safetensors or torch; a folder goes into backbone.name"
        )


def set_dropout(config: PreTrainedConfig, rate: float | None) -> None:
    """Sets every rate of dropout of a config (a mutator); None: they stay.

    Raises:
        ValueError: it is no rate.
    """
    if rate is None:
        return
    if not 0 <= rate < 1:
        raise ValueError(f"backbone.dropout={rate} must lie in [0, 1)")
    for key, value in config.to_dict().items():
        named = "dropout" in key or key.endswith("pdrop")
        if named and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(config, key, float(rate))


def config_of(
    source: WeightsSource, kwargs: Mapping[str, object], *, tokenizer: str | None
) -> PreTrainedConfig:
    """The network's config.

    Args:
        source: of the network.
        kwargs: entries of the config that replace its own.
        tokenizer: JSON, for a kind of network: sizes and special tokens are taken from it.

    Raises:
        ValueError: an unknown entry, one whose number is over its bound, or one that would fetch
            code.
        RuntimeError: the hub cannot be reached.
    """
    for key in RESERVED:
        if key in kwargs:
            raise ValueError(
                f"backbone.kwargs may not set {key!r}: tlx sets it"
                + (" (see backbone.vocabulary_size)" if key == "vocab_size" else "")
            )
    changes = {key: value for key, value in kwargs.items() if key != ABOUT_ATTENTION}
    if source.kind == "type":
        _check_keys(AutoConfig.for_model(source.name), changes)
        ids = _ids(tokenizer) if tokenizer is not None else {}
        bounds.require_numbers(changes, "backbone.kwargs")
        config = AutoConfig.for_model(source.name, **{**ids, **changes})
    else:
        if source.kind == "folder":
            file = Path(source.name, "config.json")
            written = bounds.read_object(file)
            bounds.require_numbers(written, str(file))
            kernels.require(written, None, name=source.name)
        with reached(source, "config"):
            config = AutoConfig.from_pretrained(source.name, trust_remote_code=False)
        _check_keys(config, changes)
        bounds.require_numbers(changes, "backbone.kwargs")
        for key, value in changes.items():
            setattr(config, key, value)
    kernels.require(config, kwargs.get(ABOUT_ATTENTION), name=source.name)
    if config.is_encoder_decoder:
        raise ValueError(
            f"backbone.name={source.name!r} ({config.model_type}) is an encoder with a decoder, "
            "for text to text; choose an encoder (bert, ...) or a decoder (gpt2, ...)"
        )
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise ValueError(
            f"backbone.name={source.name!r} ({config.model_type}) states no hidden_size: it is of "
            "several parts, as networks of images and texts are; choose a network of texts alone"
        )
    return config


def tokenizer_of(source: WeightsSource) -> str:
    """The JSON of the network's own tokenizer.

    Raises:
        ValueError: there is no fast one.
        RuntimeError: the hub cannot be reached.
    """
    folder = Path(source.name)
    if source.kind == "folder" and not any((folder / file).is_file() for file in VOCABULARIES):
        raise FileNotFoundError(
            f"backbone.name={source.name!r} has no tokenizer.json; save the tokenizer into the "
            "folder too (tokenizer.save_pretrained)"
        )
    if source.kind == "folder" and (folder / "tokenizer.json").is_file():
        bounds.read_json(folder / "tokenizer.json")
    advice = (
        f"the tokenizer of {source.name!r} has no fast form here (tokenizer.json); where it is a "
        "sentencepiece model, `pip install sentencepiece protobuf` lets transformers convert it"
    )
    with reached(source, "tokenizer"):
        try:
            found = AutoTokenizer.from_pretrained(source.name, trust_remote_code=False)
        except (ImportError, ValueError) as error:
            if REMOTE in str(error):
                raise
            raise ValueError(f"{advice} ({_first_line(error)})") from error
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(advice)
    return vocabulary.plain(backend)


@contextmanager
def reached(source: WeightsSource, what: str) -> Iterator[None]:
    """Turns what transformers raises into errors that name the way out; keeps it quiet."""
    cached = weights.hub_or_cache() if source.kind == "hub" else nullcontext("")
    with quiet(), cached as silence:
        try:
            yield
        except ValueError as error:
            if REMOTE not in str(error):
                raise
            raise ValueError(
                f"backbone.name={source.name!r} would run code from its repository, which tlx "
                "never does; choose a network that transformers itself has"
            ) from error
        except OSError as error:
            if source.kind == "folder":
                raise ValueError(
                    f"backbone.name={source.name!r}: its {what} cannot be read "
                    f"({_first_line(error)})"
                ) from error
            raise _not_fetched(source, what, error, silence) from error


def _not_fetched(source: WeightsSource, what: str, error: OSError, silence: str) -> Exception:
    near = _nearest(source.name, [*KNOWN, *CONFIG_MAPPING_NAMES])
    if isinstance(error.__cause__, RepositoryNotFoundError):
        return ValueError(
            f"backbone.name={source.name!r} is not on the hub, or not public; did you mean {near}?"
        )
    return weights.NotFetched(
        f"backbone.name={source.name!r}: the {what} could not be fetched "
        f"({silence or _first_line(error)}). Without network: give a folder, "
        "backbone.name=<folder of save_pretrained>; or start a kind of network from random "
        "weights, backbone.name=bert backbone.init=none; or fill the Hugging Face cache where "
        f"there is network (`hf download {source.name}`) and point HF_HOME at it, with "
        f"HF_HUB_OFFLINE=1. If the name is mistyped: did you mean {near}?"
    )


@contextmanager
def built_by_library(config: PreTrainedConfig) -> Iterator[None]:
    """Turns what the library raises of a config into an error that names the network.

    Raises:
        ValueError: the library cannot build it.
    """
    try:
        yield
    except (ValueError, *UNBUILT) as error:
        raise ValueError(
            f"transformers cannot build a {config.model_type} of this config "
            f"({_first_line(error)}); look at backbone.kwargs, or choose another network"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers (a mutator): what matters of its reports is said or raised by us."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def _check_keys(config: PreTrainedConfig, changes: Mapping[str, object]) -> None:
    for key in changes:
        if not hasattr(config, key) and not _read_by_model(config, key):
            raise ValueError(
                f"backbone.kwargs: {key!r} is no entry of a {config.model_type} config; did you "
                f"mean {_nearest(key, list(config.to_dict()))}?"
            )


def _read_by_model(config: PreTrainedConfig, key: str) -> bool:
    """Whether the network reads an entry that its config does not declare, as DeBERTa's do."""
    kind: Any = AutoModel._model_mapping[type(config)]
    kind = kind[0] if isinstance(kind, tuple) else kind
    return f'"{key}"' in inspect.getsource(sys.modules[kind.__module__])


def _ids(tokenizer: str) -> dict[str, object]:
    """Entries of a new config that must agree with the vocabulary."""
    special = vocabulary.special_ids(tokenizer, {})
    return {
        "vocab_size": vocabulary.size_of(tokenizer),
        "pad_token_id": special.pad,
        "bos_token_id": special.eos,
        "eos_token_id": special.eos,
    }


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return " or ".join(found) or f"one like {KNOWN[0]}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
