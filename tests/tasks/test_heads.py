"""A head's norm against torch's own, folded into the linear layer, in whole runs."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

import tiny
from texts import alternating
from tlx import cli
from tlx.backbones.backbone import Features
from tlx.config.compose import compose
from tlx.execution import execute, finished
from tlx.results import record
from tlx.tasks import heads
from tlx.tasks.task import Network
from tlx.use.evaluate import evaluate
from tlx.use.export import export

SIZES = ",".join(f"{key}:{value}" for key, value in tiny.ALL["bert"].items())


def normed(width=5, outputs=3):
    torch.manual_seed(0)
    head = heads.LinearHead(width, outputs)
    heads.add_norm(head)
    return head.train()


def features(module, inputs):
    return Features(pooled=module(inputs))


def test_the_norm_is_torchs_batch_norm_and_has_no_parameters():
    """At first with torch's cumulative average, from the tenth batch on with its moving one."""
    head, theirs = normed(), nn.BatchNorm1d(5, momentum=None).train()
    for seed in range(15):
        theirs.momentum = None if seed < 10 else 0.1
        torch.manual_seed(seed)
        pooled = 0.1 * torch.randn(8, 5) + 4
        want = head.linear(theirs(pooled))
        torch.testing.assert_close(head(Features(pooled=pooled)), want)
    want = head.linear(theirs.eval()(pooled))
    torch.testing.assert_close(head.eval()(Features(pooled=pooled)), want)
    assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"]


def test_a_batch_of_one_is_normalised_by_what_was_measured():
    head = normed()
    head(Features(pooled=torch.randn(8, 5)))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    one = torch.randn(1, 5)
    found = head(Features(pooled=one))
    torch.testing.assert_close(found, head.eval()(Features(pooled=one)))
    for name, value in head.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_folded_norm_gives_the_same_outputs():
    network = Network(nn.Linear(4, 5), normed(), features).train()
    for _ in range(20):
        network(torch.randn(16, 4) * 3 + 1)
    plain = Network(network.backbone, heads.LinearHead(5, 3), features).eval()
    plain.load_state_dict(heads.without_norm(network.state_dict()))
    inputs = torch.randn(32, 4)
    torch.testing.assert_close(plain(inputs), network.eval()(inputs), atol=1e-6, rtol=1e-6)


def test_a_state_without_a_norm_stays_as_it_is():
    state = Network(nn.Linear(4, 5), heads.LinearHead(5, 3), features).state_dict()
    assert heads.without_norm(state) == dict(state)


def test_only_a_linear_head_of_pooled_features_takes_a_norm():
    with pytest.raises(ValueError, match=r"regularization\.head_norm .* TokenHead"):
        heads.add_norm(heads.TokenHead(4, 2))


@pytest.fixture
def given(tmp_path):
    """Overrides for short texts of two classes, and a tiny BERT with a normed head."""
    lines = [f"the {['good', 'bad'][i % 2]} cat number {i} sat there" for i in range(60)]
    return [
        *alternating(tmp_path, lines),
        *("trainer=cpu", "trainer.epochs=null", "trainer.steps=8", "trainer.batch_size=8"),
        *("trainer.eval_every_steps=4", "optimizer.lr=0.05", "logger=[csv]"),
        *("backbone=transformers", "backbone.name=bert", "backbone.init=none"),
        *(f"backbone.kwargs={{{SIZES}}}", "regularization=[head_norm]"),
        f"runs_dir={tmp_path / 'runs'}",
    ]


def test_a_normed_head_trains_alone_from_stored_activations_as_from_computed_ones(given, tmp_path):
    found = {}
    for cache in ("auto", "off"):
        overrides = [*given, "freeze_strategy=linear_probe", f"cache={cache}"]
        made = execute.run(compose([*overrides, f"runs_dir={tmp_path / cache}"]))
        folder = tmp_path / cache / made.run
        assert bool(record.read(folder).cached) == (cache == "auto")
        found[cache] = record.read(folder).splits["test"].metrics["loss"].value
        for split, report in evaluate(folder, overrides=[]).items():
            was = record.read(folder).splits[split].metrics["loss"].value
            assert report["metrics"]["loss"]["value"] == pytest.approx(was, abs=1e-6)
    assert found["auto"] == pytest.approx(found["off"], abs=1e-5)


def test_an_exported_run_gives_its_own_logits(given, tmp_path):
    made = execute.run(compose(given))
    folder = tmp_path / "runs" / made.run
    export(folder, into=tmp_path / "out")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    _, ours = finished.load(folder)
    ours.network.eval()
    assert float(ours.network.head.norm.running_var.sub(1).abs().max()) > 0.01
    inputs = tiny.batch(ours.backbone.reads, [9, 4])
    with torch.no_grad():
        torch.testing.assert_close(theirs(**inputs).logits, ours.network(inputs), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["frozen.norm_stats=freeze"], "frozen.norm_stats=freeze"),
        (["optimizer=lbfgs", "freeze_strategy=linear_probe"], "head_norm"),
    ],
)
def test_what_would_leave_the_norm_without_statistics_is_refused(overrides, message, given, capsys):
    assert cli.main(["train", *given, *overrides]) != 0
    assert message in capsys.readouterr().err
