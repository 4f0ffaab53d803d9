"""A stack of heads ends where each would alone; the reference is a plain torch loop."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from tlx.data.splits import Labels
from tlx.frozen.heads import Heads, Start
from tlx.frozen.rules import AdamW, Sgd
from tlx.methods.schedules import constant, cosine, linear, one_cycle, slanted_triangular
from tlx.tasks.classification import classification
from tlx.tasks.head_losses import CrossEntropy
from tlx.tasks.multi_label import multi_label_classification
from tlx.tasks.regression import regression

C, D, N, B = 4, 12, 96, 16
WEIGHTS = [0.5, 1.0, 2.0, 3.5]
SGD = [
    Sgd(momentum=0.9, nesterov=True),
    Sgd(momentum=0.0, nesterov=False),
    Sgd(momentum=0.8, nesterov=False),
    Sgd(momentum=0.95, nesterov=True),
    Sgd(momentum=0.9, nesterov=False),
]
ADAMW = [
    AdamW(),
    AdamW(betas=(0.8, 0.99)),
    AdamW(eps=1e-3),
    AdamW(betas=(0.9, 0.95), eps=1e-6),
    AdamW(betas=(0.5, 0.9)),
]
SCHEDULES = [constant(), cosine(warmup_steps=9), linear(), one_cycle(), slanted_triangular()]
STOPS = [1.0, 0.63, 1.0, 0.22, 1.0]  # as shares of the steps


@pytest.fixture(autouse=True)
def _one_thread():
    """Products this small take longer on two, and very long where others use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def task_of(kind="single", outputs=C):
    names = tuple(f"c{i}" for i in range(outputs))
    return {
        "single": lambda: classification(Labels("single", names)),
        "weighted": lambda: classification(
            Labels("single", names), class_weights=(WEIGHTS * outputs)[:outputs]
        ),
        "multi": lambda: multi_label_classification(Labels("multi", names)),
        "multi_weighted": lambda: multi_label_classification(
            Labels("multi", names), positive_weights=(WEIGHTS * outputs)[:outputs]
        ),
        "mse": lambda: regression(Labels("real", names)),
        "mae": lambda: regression(Labels("real", names), criterion="mae"),
        "huber": lambda: regression(Labels("real", names), criterion="huber"),
    }[kind]()


def targets_of(kind, outputs, *shape):
    if kind in {"single", "weighted"}:
        return torch.randint(outputs, shape)
    if kind.startswith("multi"):
        return torch.randint(2, (*shape, outputs))
    return torch.randn(*shape, outputs) * 2


