"""Every freeze strategy gives stages that fit every network and every budget."""

import ast
import inspect
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from torch import nn

from tlx.methods import adapters, strategies
from tlx.methods.stages import Group, Layout, Stage, check, layout_of, spans

CONF = Path(__file__).parents[2] / "conf" / "freeze_strategy"
GROUPS = (
    Group("stem", ("b.conv.weight", "b.bn.weight", "b.bn.bias"), 0),
    Group("layer1", ("b.layer1.weight", "b.layer1.bias"), 1),
    Group("layer2", ("b.layer2.weight", "b.layer2.bias", "b.norm.weight"), 2),
    Group("head", ("head.weight", "head.bias"), 3),
)
LAYOUT = Layout(
    GROUPS,
    GROUPS,
    neck=("b.norm.weight",),
    norms=("b.bn.weight", "b.bn.bias", "b.norm.weight"),
    embeddings=("b.conv.weight",),
)
HEAD = set(GROUPS[-1].parameters)
NAMES = set(LAYOUT.names)


def options(module=strategies, count=16):
    every = {path.stem: yaml.safe_load(path.read_text()) for path in CONF.glob("*.yaml")}
    start = f"{module.__name__}."
    found = {name: node for name, node in every.items() if node["_target_"].startswith(start)}
    assert len(found) == count
    return found


def test_strategies_of_adapters_have_options_and_train_adapters_and_head():
    for name, node in options(adapters, 6).items():
        function = getattr(adapters, node.pop("_target_").rpartition(".")[2])
        assert function.__name__ == name
        assert node == function.__kwdefaults__
        with pytest.raises(ValueError, match="has no adapters"):
            function(LAYOUT, **node)
        own = GROUPS[0].parameters[:1]
        (stage,) = function(replace(LAYOUT, adapters=own), **node)
        assert set(stage.trains) == {*own, *HEAD}


def made(name, layout=LAYOUT, **keywords):
    return getattr(strategies, name)(layout, **keywords)


def trained(stages):
    return [set(stage.trains) for stage in stages]


@pytest.mark.parametrize("option", options().items(), ids=lambda item: item[0])
def test_every_option_fits_networks_of_any_depth_and_any_budget(option):
    name, node = option
    module, _, function = node.pop("_target_").rpartition(".")
    assert (module, function) == ("tlx.methods.strategies", name)
    for layout in (LAYOUT, replace(LAYOUT, groups=(GROUPS[0], GROUPS[-1]))):
        stages = made(name, layout, **node)
        check(stages, layout)
        for total in (30, 31, 1000):
            placed = spans(stages, total_steps=total, steps_per_epoch=7)
            assert (placed[0].start, placed[-1].end) == (0, total)
        order = list(layout.names)
        for stage in stages:
            assert list(stage.trains) == sorted(stage.trains, key=order.index)


def test_every_strategy_has_an_option_and_no_catch_all():
    source = ast.parse(inspect.getsource(strategies))
    public = {
        f.name: f
        for f in source.body
        if isinstance(f, ast.FunctionDef) and not f.name.startswith("_")
    }
    helper = public.pop("with_modes")
    assert helper
    assert set(public) == set(options())
    for function in public.values():
        assert [a.arg for a in function.args.args] == ["layout"]
        assert function.args.kwarg is None


@pytest.mark.parametrize(
    ("name", "keywords", "below_head"),
    [
        ("scratch", {}, NAMES - HEAD),
        ("full", {}, NAMES - HEAD),
        ("linear_probe", {}, set()),
        ("last_layer", {}, {"b.norm.weight"}),
        ("last_k", {"k": 1}, set(GROUPS[2].parameters)),
        ("last_k", {"k": 3}, NAMES - HEAD),
        ("freeze_first_k", {"k": 1}, NAMES - HEAD - set(GROUPS[0].parameters)),
        ("freeze_first_k", {"k": 3}, set()),
        ("surgical", {"first": "layer1"}, set(GROUPS[1].parameters)),
        ("surgical", {"first": -2, "last": -1}, NAMES - HEAD - set(GROUPS[0].parameters)),
        ("pattern", {"patterns": [r"b\.layer.*weight"]}, {"b.layer1.weight", "b.layer2.weight"}),
        ("norm_only", {}, set(LAYOUT.norms)),
        ("bitfit", {}, {"b.bn.bias", "b.layer1.bias", "b.layer2.bias"}),
    ],
)
def test_what_single_stages_train(name, keywords, below_head):
    (stage,) = made(name, **keywords)
    assert set(stage.trains) == below_head | HEAD
    assert set(stage.trains.values()) == {1.0}


