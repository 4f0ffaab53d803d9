"""Heads that start from a head in the file that the backbone starts from: `init_head=keep`."""

from torch import nn

from tlx.backbones.backbone import Backbone
from tlx.backbones.weights.file_heads import fitting_head
from tlx.backbones.weights.key_rules import rules_of

OF_RUN = "head."
LINEAR = ("linear.weight", "linear.bias")


def keep_head(head: nn.Module, backbone: Backbone, *, path: str, names: list[str] | None) -> None:
    """Loads a file's head into a fresh one (a mutator): a run's, or one layer of the same shape.

    Args:
        head: of this run.
        backbone: that started from the file.
        path: of the file, for errors.
        names: of heads, where the person names some.

    Raises:
        ValueError: the file has no head, or one of another shape.
    """
    own = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    of_run = {
        name.removeprefix(OF_RUN): value
        for name, value in backbone.file_heads.items()
        if name.startswith(OF_RUN)
    }
    if own == {name: tuple(value.shape) for name, value in of_run.items()}:
        head.load_state_dict(of_run)
        return
    if not own.keys() <= set(LINEAR):
        raise ValueError(
            f"init_head=keep: {path} has a head {_shapes(backbone)}, this run needs {own}; use "
            "init_head=new"
        )
    wanted = rules_of(None, names, width=None)
    found = fitting_head(backbone.file_heads, own[LINEAR[0]], named=wanted, path=path)
    values = dict(zip(LINEAR, found[1:], strict=True))
    if LINEAR[1] not in own and bool(values.pop(LINEAR[1]).any()):
        raise ValueError(
            f"init_head=keep: {found[0]} of {path} has a bias, and this run's head has none (the "
            "library's own classifier of such a network has none); use init_head=new"
        )
    head.load_state_dict(values)


def _shapes(backbone: Backbone) -> str:
    heads = backbone.file_heads.items()
    return ", ".join(f"{name} {list(value.shape)}" for name, value in heads) or "of no kind"
