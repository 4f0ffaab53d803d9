"""Studies: the arms of each design, their names and runs, and every mistake told before a start."""

import ast
import inspect

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tlx.config import design
from tlx.config.arms import Arm, expand, shown
from tlx.config.compose import Composer, compose
from tlx.config.identity import essence, run_id
from tlx.config.overrides import parsed
from tlx.config.problems import CheckError

BASE = {
    "defaults": [
        {"override /backbone": "resnet10t"},
        {"override /regularization": ["weight_decay", "ema", "l2_sp"]},
        {"override /augmentation": ["mixup"]},
    ],
    "backbone": {"image_size": 32, "init": "none", "kwargs": {"x": [1, 2, 3]}},
    "dataset": {"labels_per_class": 10},
    "optimizer": {"lr": 0.002},
    "seed": 7,
}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "experiment").mkdir()
    return folder


@pytest.fixture
def plan(own):
    """Plans a study: its node in a file, beside BASE, and what the line adds."""

    def planned(study, *overrides):
        (own / "experiment" / "it.yaml").write_text(
            yaml.safe_dump({**BASE, "study": study}, sort_keys=False)
        )
        return design.plan(["experiment=it", *overrides], Composer(own))

    return planned


@pytest.fixture
def refused(plan):
    def problems(study, *overrides):
        with pytest.raises(CheckError) as caught:
            plan(study, *overrides)
        return {problem.place: problem for problem in caught.value.problems}

    return problems


def names(plan):
    return [arm.name for arm in plan.arms]


# -- designs -------------------------------------------------------------------------------------


def test_explicit_arms(plan):
    arms = {"scratch": ["freeze_strategy=scratch"], "full": [], "lp_ft": ["freeze_strategy=lp_ft"]}
    made = plan({"arms": arms, "seeds": [0, 1]})
    assert made.design == "arms"
    assert made.arms == tuple(Arm(name, tuple(lines)) for name, lines in arms.items())
    assert (made.baseline, made.metric, made.factors) == ("scratch", "test/accuracy", {})
    assert plan({"arms": arms, "seeds": [0], "baseline": "full"}).baseline == "full"


def test_grid_is_every_combination(plan):
    made = plan(
        {
            "factors": {"freeze_strategy": ["full", "lp_ft"], "dataset.labels_per_class": [1, 10]},
            "seeds": [0],
        }
    )
    assert made.design == "grid"
    assert names(made) == [
        "full, labels_per_class=1",
        "full, labels_per_class=10",
        "lp_ft, labels_per_class=1",
        "lp_ft, labels_per_class=10",
    ]
    last = made.arms[-1]
    assert last.overrides == ("freeze_strategy=lp_ft", "dataset.labels_per_class=10")
    assert last.factors == {"freeze_strategy": "lp_ft", "dataset.labels_per_class": 10}
    assert made.factors == {
        "freeze_strategy": ("full", "lp_ft"),
        "dataset.labels_per_class": (1, 10),
    }
    assert len({run_id(cell.config) for cell in made.cells}) == 4


def test_levels_may_bundle_overrides(plan):
    pace = {"short": ["trainer.steps=10"], "long": ["trainer.steps=99", "optimizer.lr=0.5"]}
    strategies = {
        "soft": ["freeze_strategy=lp_ft", "freeze_strategy.full_lr_scale=0.1"],
        "hard": ["freeze_strategy=full"],
    }
    made = plan({"factors": {"pace": pace, "freeze_strategy": strategies}, "seeds": [0]})
    expected = ["pace=short, soft", "pace=short, hard", "pace=long, soft", "pace=long, hard"]
    assert names(made) == expected
    assert made.arms[2].overrides == (*pace["long"], *strategies["soft"])
    assert made.arms[2].factors == {"pace": "long", "freeze_strategy": "soft"}
    assert made.cells[2].config["trainer"]["steps"] == 99


