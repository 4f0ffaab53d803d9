"""Batches of texts of like length, against batches in random order, padded to their longest.

Run: python -m benchmarks.texts   (about 2 minutes on two cores)
"""

import math
import time

import torch
from torch.nn import functional

from benchmarks import pairs
from tlx.backbones.backbone import Wanted
from tlx.backbones.transformers.text import transformers
from tlx.data.text.inputs import padded
from tlx.methods.order import Order

ITEMS, BATCH, LONGEST = 4096, 32, 256
BERT = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "max_position_embeddings": 512, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def corpus() -> list[torch.Tensor]:
    """Texts whose lengths are log-normal, cut off: many short ones, few long ones."""
    generator = torch.Generator().manual_seed(0)
    lengths = (20 * torch.randn(ITEMS, generator=generator).exp()).clamp(3, LONGEST).int().tolist()
    return [torch.randint(5, 200, (length,), generator=generator) for length in lengths]


def network() -> tuple[torch.nn.Module, torch.nn.Linear]:
    """A small BERT and a head."""
    torch.manual_seed(0)
    words = " ".join(f"w{i}" for i in range(300))
    wanted = Wanted(corpus=lambda: [words])
    backbone = transformers(wanted, name="bert", init="none", vocabulary="words", kwargs=BERT)
    return backbone.module, torch.nn.Linear(64, 2)


def batch_of(texts: list[torch.Tensor], items: list[int]) -> dict[str, torch.Tensor]:
    """Padded inputs."""
    ids = [texts[item] for item in items]
    mask = padded([torch.ones(len(each), dtype=torch.bool) for each in ids], False, left=False)
    padded_ids = padded(ids, 0, left=False)
    kinds = torch.zeros_like(padded_ids)
    return {"input_ids": padded_ids, "attention_mask": mask, "token_type_ids": kinds}


def padding(order: Order, lengths: list[int]) -> float:
    """Share of an epoch's tokens that stand for nothing."""
    batches = [order.batch_at(step)[1] for step in range(ITEMS // BATCH)]
    every = sum(len(items) * max(lengths[i] for i in items) for items in batches)
    return 1 - sum(lengths[i] for items in batches for i in items) / every


def epoch_s(order: Order, texts: list[torch.Tensor]) -> float:
    """Seconds of an epoch of training."""
    trunk, head = network()
    stepper = torch.optim.AdamW([*trunk.parameters(), *head.parameters()], lr=1e-4, fused=True)
    targets = torch.arange(ITEMS) % 2
    started = time.perf_counter()
    for step in range(ITEMS // BATCH):
        _, items = order.batch_at(step)
        loss = functional.cross_entropy(head(trunk(batch_of(texts, items))), targets[items])
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    return time.perf_counter() - started


def losses(order: Order, texts: list[torch.Tensor]) -> torch.Tensor:
    """Loss of each item that an epoch trains on, without training."""
    trunk, head = network()
    trunk.eval()
    found = torch.full((ITEMS,), math.nan)
    with torch.no_grad():
        for step in range(ITEMS // BATCH):
            _, items = order.batch_at(step)
            outputs = head(trunk(batch_of(texts, items)))
            targets = torch.tensor(items) % 2
            found[items] = functional.cross_entropy(outputs, targets, reduction="none")
    return found


def main() -> None:
    """Prints all lines."""
    torch.set_num_threads(2)
    texts = corpus()
    lengths = [len(text) for text in texts]
    plain = Order(ITEMS, batch_size=BATCH, seed=0)
    sorted_ = Order(ITEMS, batch_size=BATCH, seed=0, lengths=lengths)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, order in (("random", plain), ("by length", sorted_)):
        print(f"padding, {name}: {padding(order, lengths):.3f} of tokens")
    difference = float((losses(plain, texts) - losses(sorted_, texts)).abs().max())
    print(f"largest difference of an item's loss: {difference:.1e}")
    found = pairs.ratios(lambda: epoch_s(plain, texts), lambda: epoch_s(sorted_, texts), pairs=7)
    print(pairs.summary("epoch, random / by length", found, least=1.5))


if __name__ == "__main__":
    main()
