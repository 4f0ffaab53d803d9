"""Checkpoints of a stack's runs, each of which could go on alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from torch import Tensor, nn

from tlx.fused.members import CannotFuse, Member
from tlx.training.engine import checkpoints
from tlx.training.engine.course import Progress
from tlx.training.engine.fit import saved_state


def resume(member: Member, *, unusual: Collection[str]) -> int:
    """The step that a run goes on from, which it is set to.

    Args:
        member: the run.
        unusual: names of tensors that may hold infinities.

    Raises:
        CannotFuse: its checkpoint is of another kind of run.
    """
    folder = member.entrant.folder / "checkpoints"
    newest = next(checkpoints.sound(folder, tag="last", unusual=unusual), None)
    if newest is None:
        return 0
    payload, path = newest
    if payload["identity"] != member.plan.identity(member.run):
        raise CannotFuse(f"{path} belongs to other data or weights")
    # an average of weights, or a later stage: nothing that a stack has
    if payload["average"] is not None or payload["progress"]["stage"]:
        raise CannotFuse(f"{path} is of another kind of run")
    member.course.progress = Progress.load(payload["progress"])
    member.course.progress.resumes += 1
    member.head.load_state_dict(_head_of(payload["network"]))
    member.carried = payload["optimizer"]
    step = member.logged = member.course.progress.step
    best_step = member.course.progress.best_step
    if best_step is not None:
        best = next(checkpoints.sound(folder, tag="best", step=best_step, unusual=unusual), None)
        if best is None:
            raise CannotFuse(f"{path}: the best weights, of step {best_step}, are lost")
        member.best = tuple(_head_of(best[0]["network"]).values())
    return step


def save(
    member: Member,
    head: Sequence[Tensor],
    optimizer: Mapping[str, Mapping[str, Tensor]],
    *,
    network: nn.Module,
    unusual: Collection[str],
) -> None:
    """A checkpoint such as a run alone would go on from.

    Args:
        member: the run.
        head: its parameters now.
        optimizer: state of each by the parameter's name in the head.
        network: of all, whose other parameters do not train.
        unusual: names of tensors that may hold infinities.

    Raises:
        NotFinite: the head or its optimizer's state is not finite; the checkpoint before stays.
    """
    folder, progress = member.entrant.folder / "checkpoints", member.course.progress
    if member.best is not None and progress.best_step is not None:
        weights = _state(network, member, member.best)
        best: checkpoints.Payload = {"network": weights, "value": progress.best_value}
        checkpoints.save(folder, progress.best_step, best, tag="best", keep=1, unusual=unusual)
    checkpoints.save(
        folder,
        progress.step,
        {
            "identity": member.plan.identity(member.run),
            "progress": asdict(progress),
            "network": _state(network, member, head),
            "optimizer": {f"head.{name}": dict(s) for name, s in optimizer.items() if s},
            "scaler": None,
            "average": None,
        },
        unusual=unusual,
    )


def _state(network: nn.Module, member: Member, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """A network's state with one run's head, less what never trains."""
    weights_id = member.plan.model.backbone.weights_id
    state = saved_state(network, member.plan.spans[0].stage.trains, weights_id=weights_id)
    names = [name for name in state if name.startswith("head.")]
    state |= dict(zip(names, parameters, strict=True))
    return {name: tensor.detach().cpu() for name, tensor in state.items()}


def _head_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("head."): tensor
        for name, tensor in state.items()
        if name.startswith("head.")
    }
