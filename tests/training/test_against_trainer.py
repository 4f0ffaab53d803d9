"""A run against transformers' own Trainer: same network, texts and settings, step by step.

The Trainer reads raw texts with the exported tokenizer, and pads, averages, decays, clips and
schedules by itself; only the order of the items is that of the run.
"""

import csv

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

import launching
import tiny
from tlx.backbones.export.networks import export
from tlx.building import plans
from tlx.config.compose import compose
from tlx.config.identity import normalise
from tlx.config.run import typed
from tlx.execution import execute
from tlx.results import record

STEPS, WARMUP, BATCH, BLOCK = 50, 10, 8, 32
LR, DECAY, CLIP = 0.01, 0.05, 0.9
EPS = 1e-5
"""With Adam's 1e-8, a gradient that is zero but for rounding moves its weight by a whole step."""
BASE = [
    *("dataset=stdlib_docs", "backbone=transformers", "backbone.init=none", "backbone.dropout=0"),
    *("backbone.vocabulary_size=500", "trainer=cpu", "trainer.epochs=null"),
    *(f"trainer.steps={STEPS}", f"trainer.batch_size={BATCH}", "trainer.log_every_steps=1"),
    *(f"trainer.eval_every_steps={STEPS}", "final_weights=last", "optimizer=adamw"),
    f"optimizer.eps={EPS}",
    *(f"optimizer.lr={LR}", "schedule=linear", "schedule.warmup_fraction=0"),
    *(f"schedule.warmup_steps={WARMUP}", "regularization=[weight_decay,grad_clip]"),
    *(f"regularization.weight_decay.value={DECAY}", f"regularization.grad_clip.max_norm={CLIP}"),
]
TOPIC = [*tiny.overrides("bert"), "dataset.labels_per_class=6"]
CASES = {
    "topic": TOPIC,
    "topic_last_k": [*TOPIC, "freeze_strategy=last_k", "freeze_strategy.k=1"],
    "topic_freeze_first_k": [*TOPIC, "freeze_strategy=freeze_first_k"],
    "tags": [
        *tiny.overrides("bert"),
        *("dataset.about=tags", "task=token_classification", "dataset.fraction=0.02"),
    ],
    "language": [
        *tiny.overrides("llama"),
        *("dataset.about=language", "dataset.of=topic", "task=language_modeling"),
        *(f"task.block={BLOCK}", "dataset.fraction=0.02"),
    ],
}
USUAL = {"topic_last_k"}
FROZEN = {
    "topic_last_k": ("bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1."),
    "topic_freeze_first_k": ("bert.embeddings.",),
}
FORMS = {
    "pooled": AutoModelForSequenceClassification,
    "word": AutoModelForTokenClassification,
    "token": AutoModelForCausalLM,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[] if c in USUAL else pytest.mark.slow) for c in CASES],
)
def test_losses_and_weights_are_the_trainers(case, tmp_path):
    config = normalise(compose([*BASE, *CASES[case], f"runs_dir={tmp_path / 'runs'}"]))
    plan = plans.plan(typed(config), init="none")
    start = exported(plan, plan.model.network.state_dict(), tmp_path / "start")
    trainer = reference(config, plan, start, frozen=FROZEN.get(case, ()))
    folder = tmp_path / "runs" / execute.run(config).run
    trainer.train()
    told = [row for row in trainer.state.log_history if "loss" in row]
    assert min(row["grad_norm"] for row in told) < CLIP < max(row["grad_norm"] for row in told)
    mine, theirs = losses(folder), [row["loss"] for row in told]
    assert len(mine) == len(theirs) == STEPS
    assert mine == pytest.approx(theirs, rel=0, abs=1e-5)
    assert sum(mine[-10:]) < sum(mine[:10]), "nothing has been learnt"
    if case in FROZEN:
        assert record.read(folder).stages[0].computed > 0, "the boundary has not been stored"
    end = exported(plan, launching.weights(folder), tmp_path / "end")
    same_weights(start, end, trainer.model, frozen=FROZEN.get(case, ()))


def exported(plan, state, folder):
    """A folder that transformers loads, of weights of the run's network."""
    spec = plan.model.backbone.reads
    names = plan.splits.labels.names
    facts = plan.model.backbone.export
    return export(state, folder, facts=facts, class_names=names, reads=spec)


def losses(folder):
    """Training loss of each step, of a run that logs each."""
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def reference(config, plan, folder, *, frozen):
    """The library's Trainer on its own network, tokenizer and batches."""
    unit = plan.model.backbone.reads.unit
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = FORMS[unit].from_pretrained(folder)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    order = plan.order
    positions = [item for step in range(STEPS) for item in order.batch_at(step)[1]]
    items = ITEMS[unit](plan.splits.train.raw, tokenizer)
    collator = DataCollatorWithPadding if unit == "pooled" else DataCollatorForTokenClassification
    trainer = Trainer(
        model=network,
        args=TrainingArguments(
            output_dir=str(folder / "trainer"),
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            train_sampling_strategy="sequential",
            learning_rate=LR,
            weight_decay=DECAY,
            max_grad_norm=CLIP,
            adam_epsilon=EPS,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=[items[position] for position in positions],
        data_collator=collator(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    # Its warm-up begins with a step of rate 0; ours is the same line without that step.
    optimizer = trainer.create_optimizer()
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    trainer.lr_scheduler = get_linear_schedule_with_warmup(
        optimizer, WARMUP + 1, STEPS + 1, last_epoch=0
    )
    return trainer


def texts(split, tokenizer):
    """Texts and their classes."""
    found = (split[index] for index in range(len(split)))
    return [
        {**tokenizer(item["input"], truncation=True), "labels": item["target"]} for item in found
    ]


def words(split, tokenizer):
    """Words and their tags, each at its first token."""
    found = []
    for index in range(len(split)):
        encoding = tokenizer(split[index]["input"], is_split_into_words=True, truncation=True)
        places = encoding.word_ids()
        first = [place is not None and place not in places[:i] for i, place in enumerate(places)]
        tags = split[index]["target"]
        labels = [tags[w] if asked else -100 for w, asked in zip(places, first, strict=True)]
        found.append({**encoding, "labels": labels})
    return found


def windows(split, tokenizer):
    """Pieces of texts between end tokens; the last token of each is the first of the next."""
    found, end = [], tokenizer.eos_token_id
    for index in range(len(split)):
        own = tokenizer(split[index]["input"], add_special_tokens=False)["input_ids"]
        ids = [end, *own, end]
        for start in range(0, len(ids) - 1, BLOCK):
            piece = ids[start : start + BLOCK + 1]
            found.append({"input_ids": piece, "attention_mask": [1] * len(piece), "labels": piece})
    return found


ITEMS = {"pooled": texts, "word": words, "token": windows}


def same_weights(start, end, theirs, *, frozen):
    """Frozen ones have not moved by a bit; others are where the Trainer's are, up to rounding."""
    first, mine = (type(theirs).from_pretrained(f).state_dict() for f in (start, end))
    assert theirs.state_dict().keys() == mine.keys()
    for name, value in theirs.state_dict().items():
        if name.startswith(frozen):
            assert torch.equal(mine[name], first[name]), name
            assert torch.equal(value, first[name]), name
        elif not no_gradient(name):
            assert not torch.equal(mine[name], first[name]), name
            torch.testing.assert_close(mine[name], value, rtol=0, atol=1e-4, msg=name)


def no_gradient(name):
    """Biases of keys move no output: their gradients are rounding, of which Adam makes steps."""
    return name.endswith("attention.self.key.bias")