def test_one_at_a_time_changes_one_factor_of_the_base(plan):
    factors = {
        "freeze_strategy": ["lp_ft", "full"],
        "dataset.labels_per_class": [1, 10, 100],
        "regularization": [["weight_decay", "ema", "l2_sp"], [], ["ema"]],
        "trainer.precision": [32, "bf16-mixed"],
    }
    made = plan({"design": "one_at_a_time", "factors": factors, "seeds": [0]})
    assert names(made) == [
        "base",
        "lp_ft",
        "labels_per_class=1",
        "labels_per_class=100",
        "none",
        "ema",
        "precision=bf16-mixed",
    ]
    base = {
        "freeze_strategy": "full",
        "dataset.labels_per_class": 10,
        "regularization": ["weight_decay", "ema", "l2_sp"],
        "trainer.precision": 32,
    }
    assert made.baseline == "base"
    assert made.arms[0] == Arm("base", (), base)
    for arm in made.arms[1:]:
        assert sum(arm.factors[key] != base[key] for key in base) == 1
        assert len(arm.overrides) == 1
    different = {run_id(cell.config) for cell in made.cells}
    assert len(different) == len(made.arms)


def test_one_at_a_time_finds_the_bases_own_label(plan):
    factors = {
        "pace": {"slow": ["optimizer.lr=0.002"], "fast": ["optimizer.lr=0.1"]},
        "shot": {"ten": [], "one": ["dataset.labels_per_class=1"]},
    }
    made = plan({"design": "one_at_a_time", "factors": factors, "seeds": [0, 1]})
    assert names(made) == ["base", "pace=fast", "shot=one"]
    assert made.arms[0].factors == {"pace": "slow", "shot": "ten"}
    assert made.arms[2].factors == {"pace": "slow", "shot": "one"}
    assert made.factors == {"pace": ("slow", "fast"), "shot": ("ten", "one")}
    assert {cell.arm for cell in made.cells} == set(names(made))
    assert all(
        cell.factors == dict(zip(names(made), made.arms, strict=True))[cell.arm].factors
        for cell in made.cells
    )


def test_leave_one_out_takes_elements_away_and_keeps_the_others_values(plan):
    made = plan(
        {
            "design": "leave_one_out",
            "factors": {"regularization": ["weight_decay", "ema"], "augmentation": ["mixup"]},
            "seeds": [0],
        },
        "regularization.weight_decay.value=0.3",
        "regularization.ema.decay=0.9",
    )
    assert names(made) == ["all", "without weight_decay", "without ema", "without mixup"]
    assert made.baseline == "all"
    configs = {cell.arm: cell.config for cell in made.cells}
    assert list(configs["without weight_decay"]["regularization"]) == ["ema", "l2_sp"]
    assert configs["without weight_decay"]["regularization"]["ema"]["decay"] == 0.9
    assert configs["without ema"]["regularization"]["weight_decay"]["value"] == 0.3
    assert configs["without mixup"]["augmentation"] == {}
    everything = dict.fromkeys(
        ("regularization.weight_decay", "regularization.ema", "augmentation.mixup"), True
    )
    assert made.arms[0].factors == everything
    assert made.arms[2].factors == {**everything, "regularization.ema": False}


def test_add_one_in_starts_from_none_of_them(plan):
    made = plan(
        {
            "design": "add_one_in",
            "factors": {
                "regularization": ["ema", "l2_sp"],
                "backbone.kwargs.x": [1, 3],
                "strategy": {"lp_ft": ["freeze_strategy=lp_ft"]},
            },
            "seeds": [0],
        },
        "regularization.ema.decay=0.9",
    )
    assert names(made) == ["none", "with ema", "with l2_sp", "with 1", "with 3", "with lp_ft"]
    configs = {cell.arm: cell.config for cell in made.cells}
    kept = {arm: list(config["regularization"]) for arm, config in configs.items()}
    assert kept["none"] == kept["with 1"] == kept["with lp_ft"] == ["weight_decay"]
    assert kept["with ema"] == ["weight_decay", "ema"]
    assert configs["with ema"]["regularization"]["ema"]["decay"] == 0.9
    values = {arm: config["backbone"]["kwargs"]["x"] for arm, config in configs.items()}
    assert (values["none"], values["with 1"], values["with 3"]) == ([2], [1, 2], [2, 3])
    assert configs["with lp_ft"]["freeze_strategy"] != configs["none"]["freeze_strategy"]


