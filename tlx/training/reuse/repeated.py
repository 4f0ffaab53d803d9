"""Storing what frozen networks give, where the inputs of training are the same each time."""

from tlx.frozen.store import StoredRows, StoreError
from tlx.methods.order import Order
from tlx.training.collect import broadcast
from tlx.training.reuse.references import References
from tlx.training.reuse.source import Reuse


def store_references(references: References, reuse: Reuse, order: Order) -> None:
    """Has a run's references looked up where they may be (a mutator of them); once a run.

    Whether they may be is told by what does not change when a run goes on: computed with each
    batch, they would be other bits.

    Args:
        references: computed with each batch so far.
        reuse: of the run.
        order: in which it trains.
    """
    views = reuse.views
    count, samples = order.n * max(views, 1), reuse.module.total_steps * order.batch_size
    why = reuse.why_inputs_differ()
    if why is None and samples < count:
        why = f"{count} rows would serve {samples} samples"
    stored = False
    for name in references.frozen:
        reason = why or _store(name, references, reuse, views=views)
        if reason is None:
            stored = True
        else:
            reuse.say(f"the reference {name} is computed with each batch: {reason}")
    references.repeat(views if stored else 0, order)


def _store(name: str, references: References, reuse: Reuse, *, views: int) -> str | None:
    """Takes a network's rows from the store; why not, where that cannot be."""
    frozen, device = references.frozen[name], reuse.trainer.strategy.root_device
    frozen.network.to(device)

    def attempt() -> tuple[StoredRows | None, str | None]:
        try:
            with reuse.precision():
                frozen.prefix(reuse.first_inputs(2))  # tells the shape
            split, training = reuse.splits.train, reuse.training
            return reuse.rows_at(frozen, frozen.key(), split, training, views=views), None
        except StoreError as reason:
            return None, str(reason)

    rows, why = attempt() if reuse.trainer.is_global_zero else (None, None)
    why = broadcast(why)
    if why is None and rows is None:  # another rank, which finds what rank 0 has computed
        rows, why = attempt()
    if rows is not None:
        references.take(name, rows, device)
    return why
