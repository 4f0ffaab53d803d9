"""Twelve small runs over the engine's paths: `python runs.py FOLDER [NAME...]` trains them there.

Run by the tests, and by `compare.py` with the tlx of a recorded commit and with today's. So it uses
nothing of tlx but `compose`, `run`, `study` and the files that a run leaves.
"""

import hashlib
import json
import os
import random
import sys
from pathlib import Path

IMAGES = (
    *("dataset=digits", "dataset.labels_per_class=4", "backbone=timm", "backbone.init=none"),
    *("backbone.name=test_resnet", "backbone.image_size=32"),
)
TRAINER = (
    *("trainer=cpu", "trainer.epochs=null", "trainer.steps=6", "trainer.batch_size=8"),
    *("trainer.eval_every_steps=3", "logger=[csv]"),
)
SGD = ("optimizer=sgd", "optimizer.lr=0.01")
SIZES = "{hidden_size:16,num_hidden_layers:2,num_attention_heads:2,intermediate_size:32}"
BERT = (
    *("backbone=transformers", "backbone.name=bert", "backbone.init=none"),
    *(f"backbone.kwargs={SIZES}", "backbone.vocabulary_size=120"),
)
GPT2 = (
    *("backbone=transformers", "backbone.name=gpt2", "backbone.init=none"),
    "backbone.kwargs={n_embd:16,n_layer:2,n_head:2}",
)
RUNS: dict[str, tuple[str, ...]] = {
    "images": (*IMAGES, "augmentation=[standard]"),
    "texts": (*BERT, "dataset=text_csv", "dataset.path=texts.csv"),
    "tokens": (*BERT, "dataset=conll", "dataset.root=tags"),
    "language": (*GPT2, "dataset=text_file", "dataset.path=book.txt", "task.block=32"),
    "lora": (*IMAGES, "backbone.name=test_vit", "backbone.image_size=null", "freeze_strategy=lora"),
    "gradual": (*IMAGES, "freeze_strategy=gradual", "final_weights=last", "trainer.steps=15"),
    "ema": (*IMAGES, "regularization=[ema]"),
    "accumulate": (*IMAGES, "trainer.accumulate=2", "trainer.batch_size=16"),
    "stored": (*IMAGES, "freeze_strategy=linear_probe"),
    "stack": (*IMAGES, "freeze_strategy=linear_probe"),
    "lbfgs": (
        *(*IMAGES, "freeze_strategy=linear_probe", "optimizer=lbfgs"),
        "optimizer.penalties=[0.01]",
    ),
    "ranks": (*IMAGES, "trainer.devices=2", "trainer.strategy=ddp"),
}
"""Name to overrides. Stages and weights as no change of a config's meaning concerns them."""


def write_data(folder: Path) -> None:
    """Texts of two classes, tagged words and a book (writes files)."""
    draw = random.Random(0)
    words = [f"{a}{b}" for a in "bdfgkl" for b in ("ar", "en", "io", "um")]
    lines = ["text,label"]
    for n in range(60):
        side = words[:14] if n % 2 else words[10:]
        lines.append(f"{' '.join(draw.choices(side, k=6))},{'first' if n % 2 else 'second'}")
    (folder / "texts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tags").mkdir(exist_ok=True)
    for split, count in (("train", 24), ("dev", 10), ("test", 10)):
        rows = []
        for _ in range(count):
            picked = draw.choices(words, k=5)
            rows += [f"{word} {'B-X' if word[0] in 'bd' else 'O'}" for word in picked] + [""]
        (folder / "tags" / f"{split}.txt").write_text("\n".join(rows), encoding="utf-8")
    book = " ".join(draw.choices(words, k=1500))
    (folder / "book.txt").write_text(book, encoding="utf-8")


def figures_of(folder: Path) -> dict[str, float]:
    """Each figure of a run's record, by `split/metric`."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return {
        f"{split}/{name}": metric["value"]
        for split, of in record["splits"].items()
        for name, metric in of["metrics"].items()
    }


def digest_of(folder: Path) -> str:
    """A hash of every bit of a run's weights, whatever the file says besides."""
    from safetensors.torch import load_file

    total = hashlib.sha256()
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().view(-1).numpy().tobytes())
    return total.hexdigest()


def train(name: str) -> list[Path]:
    """Trains one of the runs in the working folder; the folders of what was trained."""
    import tlx

    own = RUNS[name]
    descent = () if "optimizer=lbfgs" in own else SGD
    overrides = [*TRAINER, *descent, *own, f"runs_dir={name}"]
    if name == "stack":
        from tlx.cli import main

        main(["train", "-m", *overrides, "optimizer.lr=0.01,0.02"])
    else:
        tlx.run(tlx.compose(overrides))
    return sorted(path.parent for path in Path(name).glob("*/record.json"))


def main(folder: Path, names: list[str]) -> None:
    """Trains the runs in a folder and writes golden.json there: ids, figures, digests."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    write_data(Path())
    results = {}
    for name in names or list(RUNS):
        for run in train(name):
            facts = {"id": run.name, "figures": figures_of(run), "weights": digest_of(run)}
            results[f"{name}/{len([k for k in results if k.startswith(name + '/')])}"] = facts
    Path("golden.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