def test_paired_levels_go_side_by_side(plan):
    factors = {"freeze_strategy": ["full", "lp_ft"], "optimizer.lr": [0.1, 0.2]}
    made = plan({"design": "paired", "factors": factors, "seeds": [0]})
    assert names(made) == ["full, lr=0.1", "lp_ft, lr=0.2"]


def test_a_search_has_no_arms(plan):
    made = plan({"design": "search", "seeds": [0, 1]})
    assert (made.arms, made.baseline) == ((), None)
    assert [(cell.arm, cell.seed) for cell in made.cells] == [("search", 0), ("search", 1)]


# -- runs ----------------------------------------------------------------------------------------


def test_runs_go_seed_by_seed_then_arm_by_arm_then_candidate_by_candidate(plan):
    tune = {"optimizer.lr": [0.1, 0.2], "regularization.ema.decay": [0.5, 0.6]}
    arms = {"a": [], "b": ["freeze_strategy=lp_ft"]}
    made = plan({"arms": arms, "seeds": [3, 1], "tune": tune})
    lines = [
        f"optimizer.lr={lr} regularization.ema.decay={d}" for lr in (0.1, 0.2) for d in (0.5, 0.6)
    ]
    assert [(cell.seed, cell.arm, cell.candidate) for cell in made.cells] == [
        (seed, arm, line) for seed in (3, 1) for arm in arms for line in lines
    ]
    assert made.tuned == {key: tuple(values) for key, values in tune.items()}
    assert len({run_id(cell.config) for cell in made.cells}) == 16


def test_a_runs_line_trains_it_alone(plan, own):
    made = plan(
        {"arms": {"a": [], "b": ["optimizer.lr=0.5"]}, "seeds": [0, 1]},
        "study.seeds=[4,5]",
        "dataset.labels_per_class=3",
        "++study.question='what, then?'",
    )
    assert made.question == "what, then?"
    for cell in made.cells:
        assert not any("study." in text for text in cell.overrides)
        alone = compose(list(cell.overrides), own)
        assert "study" not in cell.config
        assert cell.config == {**alone, "group": "it"}
        assert (alone["seed"], alone["dataset"]["labels_per_class"]) == (cell.seed, 3)
    assert [cell.seed for cell in made.cells] == [4, 4, 5, 5]
    assert design.cells(["experiment=it"], Composer(own))[0].overrides == (
        "experiment=it",
        "~study",
        "seed=0",
    )
    assert plan({"arms": {"a": []}, "seeds": [0]}, "group=mine").cells[0].config["group"] == "mine"


def test_a_study_may_stand_on_the_line_alone():
    line = ["study.seeds=[0,1]", "study.factors={optimizer.lr:[0.1,0.2]}", "seed=3"]
    made = design.plan(line, Composer())
    assert names(made) == ["lr=0.1", "lr=0.2"]
    assert made.cells[1].overrides == ("seed=3", "optimizer.lr=0.2", "seed=0")


def test_overrides_without_a_study_are_refused():
    with pytest.raises(CheckError, match="study: is missing"):
        design.cells(["seed=1"], Composer())


def test_the_default_study_is_planned():
    made = design.plan(["experiment=glyphs_to_digits"], Composer())
    assert made.baseline in names(made)
    assert len(made.cells) == len(made.arms) * len(made.seeds)