def network(dtype=torch.float64, *, outputs=C, width=D, hidden=0):
    if not hidden:
        return nn.Linear(width, outputs).to(dtype)
    layers = (nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    return nn.Sequential(*layers).to(dtype)


def starts_of(networks, optimizers):
    """Runs that differ in everything that may differ."""
    sgd = isinstance(optimizers[0], Sgd)
    return [
        Start(
            parameters=each.state_dict(),
            optimizer=optimizer,
            lr=(0.02 if sgd else 0.003) * (1 + place),
            weight_decay=(0.0, 0.01, 0.1)[place % 3],
            smoothing=(0.1, 0.0, 0.3, 0.0)[place % 4],
            max_norm=(math.inf, 0.2, 1.0)[place % 3],
        )
        for place, (each, optimizer) in enumerate(zip(networks, optimizers, strict=True))
    ]


def torch_optimizer(each, start):
    decays = [p for p in each.parameters() if p.ndim > 1]
    spared = [p for p in each.parameters() if p.ndim == 1]
    groups = [
        {"params": decays, "weight_decay": start.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    rule = start.optimizer
    if isinstance(rule, Sgd):
        return torch.optim.SGD(groups, lr=start.lr, momentum=rule.momentum, nesterov=rule.nesterov)
    return torch.optim.AdamW(groups, lr=start.lr, betas=rule.betas, eps=rule.eps)


class Alone:
    """One run as tlx trains it, on a network of its own."""

    def __init__(self, each, start, task):
        self.network, self.start, self.task = each, start, task
        self.optimizer = torch_optimizer(each, start)

    def step(self, features, targets, factor=1.0):
        outputs = self.network(features)
        loss = loss_alone(self.task, outputs, targets, self.start.smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        if math.isfinite(self.start.max_norm):
            nn.utils.clip_grad_norm_(self.network.parameters(), self.start.max_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.start.lr * factor
        self.optimizer.step()
        return loss.detach()

    def state(self):
        return {n: self.optimizer.state[p] for n, p in self.network.named_parameters()}


def loss_alone(task, outputs, targets, smoothing):
    """As `TransferModule.training_step`; tasks compute in single precision, so `double` here."""
    float_ = torch.Tensor.float
    torch.Tensor.float = lambda self: self.to(outputs.dtype)
    try:
        per_item, weight = task.losses(outputs, {"target": targets}, smoothing=smoothing)["loss"]
    finally:
        torch.Tensor.float = float_
    return torch.dot(per_item, weight.to(per_item.dtype)) / weight.sum()


def farthest(stack, runs):
    """Largest distance of a parameter of the stack from the run's own."""
    return max(
        float((ours - theirs.detach()).abs().max())
        for run in stack.runs
        for ours, theirs in zip(stack.head(run), runs[run].network.parameters(), strict=True)
    )


def batches(dtype, *, steps, runs=None):
    """Steps of features and targets of items that can be told apart, shared or each run's."""
    torch.manual_seed(1)
    features, targets = torch.randn(N, D, dtype=dtype), torch.randint(C, (N,))
    shape = (B,) if runs is None else (runs, B)
    for _ in range(steps):
        items = torch.randint(N, shape)
        yield features[items], targets[items]


def train(stack, runs, steps):
    """Takes the same steps in the stack and in each of its runs alone."""
    for x, y in steps:
        stack.step(x, y)
        for run in runs:
            run.step(x, y)


@pytest.mark.parametrize(
    ("dtype", "steps", "limit", "optimizers", "per_run"),
    [
        pytest.param(torch.float32, 320, 1e-4, SGD, True, id="f32-sgd-per_run"),
        pytest.param(torch.float32, 320, 1e-4, ADAMW, False, id="f32-adamw-shared"),
        pytest.param(torch.float64, 100, 1e-10, SGD, False, id="f64-sgd-shared"),
        pytest.param(torch.float64, 100, 1e-10, ADAMW, True, id="f64-adamw-per_run"),
    ],
)
def test_a_stack_ends_where_its_runs_would_alone(dtype, steps, limit, optimizers, per_run):
    """Each pair of number type, optimizer and kind of batch."""
    torch.manual_seed(0)
    task, count = task_of("weighted"), len(optimizers)
    networks = [network(dtype) for _ in optimizers]
    starts = starts_of(networks, optimizers)
    stack = Heads(starts, loss=task.solver(), block_numbers=2 * C * (D + 1))
    runs = [Alone(*each, task) for each in zip(networks, starts, strict=True)]
    begin = [p.clone() for each in networks for p in each.parameters()]
    for step, (x, y) in enumerate(batches(dtype, steps=steps, runs=count if per_run else None)):
        stack.drop([run for run in stack.runs if int(STOPS[run] * steps) == step])
        left = list(stack.runs)
        factors = [SCHEDULES[run].factor(step, steps) for run in left]
        losses = stack.step(
            *((x[left], y[left]) if per_run else (x, y)),
            factors=torch.tensor(factors, dtype=torch.float64),
        )
        alone = [
            runs[run].step(*((x[run], y[run]) if per_run else (x, y)), factor)
            for run, factor in zip(left, factors, strict=True)
        ]
        assert torch.allclose(losses, torch.stack(alone), rtol=10 * limit, atol=limit)
    assert stack.runs == (0, 2, 4)
    assert farthest(stack, runs) <= limit
    after = [p for each in networks for p in each.parameters()]
    assert (
        min(float((a - b).detach().abs().max()) for a, b in zip(begin, after, strict=True)) > 0.01
    )


@pytest.mark.parametrize("optimizer", [*SGD[:3], ADAMW[0]], ids=str)
def test_runs_of_one_kind_go_the_same_way(optimizer):
    """No momentum, no nesterov, no decay, no smoothing or no clipping at all: the short ways."""
    torch.manual_seed(0)
    networks = [network() for _ in range(3)]
    starts = [Start(n.state_dict(), optimizer=optimizer, lr=0.01 * (i + 1))
              for i, n in enumerate(networks)]  # fmt: skip
    task = task_of("single")
    stack = Heads(starts, loss=task.solver())
    runs = [Alone(*each, task) for each in zip(networks, starts, strict=True)]
    train(stack, runs, batches(torch.float64, steps=40))
    assert farthest(stack, runs) <= 1e-10


@pytest.mark.parametrize("optimizers", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_two_layers_too(optimizers):
    torch.manual_seed(0)
    networks = [network(hidden=7) for _ in optimizers]
    starts = starts_of(networks, optimizers)
    task = task_of("single")
    stack = Heads(starts, loss=task.solver(), block_numbers=300)
    runs = [Alone(*each, task) for each in zip(networks, starts, strict=True)]
    train(stack, runs, batches(torch.float64, steps=40))
    assert farthest(stack, runs) <= 1e-10


@given(
    kind=st.sampled_from(["single", "weighted", "multi", "multi_weighted", "mse", "mae", "huber"]),
    runs=st.integers(1, 5),
    outputs=st.integers(2, 6),
    width=st.integers(1, 5),
    items=st.integers(1, 6),
    block=st.integers(1, 60),
    hidden=st.sampled_from([0, 0, 3]),
    per_run=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_loss_and_gradient_are_autograds(
    kind, runs, outputs, width, items, block, hidden, per_run, seed
):
    """One step of plain descent with lr 1 moves the parameters by their gradient."""
    torch.manual_seed(seed)
    task = task_of(kind, outputs)
    smooth = kind in {"single", "weighted", "multi", "multi_weighted"}
    networks = [network(outputs=outputs, width=width, hidden=hidden) for _ in range(runs)]
    starts = [
        Start(
            each.state_dict(),
            optimizer=Sgd(0.0, nesterov=False),
            lr=1.0,
            smoothing=0.15 * (place % 3) if smooth else 0.0,
        )
        for place, each in enumerate(networks)
    ]
    stack = Heads(starts, loss=task.solver(), block_numbers=block)
    shape = (runs, items) if per_run else (items,)
    x, y = torch.randn(*shape, width, dtype=torch.float64), targets_of(kind, outputs, *shape)
    losses = stack.step(x, y)
    for place, (each, start) in enumerate(zip(networks, starts, strict=True)):
        own_x, own_y = (x[place], y[place]) if per_run else (x, y)
        loss = loss_alone(task, each(own_x), own_y, start.smoothing)
        grads = torch.autograd.grad(loss, list(each.parameters()))
        assert torch.allclose(losses[place], loss)
        for value, grad, ours in zip(each.parameters(), grads, stack.head(place), strict=True):
            assert torch.allclose(value - ours, grad, atol=1e-12)


@pytest.mark.parametrize("optimizers", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_run_goes_on_in_torch_and_back(optimizers):
    """Fused for 20 steps, in torch's optimizer for 20, in a new stack for 20."""
    torch.manual_seed(0)
    task = task_of("single")
    networks = [network() for _ in optimizers]
    starts = starts_of(networks, optimizers)
    runs = [Alone(*each, task) for each in zip(networks, starts, strict=True)]
    stack = Heads(starts, loss=task.solver())
    assert stack.state(1) == {"weight": {}, "bias": {}}
    steps = list(batches(torch.float64, steps=60))
    train(stack, runs, steps[:20])
    for place, run in enumerate(runs):
        assert_same_state(stack.state(place), run.state())
    others = []
    for place, start in enumerate(starts):
        each = network()
        each.load_state_dict(dict(zip(("weight", "bias"), stack.head(place), strict=True)))
        other = Alone(each, start, task)
        saved, state = other.optimizer.state_dict(), stack.state(place)
        saved["state"] = {0: state["weight"], 1: state["bias"]}
        other.optimizer.load_state_dict(saved)
        others.append(other)
    for x, y in steps[20:40]:
        for run in [*runs, *others]:
            run.step(x, y)
    again = Heads(
        [
            replace(s, parameters=o.network.state_dict())
            for s, o in zip(starts, others, strict=True)
        ],
        loss=task.solver(),
    )
    for place, other in enumerate(others):
        again.load_state(place, other.state())
    train(again, runs, steps[40:])
    assert farthest(again, runs) <= 1e-10
    for place, run in enumerate(runs):
        assert_same_state(again.state(place), run.state())


def assert_same_state(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, state in theirs.items():
        kept = {key: value for key, value in state.items() if value is not None}
        assert ours[name].keys() == kept.keys()
        for key, value in kept.items():
            assert ours[name][key].dtype == value.dtype
            assert ours[name][key].shape == value.shape
            assert torch.allclose(ours[name][key], value, atol=1e-12)


@pytest.mark.parametrize("optimizer", [Sgd(), AdamW()], ids=["sgd", "adamw"])
def test_runs_at_different_steps_share_a_stack(optimizer):
    """One that begins beside one that goes on: bias correction counts each run's own steps."""
    torch.manual_seed(0)
    task, networks = task_of("single"), [network(), network()]
    starts = starts_of(networks, [optimizer, optimizer])
    runs = [Alone(*each, task) for each in zip(networks, starts, strict=True)]
    steps = list(batches(torch.float64, steps=30))
    for x, y in steps[:10]:
        runs[0].step(x, y)
    now = [replace(s, parameters=n.state_dict()) for s, n in zip(starts, networks, strict=True)]
    stack = Heads(now, loss=task.solver())
    stack.load_state(0, runs[0].state())
    stack.load_state(1, {"weight": {}, "bias": {}})
    train(stack, runs, steps[10:])
    assert farthest(stack, runs) <= 1e-10


@pytest.mark.parametrize("optimizers", [SGD[:3], ADAMW[:3]], ids=["sgd", "adamw"])
@pytest.mark.parametrize("per_run", [False, True], ids=["shared", "per_run"])
def test_a_run_that_diverges_leaves_the_others_alone(optimizers, per_run):
    def trained(lr):
        torch.manual_seed(0)
        starts = starts_of([network(torch.float32) for _ in range(3)], optimizers)
        starts[1] = replace(starts[1], lr=lr, max_norm=math.inf, weight_decay=10.0)
        stack = Heads(starts, loss=CrossEntropy())
        for x, y in batches(torch.float32, steps=40, runs=3 if per_run else None):
            losses = stack.step(x, y)
        return stack, losses

    (wild, losses), (tame, expected) = trained(1e30), trained(0.01)
    assert not all(values.isfinite().all() for values in wild.head(1))
    for run in (0, 2):
        assert torch.equal(losses[run], expected[run])
        for a, b in zip(wild.head(run), tame.head(run), strict=True):
            assert torch.equal(a, b)
            assert a.isfinite().all()


@pytest.mark.parametrize("optimizer", [Sgd(), AdamW()], ids=["sgd", "adamw"])
def test_a_rate_of_zero_moves_nothing(optimizer):
    each = network(torch.float32)
    stack = Heads([Start(each.state_dict(), optimizer=optimizer, lr=0.0)], loss=CrossEntropy())
    x = torch.randn(B, D)
    x[:, 0] = 0  # gradients of exactly zero, as of a dead feature
    for _ in range(3):
        stack.step(x, torch.randint(C, (B,)))
    for ours, theirs in zip(stack.head(0), each.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 200))
@example([0, 1, 2, 3, 4, 5], 1)
@settings(max_examples=30, deadline=None)
def test_dropping_changes_nothing_for_the_rest(dropped, block):
    torch.manual_seed(0)
    optimizers = [AdamW() for _ in range(6)]
    starts = starts_of([network() for _ in range(6)], optimizers)
    stack, whole = (Heads(starts, loss=CrossEntropy(), block_numbers=block) for _ in range(2))
    x, y = torch.randn(2, 5, D, dtype=torch.float64), torch.randint(C, (2, 5))
    for each in (stack, whole):
        each.step(x[0], y[0])
    stack.drop(set(dropped))
    left = [run for run in range(6) if run not in dropped]
    assert stack.runs == tuple(left)
    losses, expected = stack.step(x[1], y[1]), whole.step(x[1], y[1])
    assert torch.allclose(losses, expected[left])
    for run in left:
        for a, b in zip(stack.head(run), whole.head(run), strict=True):
            assert torch.allclose(a, b)


def test_batches_of_another_size_are_taken():
    torch.manual_seed(0)
    each = network()
    start, task = starts_of([each], [Sgd()])[0], task_of("single")
    stack, run = Heads([start], loss=task.solver()), Alone(each, start, task)
    for items in (5, 2, 9, 1, 5):
        x, y = torch.randn(items, D, dtype=torch.float64), torch.randint(C, (items,))
        train(stack, [run], [(x, y)])
    assert farthest(stack, [run]) <= 1e-12


@pytest.mark.parametrize("optimizer", [Sgd(), AdamW()], ids=["sgd", "adamw"])
def test_what_is_given_and_returned_stays_as_it_was(optimizer):
    each = network()
    x, y = torch.randn(B, D, dtype=torch.float64), torch.randint(C, (B,))
    given = {**each.state_dict(), "x": x}
    stack = Heads(starts_of([each], [optimizer]), loss=CrossEntropy())
    before = deepcopy(given)
    stack.step(x, y)
    head, state = stack.head(0), stack.state(0)
    head_before, state_before = deepcopy((head, state))
    stack.step(x, y)
    assert all(torch.equal(given[name], value) for name, value in before.items())
    assert all(torch.equal(a, b) for a, b in zip(head, head_before, strict=True))
    assert all(state.values())
    for name, slots in state.items():
        assert all(torch.equal(slots[slot], state_before[name][slot]) for slot in slots)


def start(**changes):
    arguments = {"parameters": network().state_dict(), "optimizer": Sgd(), "lr": 0.1}
    return Start(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": -1.0}, "lr=-1"),
        ({"weight_decay": math.nan}, "weight_decay=nan"),
        ({"smoothing": 1.0}, "smoothing=1"),
        ({"max_norm": 0.0}, "norm above 0"),
        ({"optimizer": Sgd(0.0, nesterov=True)}, "nesterov=False"),
        ({"parameters": {"weight": torch.zeros(2, 3)}}, "no chain"),
        ({"parameters": {}}, "no chain"),
        ({"parameters": {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}}, "no chain"),
    ],
    ids=str,
)
def test_starts_that_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        start(**changes)


def test_stacks_that_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Heads([], loss=CrossEntropy())
    with pytest.raises(ValueError, match="one class of optimizer"):
        Heads([start(), start(optimizer=AdamW())], loss=CrossEntropy())
    with pytest.raises(ValueError, match="same names"):
        Heads([start(), start(parameters=network(outputs=5).state_dict())], loss=CrossEntropy())


def test_calls_that_are_refused():
    stack = Heads([start(), start()], loss=CrossEntropy())
    x, y = torch.randn(3, D, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    for features, targets in ((x[:, 1:], y), (x, y[:2]), (x.expand(3, 3, D), y.expand(3, 3))):
        with pytest.raises(ValueError, match="give"):
            stack.step(features, targets)
    for call in (lambda: stack.head(2), lambda: stack.drop([0, 7])):
        with pytest.raises(ValueError, match="not in the stack"):
            call()
    assert stack.runs == (0, 1)
    buffer = {"momentum_buffer": torch.zeros(C, D, dtype=torch.float64)}
    for state in (
        {"weight": {}},
        {"weight": {"exp_avg": torch.zeros(C, D)}, "bias": {}},
        {"weight": buffer, "bias": {}},
    ):
        with pytest.raises(ValueError, match="run 1"):
            stack.load_state(1, state)
    smooth = Heads([start(smoothing=0.1)], loss=task_of("mse").solver())
    with pytest.raises(ValueError, match="nothing in regression"):
        smooth.step(x, torch.randn(3, C))


def test_a_norm_past_the_largest_number_scales_nothing_where_nothing_is_clipped():
    torch.manual_seed(0)
    x, y = torch.randn(B, D) * 1e25, torch.randint(C, (B,))
    calm = start(parameters=network(torch.float32).state_dict(), lr=1e-25)
    stack = Heads([replace(calm, max_norm=1.0), calm], loss=CrossEntropy())
    alone = Heads([calm], loss=CrossEntropy())
    stack.step(x, y)
    alone.step(x, y)
    for ours, theirs in zip(stack.head(1), alone.head(0), strict=True):
        assert ours.isfinite().all()
        assert torch.allclose(ours, theirs)


def test_a_batch_without_any_weight_teaches_nothing():
    out = torch.ones(1, 3, 2)
    loss = CrossEntropy((0.0, 1.0, 1.0)).gradient(
        torch.randn(1, 3, 2), torch.zeros(1, 2, dtype=torch.int64), smoothing_g=None, out=out
    )
    assert loss.tolist() == [0.0]
    assert out.count_nonzero() == 0
