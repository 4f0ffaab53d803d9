"""`tlx train -m`: the lines that a sweep expands to, against Hydra's own sweeper."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from tlx.config import sweep
from tlx.config.compose import Composer, compose
from tlx.config.problems import CheckError

SWEEPS = [
    ["seed=1"],
    ["seed=1,2,3"],
    ["seed=1, 2 , 3"],
    ["seed=range(5)"],
    ["seed=range(2,8,3)"],
    ["seed=range(5,1,-2)"],
    ["seed=range(start=1,stop=4)"],
    ["optimizer.lr=range(0.1,0.35,0.1)"],
    ["optimizer.lr=choice(0.1,1e-3,5)"],
    ["optimizer.lr=sort(3,1,2)"],
    ["optimizer.lr=sort(3,1,2,reverse=true)"],
    ["optimizer.lr=sort(range(3),reverse=true)"],
    ["optimizer.lr=tag(cheap,choice(0.1,0.2))"],
    ["optimizer.lr=tag(a,b,choice(0.1,0.2))"],
    ["optimizer.lr=float(range(3))"],
    ["optimizer.lr=int(choice(1.5,2.5))"],
    ["name=str(choice(1,2.5,x))"],
    ["name=a,b"],
    ["name='a,b',c"],
    ['name="it\'s",\'a "b"\''],
    ["name='a\\'b',\"\""],
    ["name='',null"],
    ["name=a b,c d"],
    ["name=a\\,b,c"],
    ["name=true,false,null,nan,inf,-1,1e5"],
    ["name=${seed},${optimizer.lr}"],
    ["name='é','ü'"],
    ["optimizer.betas=[0.1,0.2],[0.3,0.4]"],
    ["backbone.kwargs.x={a:1,b:[2,'3']},{a:2}"],
    ["+backbone.kwargs.x='x=1','y:{2}'"],
    ["++backbone.kwargs.x=1,2", "++backbone.kwargs.y=a,b"],
    ["freeze_strategy=full,lp_ft", "seed=range(3)"],
    ["seed=range(3)", "freeze_strategy=full,lp_ft", "optimizer.lr=1e-3"],
    ["backbone=glob(resnet*)"],
    ["backbone=glob([resnet*,vit_*],exclude=*base*)"],
    ["optimizer=glob(*)", "schedule=choice(cosine,constant)"],
    ["regularization=ema,l2_sp"],
    ["regularization=[ema,l2_sp],[ema],[]"],
    ["augmentation=none,mixup", "logger=[csv]"],
    ["experiment=glyphs_pretrain,glyphs_to_digits"],
    ["~regularization.weight_decay", "seed=1,2"],
    ["~optimizer.lr=0.001", "optimizer.lr=1,2"],
    ["seed=1,2", "seed=3"],
    ["seed=3", "seed=1,2"],
    ["seed=1,2", "++seed=3,4"],
    ["dataset.fraction=0.1,0.5", "trainer.steps=10,20", "name=x"],
]
SWEPT_TWICE = ["optimizer.lr=1,2", "seed=range(2)", "freeze_strategy=full,lp_ft"]


@pytest.fixture(scope="module")
def composer():
    return Composer()


def by_hydra(overrides, composer):
    parser = OverridesParser.create(config_loader=composer.loader)
    (batch,) = BasicSweeper.split_arguments(parser.parse_overrides(overrides), None)
    return batch


def refused(overrides, composer, function=sweep.expand):
    with pytest.raises(CheckError) as caught:
        function(overrides, composer)
    return {problem.place: problem for problem in caught.value.problems}


def test_there_are_enough_sweeps():
    assert len(SWEEPS) >= 30


@pytest.mark.parametrize("overrides", SWEEPS, ids=" ".join)
def test_it_expands_as_hydra_does(overrides, composer):
    found = sweep.expand(overrides, composer)
    assert found == by_hydra(overrides, composer)
    assert found


def test_globs_and_ranges_are_what_they_say(composer):
    assert sweep.expand(["backbone=glob(vit_*,exclude=[*dino*,*base*])"], composer) == [
        ["backbone=vit_small"],
        ["backbone=vit_tiny"],
    ]
    assert len(sweep.expand(SWEPT_TWICE, composer)) == 8


def test_shuffling_loses_nothing(composer):
    for text in ("seed=shuffle(range(20))", "seed=shuffle(1,2,3)"):
        found = sweep.expand([text], composer)
        plain = sweep.expand(
            [text.removeprefix("seed=shuffle(").join(["seed=", ""])[:-1]], composer
        )
        assert sorted(found) == sorted(plain)


def test_intervals_are_refused_with_a_hint(composer):
    for text in ("optimizer.lr=interval(0,1)", "optimizer.lr=tag(a,interval(1e-3,1))"):
        message = refused([text, "seed=1,2"], composer)["optimizer.lr"].message
        assert "design=search" in message
        with pytest.raises(HydraException):
            by_hydra([text], composer)


def test_what_stands_for_nothing_is_refused(composer):
    assert "seed" in refused(["seed=range(0)"], composer)
    assert "seed" in refused(["seed=range(0,5,0)"], composer)
    assert "resnet18" in refused(["backbone=glob(resnext*)"], composer)["backbone"].message
    assert "optimizer.lr" in refused(["optimizer.lr=glob(*)"], composer)


@pytest.mark.parametrize("text", ["name=str(range(3))", "name=é,ü", "name=a,", "name=choice()"])
def test_what_hydra_refuses_is_refused(text, composer):
    assert "name" in refused([text], composer)
    with pytest.raises(HydraException):
        by_hydra([text], composer)


def test_all_that_is_wrong_is_told_at_once(composer):
    overrides = ["freeze_strategy=full,lpft", "what", "hydra.job.name=1,2", "x={", "seed=1,2"]
    found = refused(overrides, composer)
    assert set(found) == {"what", "hydra.job.name", "x"}
    found = refused(["freeze_strategy=full,lpft", "seed=interval(1,2)"], composer)
    assert found["freeze_strategy"].suggestion == "lp_ft"
    assert set(found) == {"freeze_strategy", "seed"}


def test_without_m_several_values_are_refused_with_a_hint():
    with pytest.raises(CheckError, match="with -m"):
        compose(["seed=1,2"])


def test_list_groups_sweep_over_lists(composer):
    for text, expected in (
        ("regularization=ema,l2_sp", [["ema"], ["l2_sp"]]),
        ("regularization=[ema,l2_sp],[grad_clip]", [["ema", "l2_sp"], ["grad_clip"]]),
        ("augmentation=none,mixup", [[], ["mixup"]]),
        ("logger=glob(csv*)", [["csv"]]),
    ):
        group = text.partition("=")[0]
        lines = sweep.expand([text], composer)
        assert [list(composer.compose(line)[group]) for line in lines] == expected


def test_factors_are_the_swept_keys_with_their_values(composer):
    overrides = ["freeze_strategy=full,lp_ft", "name='1',1", "++backbone.kwargs.x=[1],{a:null}"]
    overrides += ["optimizer.lr=0.1"]
    lines = sweep.expand(overrides, composer)
    found = sweep.factors(overrides, lines)
    assert found[0] == {"freeze_strategy": "full", "name": "1", "backbone.kwargs.x": [1]}
    assert found[-1] == {"freeze_strategy": "lp_ft", "name": 1, "backbone.kwargs.x": {"a": None}}
    assert len(found) == len(lines) == 8
    shuffled = ["seed=shuffle(range(50))"]
    lines = sweep.expand(shuffled, composer)
    assert [[f"seed={one['seed']}"] for one in sweep.factors(shuffled, lines)] == lines


def test_a_plan_has_the_combinations_as_arms_and_goes_seed_by_seed(composer):
    overrides = ["freeze_strategy=full,lp_ft", "seed=range(2)", "optimizer.lr=0.1,0.2"]
    plan = sweep.plan(overrides, composer)
    names = ["full, lr=0.1", "full, lr=0.2", "lp_ft, lr=0.1", "lp_ft, lr=0.2"]
    assert [arm.name for arm in plan.arms] == names
    assert [(cell.seed, cell.arm) for cell in plan.cells] == [(s, n) for s in (0, 1) for n in names]
    assert plan.arms[1].overrides == ("freeze_strategy=full", "optimizer.lr=0.2")
    assert plan.factors == {"freeze_strategy": ("full", "lp_ft"), "optimizer.lr": (0.1, 0.2)}
    assert (plan.seeds, plan.baseline, plan.metric) == ((0, 1), names[0], "test/accuracy")
    assert {cell.overrides for cell in plan.cells} == {
        tuple(line) for line in sweep.expand(overrides, composer)
    }
    for cell in plan.cells:
        assert cell.config == compose(list(cell.overrides))
        assert cell.config["optimizer"]["lr"] == cell.factors["optimizer.lr"]


def test_seeds_alone_make_one_arm(composer):
    plan = sweep.plan(["seed=range(3)", "optimizer=sgd"], composer)
    assert [arm.name for arm in plan.arms] == ["base"]
    assert plan.seeds == (0, 1, 2)
    assert plan.factors == {}


def test_problems_of_single_combinations_name_them(composer):
    overrides = ["freeze_strategy=full,lp_ft", "freeze_strategy.full_lr_scale=0.5,1"]
    found = refused(overrides, composer, sweep.plan)
    assert len(found) == 2
    assert all("'full, full_lr_scale=" in place for place in found)
    assert set(refused(["seed=1,2", "name=a,b", "optimizer.lrr=1"], composer, sweep.plan)) == {
        "optimizer.lrr"
    }


def test_a_study_is_not_swept(composer):
    found = refused(["experiment=glyphs_to_digits", "seed=1,2"], composer, sweep.plan)
    assert "study.factors" in found["experiment"].message
    plan = sweep.plan(["experiment=glyphs_to_digits", "~study", "seed=1,2"], composer)
    assert len(plan.cells) == 2