@pytest.mark.parametrize(
    "task", ["image_classification", "multi_label_classification", "regression"]
)
def test_the_default_metric_is_the_tasks_own_monitor(task):
    config = compose([f"task={task}"], check=False)
    module = config["task"]["_target_"].rpartition(".")[0]
    tree = ast.parse(inspect.getsource(__import__(module, fromlist=["x"])))
    monitors = {
        statement.value.value
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "monitor"
    }
    assert {design.default_metric(config)} == {f"test/{name}" for name in monitors}
    assert design.default_metric({**config, "monitor": "val/loss"}) == "test/loss"


# -- names and values ----------------------------------------------------------------------------


def test_names_are_as_short_as_they_are_clear(plan):
    both_none = {"regularization": ["none", "ema"], "augmentation": ["none", "mixup"]}
    made = plan({"factors": both_none, "seeds": [0]})
    assert names(made)[0] == "regularization=none, augmentation=none"
    same_end = {"dataset.seed": [1, 2], "optimizer.lr": [0.1], "backbone.kwargs.lr": [0.5]}
    made = plan({"factors": same_end, "seeds": [0]})
    assert names(made)[0] == "seed=1, optimizer.lr=0.1, backbone.kwargs.lr=0.5"
    twice = {"regularization": ["ema"], "augmentation": {"ema": []}}
    made = plan({"design": "add_one_in", "factors": twice, "seeds": [0]})
    assert names(made) == ["none", "with regularization.ema", "with augmentation.ema"]
    assert shown([True, None, "a b", 0.1, {"x": "y"}]) == "true+null+a b+0.1+{x:y}"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
    | st.sampled_from(["a, b", "", "null", "${seed}", "x=1", "'\\", "[1,2]", "1"]),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.sampled_from("abc"), of, max_size=2),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(value=VALUES)
def test_a_level_of_any_type_arrives_as_it_is(value):
    study = {"factors": {"backbone.kwargs.z": [value]}}
    (arm,) = expand(study, {})
    config = COMPOSER.compose(arm.overrides, check=False)
    assert repr(config["backbone"]["kwargs"]["z"]) == repr(value)
    assert arm.factors["backbone.kwargs.z"] is value
    (candidate,) = design.candidates({"backbone.kwargs.z": [value]})
    assert candidate == arm.overrides
    assert not parsed(candidate[0]).is_sweep_override()


COMPOSER = Composer()


def test_candidates_are_every_combination():
    assert design.candidates({}) == [()]
    found = design.candidates({"optimizer.lr": [0.1, 1], "name": ["a b"]})
    assert found == [("optimizer.lr=0.1", "name='a b'"), ("optimizer.lr=1", "name='a b'")]


# -- mistakes ------------------------------------------------------------------------------------