@pytest.mark.parametrize(
    ("name", "keywords"),
    [("surgical", {}), ("pattern", {"patterns": ["b.*"]}), ("norm_only", {}), ("bitfit", {})],
)
def test_the_head_stays_out_only_when_asked(name, keywords):
    assert made(name, **keywords)[0].trains.keys() >= HEAD
    assert not made(name, head=False, **keywords)[0].trains.keys() & HEAD


def test_gradual_thaws_one_group_a_stage_from_the_top():
    stages = made("gradual")
    assert [stage.name for stage in stages] == ["head", "layer2+", "layer1+", "all"]
    counted = [{n for g in GROUPS[3 - p :] for n in g.parameters} for p in range(4)]
    assert trained(stages) == counted
    placed = spans(stages, total_steps=60, steps_per_epoch=4)
    assert [span.start for span in placed] == [0, 10, 20, 30]


def test_chain_thaw_trains_each_group_alone_then_all():
    stages = made("chain_thaw", every_steps=2)
    alone = [set(group.parameters) for group in GROUPS]
    assert trained(stages) == [alone[3], alone[0], alone[1], alone[2], NAMES]
    assert all(names >= HEAD for names in trained(made("chain_thaw", head=True)))


def test_lp_ft_lowers_the_rate_of_the_second_stage():
    first, second = made("lp_ft", full_lr_scale=0.2, plateau=3, restore_best=True)
    assert (set(first.trains), set(second.trains)) == (HEAD, NAMES)
    assert set(second.trains.values()) == {0.2}
    assert (first.until.plateau, first.restore_best) == (3, True)
    assert not second.restore_best


def test_freeze_unfreeze_spreads_rates_geometrically():
    first, second = made("freeze_unfreeze", lr_mult=1000.0)
    assert set(first.trains) == HEAD | set(LAYOUT.norms)
    assert first.trains["b.bn.weight"] == pytest.approx(0.1)
    rates = [second.trains[group.parameters[0]] for group in GROUPS]
    assert rates == pytest.approx([0.0005, 0.005, 0.05, 0.5])
    assert set(made("freeze_unfreeze", train_norms=False)[0].trains) == HEAD


