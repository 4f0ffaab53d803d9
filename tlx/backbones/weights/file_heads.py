"""Heads in a weights file: told by their names, by their shapes, or named by a person."""

from collections.abc import Mapping

from torch import Tensor, nn

from tlx.backbones.weights.key_rules import HEAD_NAMES, KeyRules

HEADS = frozenset(
    {
        *("head", "heads", "fc", "classifier", "head_dist", "last_linear"),
        *("AuxLogits", "aux", "aux1", "aux2", "aux_head"),
    }
)
COUNTERS = "num_batches_tracked"
COUNTER = "a counter of batch norm, which the network has none of"
BY_CONFIG = "the network's own classifier"
BY_NAME = "a usual name of a head"
BY_SHAPE = "a head by its shape: it reads the network's features"
State = Mapping[str, Tensor]


class HeadMismatch(ValueError):
    """A file's heads are none that this run's head could start from."""


def heads_among(
    loose: State, module: nn.Module, rules: KeyRules, *, inside: bool = True
) -> dict[str, str]:
    """Those of some weights that are left out as a head's, each with the rule that says so.

    Args:
        loose: weights that the network has no place for, by names without a prefix.
        module: the network.
        rules: of the person; heads that they name are heads, whatever else is known.
        inside: whether they lie below the prefix of the network's names.
    """
    target = module.state_dict()
    tops = {name.partition(".")[0] for name in target} if inside else set()
    classifiers = _classifiers(module) if inside else ()
    reasons: dict[str, str] = {}
    for name in loose:
        top = name.partition(".")[0]
        if rules.head_of(name):
            reasons[name] = HEAD_NAMES
        elif name.startswith(classifiers):
            reasons[name] = BY_CONFIG
        elif top in HEADS and top not in tops:
            reasons[name] = BY_NAME
        elif name.endswith(COUNTERS) and f"{_owner(name)}.running_mean" in target:
            reasons[name] = COUNTER
    copies = {name.partition(".")[0] for name in loose if _is_copy(name, target)}
    rest = {
        n: t for n, t in loose.items() if n not in reasons and n.partition(".")[0] not in copies
    }
    known = [tensor for name, tensor in loose.items() if name in reasons]
    shaped = _by_shape(rest, tops, widths={rules.width, *(len(t) for t in known if _matrix(t))})
    return reasons | dict.fromkeys(shaped, BY_SHAPE)


def fitting_head(
    heads: State, shape: tuple[int, ...], *, named: KeyRules, path: object
) -> tuple[str, Tensor, Tensor]:
    """The one layer among a file's heads that has the shape of a run's head.

    Args:
        heads: of the file.
        shape: of the run's weight, [outputs, features].
        named: names of heads that the person wants; of all where there are none.
        path: of the file, for errors.

    Returns:
        The layer's name, its weight and its bias; zeros where it has none.

    Raises:
        HeadMismatch: none has, or several have.
    """
    layers = {_owner(name): tensor for name, tensor in heads.items() if _is_weight(name, tensor)}
    if named.heads:
        layers = {name: tensor for name, tensor in layers.items() if named.head_of(name)}
    shapes = {name: tuple(tensor.shape[:2]) for name, tensor in layers.items()}
    fits = [name for name, found in shapes.items() if found == shape]
    if len(fits) != 1:
        told = ", ".join(f"{name} {list(found)}" for name, found in shapes.items())
        what = f"{len(fits)} layers of that shape" if fits else "none of that shape"
        ways = f"name one by {HEAD_NAMES}" if fits else "use init_head=new"
        raise HeadMismatch(
            f"init_head=keep: this run's head is {list(shape)} (outputs, features), and {path} has "
            f"{what}; of heads it has {told or 'none'}: {ways}"
        )
    (name,) = fits
    weight = layers[name].flatten(1)
    bias = heads.get(f"{name}.bias")
    return name, weight, weight.new_zeros(len(weight)) if bias is None else bias


def _by_shape(loose: State, tops: set[str], *, widths: set[int | None]) -> list[str]:
    """Weights of modules that begin with a layer on features, or on what such a layer gives."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in loose.items():
        parts.setdefault(name.partition(".")[0], {})[name] = tensor
    able = {
        top: state
        for top, state in parts.items()
        # a layer too many of the network's own is no head, however it is shaped
        if top not in tops and all(t.ndim <= 2 or _matrix(t) for t in state.values())
    }
    found: list[str] = []
    grown = True
    while grown:
        grown = False
        for top, state in list(able.items()):
            matrices = [t for name, t in state.items() if _is_weight(name, t)]
            if matrices and matrices[0].shape[1] in widths:
                widths = {*widths, *(len(t) for t in matrices)}
                found += able.pop(top)
                grown = True
    return [name for name in loose if name in found]


def _is_copy(name: str, target: State) -> bool:
    """Whether a weight is that of another network of the same kind: a teacher's, a student's."""
    parts = name.split(".")
    return any(".".join(parts[cut:]) in target for cut in range(len(parts) - 2))


def _matrix(tensor: Tensor) -> bool:
    """Whether a weight is that of a linear layer, or of a convolution that is one."""
    return tensor.ndim == 2 or (tensor.ndim == 4 and tuple(tensor.shape[2:]) == (1, 1))


def _is_weight(name: str, tensor: Tensor) -> bool:
    return name.endswith(".weight") and _matrix(tensor)


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _classifiers(module: nn.Module) -> tuple[str, ...]:
    cfg = getattr(module, "pretrained_cfg", None) or {}
    named = cfg.get("classifier") or ()
    named = (named,) if isinstance(named, str) else tuple(named)
    return tuple(f"{name}." for name in named)