ARMS = {"a": [], "b": ["optimizer.lr=0.5"]}
LR = {"optimizer.lr": [0.1, 0.2]}
GROWS = {"arms": ARMS, "claims": ["a > b"], "sequential": {"max_seeds": 3}}
WRONG = [
    ({"arms": ARMS, "design": "gird"}, "study.design", "grid"),
    ({}, "study.arms", None),
    ({"arms": {}}, "study.arms", None),
    ({"factors": {}, "design": "grid"}, "study.factors", None),
    ({"design": "paired"}, "study.factors", None),
    ({"arms": ARMS, "factors": LR, "design": "grid"}, "study.arms", None),
    ({"arms": ARMS, "factors": LR, "design": "arms"}, "study.factors", None),
    ({"arms": ARMS, "design": "search"}, "study.arms", None),
    ({"arms": {"a": [], "b": []}}, "study.arms.b", None),
    ({"arms": {"a": ["seed=1"]}}, "study.arms.a", None),
    ({"arms": {"a": ["study.seeds=[1]"]}}, "study.arms.a", None),
    ({"arms": {"a": ["experiment=glyphs_pretrain"]}}, "study.arms.a", None),
    ({"arms": {"a": ["optimizer.lr"]}}, "study.arms.a", None),
    ({"arms": {"a": "optimizer.lr=1"}}, "study.arms", None),
    ({"arms": ARMS, "sedes": [1]}, "study.sedes", "seeds"),
    ({"arms": ARMS, "seeds": []}, "study.seeds", None),
    ({"arms": ARMS, "seeds": [1, 1]}, "study.seeds", None),
    ({"arms": ARMS, "seeds": [-1]}, "study.seeds", None),
    ({"arms": ARMS, "baseline": "c"}, "study.baseline", None),
    ({"factors": LR, "baseline": "lr=0.3"}, "study.baseline", "lr=0.1"),
    ({"factors": LR, "design": "one_at_a_time", "baseline": "bsae"}, "study.baseline", "base"),
    ({"arms": ARMS, "metric": "test/acuracy"}, "study.metric", "test/accuracy"),
    ({"arms": ARMS, "metric": "accuracy"}, "study.metric", "test/accuracy"),
    (
        {"factors": {"freeze_strategi": ["full"]}},
        "study.factors.freeze_strategi",
        "freeze_strategy",
    ),
    ({"factors": {"optimizer.lrr": [1]}}, "study.factors.optimizer.lrr", "optimizer.lr"),
    ({"factors": {"lr": [1]}}, "study.factors.lr", "optimizer.lr"),
    ({"factors": {"seed": [1, 2]}}, "study.factors.seed", None),
    ({"factors": {"optimizer.lr": []}}, "study.factors.optimizer.lr", None),
    ({"factors": {"optimizer.lr": 0.1}}, "study.factors", None),
    ({"factors": {"optimizer.lr": [0.1, 0.1]}}, "study.factors.optimizer.lr", None),
    ({"factors": {"optimizer.lr": [1, 1.0]}}, "study.factors.optimizer.lr", None),
    ({"factors": {"pace": {"a": ["seed=1"]}}}, "study.factors.pace.a", None),
    (
        {"factors": {"pace": {"a": ["trainer.steps=1"], "b": ["trainer.steps=1"]}}},
        "study.factors.pace",
        None,
    ),
    ({"factors": {**LR, "freeze_strategy": ["full"]}, "design": "paired"}, "study.factors", None),
    (
        {"factors": {"regularization": ["dropout"]}, "design": "leave_one_out"},
        "study.factors.regularization",
        None,
    ),
    (
        {"factors": {"regularization": ["eam"]}, "design": "add_one_in"},
        "study.factors.regularization",
        "ema",
    ),
    (
        {"factors": {"regularization": ["ema", "ema"]}, "design": "leave_one_out"},
        "study.factors.regularization",
        None,
    ),
    (
        {"factors": {"optimizer.lr": [0.1]}, "design": "leave_one_out"},
        "study.factors.optimizer.lr",
        None,
    ),
    ({"factors": {"optimizer.lr": ["${nothing}"]}}, "study.factors.optimizer.lr[0]", None),
    ({"arms": ARMS, "tune": {"optimizer.lr": [0.1, 0.2]}}, "study.tune.optimizer.lr", None),
    ({"factors": LR, "tune": {"optimizer.lr": [0.1, 0.2]}}, "study.tune.optimizer.lr", None),
    (
        {"arms": {"a": []}, "tune": {"optimizer.lrr": [0.1]}},
        "study.tune.optimizer.lrr",
        "optimizer.lr",
    ),
    ({"arms": {"a": []}, "tune": {"optimizer.lr": []}}, "study.tune.optimizer.lr", None),
    ({"arms": {"a": []}, "tune": {"optimizer.lr": [1, 1]}}, "study.tune.optimizer.lr", None),
    ({"arms": {"a": []}, "tune": {"seed": [1]}}, "study.tune.seed", None),
    ({"arms": ARMS, "claims": ["a > c"]}, "study.claims", None),
    ({"arms": ARMS, "claims": ["a better than b"]}, "study.claims", None),
    ({"arms": ARMS, "claims": ["a > b on tst/accuracy"]}, "study.claims", "test/accuracy"),
    ({"arms": ARMS, "metric": "tst/accuracy"}, "study.metric", "test/accuracy"),
    ({"arms": ARMS, "metric": "noise/accuracy"}, "study.metric", None),
    ({"arms": {**ARMS, " ": ["optimizer.lr=0.7"]}}, "study.arms", None),
    ({"arms": ARMS, "seeds": [2**32]}, "study.seeds", None),
    ({"arms": ARMS, "claims": ["a > b on test/acuracy"]}, "study.claims", "test/accuracy"),
    ({"arms": ARMS, "claims": "a > b"}, "study.claims", "[a > b]"),
    ({"design": "search", "claims": ["a > b"]}, "study.claims", None),
    ({**GROWS, "sequential": {"max_seeds": 2}}, "study.sequential.max_seeds", None),
    ({**GROWS, "sequential": {"max_seeds": 200}}, "study.sequential.max_seeds", None),
    ({**GROWS, "sequential": {}}, "study.sequential.max_seeds", None),
    ({**GROWS, "sequential": {"max_seed": 9}}, "study.sequential.max_seed", "max_seeds"),
    ({**GROWS, "seeds": [0, 1, 2, 3]}, "study.sequential.max_seeds", None),
    ({**GROWS, "seeds": [2**32 - 1]}, "study.seeds", None),
    ({**GROWS, "claims": []}, "study.sequential", None),
    ({"design": "search", "sequential": {"max_seeds": 9}}, "study.sequential", None),
    # of single arms, when they are composed
    ({"arms": {"a": [], "b": ["optimizer.lrr=1"]}}, "arm 'b', optimizer.lrr", "lr"),
    ({"arms": {"a": [], "b": ["freeze_strategy=ful"]}}, "arm 'b', freeze_strategy", "full"),
    ({"factors": {"freeze_strategy": ["full", "lpft"]}}, "arm 'lpft', freeze_strategy", "lp_ft"),
    ({"factors": {"optimizer.lr": [0.1, -1]}}, "arm 'lr=-1', optimizer.lr", None),
]