def test_freezeout_freezes_each_group_when_its_cosine_ends():
    stages = made("freezeout", t0=0.8)
    ends = [(0.8 + 0.2 * depth / 3) ** 3 for depth in range(4)]
    total = 1000
    for depth, span in enumerate(spans(stages, total_steps=total, steps_per_epoch=9)):
        assert span.end == round(ends[depth] * total)
        assert set(span.stage.trains) == {n for g in GROUPS[depth:] for n in g.parameters}
        assert span.stage.anneal.keys() == span.stage.trains.keys()
        for name, scale in span.stage.trains.items():
            assert scale * span.stage.anneal[name] == pytest.approx(1)  # equal distance in all
    assert set(made("freezeout", scale_lr=False)[0].trains.values()) == {1.0}


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("last_k", {"k": 4}, "k=4; the network has 3 layer groups below its head"),
        ("last_k", {"k": 0}, "k=0"),
        ("freeze_first_k", {"k": 4}, "stem, layer1, layer2"),
        ("surgical", {"first": "layr1"}, "no layer group; give one of stem, layer1, layer2"),
        ("surgical", {"first": 3}, "first=3"),
        ("surgical", {"first": 2, "last": 0}, "lies below"),
        ("pattern", {"patterns": [r"haed\..*"]}, r"'haed\\\\..\*' matches no parameter; names"),
        ("pattern", {"patterns": []}, "at least one pattern"),
        ("pattern", {"patterns": ["b.*"], "lr_scales": [1, 2]}, "a scale for each"),
        ("pattern", {"patterns": ["b.*"], "lr_scales": [-1]}, "by -1"),
        ("lp_ft", {"head_epochs": 1, "head_steps": 2}, "head_epochs=1 and head_steps=2"),
        ("lp_ft", {"full_lr_scale": 0}, "by 0"),
        ("gradual", {"every_fraction": 0.1, "every_steps": 2}, "keep one"),
        ("freeze_unfreeze", {"lr_mult": 0}, "lr_mult=0"),
        ("discriminative", {"decay": 0}, "decay=0"),
        ("freezeout", {"t0": 1.0}, "t0=1.0"),
        ("freezeout", {"how": "square"}, "how='square'"),
    ],
)
def test_refused(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        made(name, **keywords)


@pytest.mark.parametrize("name", ["norm_only", "bitfit"])
def test_a_network_without_what_is_asked_for_is_refused(name):
    bare = (Group("stem", ("b.weight",), 0), Group("head", ("head.weight", "head.bias"), 1))
    with pytest.raises(ValueError, match=f"{name}: the network has no"):
        made(name, Layout(bare, bare))


def test_the_first_pattern_that_matches_decides_the_scale():
    rules = [r".*bias", r"b\..*"]
    (stage,) = made("pattern", patterns=rules, lr_scales=[0.5, 0.1])
    assert stage.trains["b.layer1.bias"] == 0.5
    assert stage.trains["b.layer1.weight"] == 0.1
    assert stage.trains["head.bias"] == 0.5
    assert stage.trains["head.weight"] == 1.0


def modes(name, keywords=None, **policies):
    return strategies.with_modes(made(name, **(keywords or {})), LAYOUT, **policies)


@pytest.mark.parametrize("name", options())
def test_modes_that_follow_change_nothing(name):
    node = options()[name]
    node.pop("_target_")
    stages = made(name, **node)
    assert strategies.with_modes(stages, LAYOUT) == stages


def test_modes_freeze_and_train_in_every_stage():
    for stage in modes("gradual", norm_affine="train"):
        assert stage.trains.keys() >= set(LAYOUT.norms)
    for stage in modes("gradual", norm_affine="freeze", embeddings="freeze"):
        assert not stage.trains.keys() & {*LAYOUT.norms, *LAYOUT.embeddings}
        assert stage.trains.keys() >= HEAD
    (probe,) = modes("linear_probe", embeddings="train")
    assert set(probe.trains) == HEAD | set(LAYOUT.embeddings)


def test_modes_keep_scales_and_drop_stale_anneals():
    for stage in modes("freezeout", norm_affine="freeze"):
        assert stage.anneal.keys() == stage.trains.keys()
    kept = modes("discriminative", norm_affine="train")[0]
    assert kept == made("discriminative")[0]


def test_a_norm_of_the_embeddings_heeds_the_norms():
    layout = replace(LAYOUT, embeddings=("b.conv.weight", "b.bn.weight"))
    full = made("full", layout)
    found = strategies.with_modes(full, layout, norm_affine="train", embeddings="freeze")
    assert "b.bn.weight" in found[0].trains
    assert "b.conv.weight" not in found[0].trains
    found = strategies.with_modes(full, layout, norm_affine="freeze", embeddings="train")
    assert "b.bn.weight" not in found[0].trains


def test_norms_of_the_head_are_never_frozen():
    layout = replace(LAYOUT, norms=(*LAYOUT.norms, "head.weight"))
    (stage,) = strategies.with_modes(made("full"), layout, norm_affine="freeze")
    assert "head.weight" in stage.trains


def test_modes_that_leave_nothing_are_refused():
    stages = (Stage("norms", {"b.bn.weight": 1.0}),)
    with pytest.raises(ValueError, match="trains nothing"):
        strategies.with_modes(stages, LAYOUT, norm_affine="freeze")
    with pytest.raises(ValueError, match="norm_affine='frozen'"):
        strategies.with_modes(stages, LAYOUT, norm_affine="frozen")


def test_strategies_and_schedules_need_no_torch():
    code = (
        "import sys, tlx.methods.strategies, tlx.methods.schedules, tlx.methods.stopping\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONF.parents[1])


def test_gradual_may_slow_each_group_below() -> None:
    layout = layout_of({"a": ["a.w"], "b": ["b.w"], "c": ["c.w"], "head": ["head.w"]})
    rates = [stage.trains for stage in strategies.gradual(layout, decay=2.0)]
    assert rates[0] == {"head.w": 1.0}
    assert rates[1] == {"c.w": 0.5, "head.w": 1.0}
    assert rates[-1] == {"a.w": 0.125, "b.w": 0.25, "c.w": 0.5, "head.w": 1.0}
    assert rates[-1] == strategies.discriminative(layout, decay=2.0)[0].trains
    with pytest.raises(ValueError, match="decay=0"):
        strategies.gradual(layout, decay=0.0)


@pytest.mark.parametrize("count", range(2, 7))
def test_gradual_in_fewer_stages_thaws_several_groups_at_once(count: int) -> None:
    layout = layout_of({f"g{i}": [f"g{i}.weight"] for i in range(5)} | {"head": ["head.weight"]})
    stages = strategies.gradual(layout, stages=count)
    assert len(stages) == count
    assert set(stages[0].trains) == {"head.weight"}
    assert set(stages[-1].trains) == set(layout.names)
    for before, after in pairwise(stages):
        assert set(before.trains) < set(after.trains)
    with pytest.raises(ValueError, match="2 to 6"):
        strategies.gradual(layout, stages=7)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.MultiheadAttention(4, 2), {"in_proj_bias", "out_proj.bias"}),
        (nn.LSTM(2, 3), {"bias_ih_l0", "bias_hh_l0"}),
    ],
)
def test_bitfit_knows_biases_by_any_of_torchs_names(network, expected):
    groups = (
        Group("trunk", tuple(name for name, _ in network.named_parameters()), 0),
        Group("head", ("head.weight", "head.bias"), 1),
    )
    (stage,) = strategies.bitfit(Layout(groups, groups))
    assert set(stage.trains) == expected | HEAD