@pytest.mark.parametrize(("study", "place", "suggestion"), WRONG, ids=lambda v: str(v)[:60])
def test_a_wrong_study_is_refused_at_its_place(study, place, suggestion, refused):
    found = refused({"seeds": [0], **study})
    assert place in found or place.rpartition(".")[0] in found, found
    if suggestion:
        assert found[place].suggestion == suggestion or suggestion in found[place].message


def test_most_of_it_is_told_by_the_check_of_any_config(own):
    (own / "experiment" / "it.yaml").write_text(
        yaml.safe_dump({**BASE, "study": {"seeds": [0], "factors": {"optimizer.lrr": [1]}}})
    )
    with pytest.raises(CheckError, match=r"optimizer\.lrr"):
        compose(["experiment=it"], own)


def test_many_mistakes_are_told_at_once(refused):
    found = refused(
        {
            "seeds": [0, 0],
            "metric": "test/acuracy",
            "factors": {"optimizer.lrr": [1], "seed": [1]},
            "tune": {"nothing": [1]},
        }
    )
    assert len(found) == 5


def test_what_is_wrong_in_every_arm_is_told_once_without_a_name(refused):
    arms = {"a": [], "b": ["freeze_strategy=lp_ft"]}
    found = refused({"arms": arms, "seeds": [0]}, "optimizer.eps=-1", "+optimizer.what=1")
    assert set(found) == {"optimizer.eps", "optimizer.what"}
    assert set(refused({"design": "search", "seeds": [0]}, "optimizer.eps=-1")) == {"optimizer.eps"}
    assert set(refused({"arms": {"a": []}, "seeds": [0]}, "optimizer.eps=-1")) == {"optimizer.eps"}


def test_a_start_that_only_arms_give_is_no_mistake(plan, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
    arms = {"one": [f"dataset.root={tmp_path}"]}
    made = plan({"arms": arms, "seeds": [0]}, "dataset=image_folder")
    assert len(made.cells) == 1


def test_keys_that_only_some_arms_have_may_be_varied(plan):
    factors = {"freeze_strategy": ["lp_ft"], "freeze_strategy.full_lr_scale": [0.1, 0.2]}
    assert len(plan({"factors": factors, "seeds": [0]}).arms) == 2
    arms = {"a": ["freeze_strategy=lp_ft"]}
    tune = {"freeze_strategy.full_lr_scale": [0.1, 0.2]}
    assert len(plan({"arms": arms, "seeds": [0], "tune": tune}).cells) == 2
    assert len(plan({"factors": {"backbone.kwargs.new": [1, 2]}, "seeds": [0]}).arms) == 2


def test_an_arm_is_tuned_by_the_keys_that_it_has(plan, refused):
    arms = {"two": ["freeze_strategy=lp_ft"], "one": []}
    tune = {"freeze_strategy.full_lr_scale": [0.1, 0.2]}
    made = plan({"arms": arms, "seeds": [0, 1], "tune": tune})
    assert [(cell.arm, cell.candidate) for cell in made.cells[:3]] == [
        ("two", "freeze_strategy.full_lr_scale=0.1"),
        ("two", "freeze_strategy.full_lr_scale=0.2"),
        ("one", ""),
    ]
    assert len(made.cells) == 6
    tune = {"freeze_strategy.full_scale": [0.1]}
    found = refused({"arms": arms, "seeds": [0], "tune": tune})
    assert set(found) == {"study.tune.freeze_strategy.full_scale"}


def test_a_baseline_that_is_the_base_itself_is_told(refused):
    factors = {"pace": {"slow": ["optimizer.lr=0.002"], "fast": ["optimizer.lr=0.1"]}}
    study = {"design": "one_at_a_time", "factors": factors, "seeds": [0]}
    found = refused({**study, "baseline": "pace=slow"})
    assert found["study.baseline"].suggestion == "base"


def test_a_study_changes_no_id(plan):
    made = plan({"arms": {"a": []}, "seeds": [0], "claims": ["a > 0.5"], "question": "?"})
    assert "study" not in essence(made.cells[0].config)


def test_each_fold_is_the_test_of_a_run_of_every_arm_and_seed(plan):
    arms = {"full": ["freeze_strategy=full"], "probe": ["freeze_strategy=linear_probe"]}
    made = plan({"seeds": [3, 4], "arms": arms, "folds": 3})
    assert made.folds == (0, 1, 2)
    assert [(c.seed, c.fold, c.arm) for c in made.cells][:3] == [
        *((3, 0, "full"), (3, 0, "probe"), (3, 1, "full"))
    ]
    assert len({run_id(cell.config) for cell in made.cells}) == 2 * 2 * 3
    for cell in made.cells:
        assert cell.config["dataset"]["folds"] == 3
        assert cell.config["dataset"]["fold"] == cell.fold
        assert cell.overrides[-1] == f"seed={cell.seed}"
    named = plan({"seeds": [0], "arms": arms, "folds": ["ann", "7"]})
    assert {c.config["dataset"]["fold"] for c in named.cells} == {"ann", "7"}
    assert {c.config["dataset"]["folds"] for c in named.cells} == {"groups"}


@pytest.mark.parametrize(
    ("study", "line", "says"),
    [
        ({"folds": 1}, [], "at least 2"),
        ({"folds": []}, [], "one at least"),
        ({"folds": ["a", "a"]}, [], "each group once"),
        ({"folds": 2, "tune": {"optimizer.lr": [0.1, 0.2]}}, [], "values are chosen"),
        (
            {"folds": 2, "claims": ["full > probe"], "sequential": {"max_seeds": 9}},
            *([], "adds seeds"),
        ),
        (
            {"folds": 2},
            ["dataset=text_file", "dataset.path=x", "~dataset.labels_per_class"],
            "does",
        ),
    ],
)
def test_folds_that_cannot_be(refused, study, line, says):
    arms = {"full": ["freeze_strategy=full"], "probe": ["freeze_strategy=linear_probe"]}
    assert says in str(refused({"seeds": [0], "arms": arms, **study}, *line)["study.folds"])
