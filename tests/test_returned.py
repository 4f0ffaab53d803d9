"""What a user's own functions give wrongly is named, with the fix, before anything trains."""

import logging
import sys
from pathlib import Path

import pytest

from tlx import init_command
from tlx.cli import main
from tlx.config import signatures

LINE = ("experiment=pretrain", "trainer.steps=2", "logger=[]")
HEAD = "from torch import nn\n"
WRONG = {
    "one stage": (
        "freezing",
        "from tlx.methods.stages import Stage\ndef upper(layout, *, share: float = 0.5):\n"
        "    return Stage('head', {name: 1.0 for name in layout.head.parameters})\n",
        "freeze_strategy: moths.freezing.upper gives Stage; give a tuple of Stage",
    ),
    "a list of names": (
        "freezing",
        "from tlx.methods.stages import Stage\ndef upper(layout, *, share: float = 0.5):\n"
        "    return (Stage('head', list(layout.head.parameters)),)\n",
        "stage 'head' trains list; give a mapping",
    ),
    "names of groups": (
        "freezing",
        "from tlx.methods.stages import Stage\ndef upper(layout, *, share: float = 0.5):\n"
        "    head = dict.fromkeys(layout.head.parameters, 1.0)\n"
        "    return (Stage('head', {'stem': 1.0, **head}),)\n",
        "names 'stem', which is no parameter; names look like 'head.linear.bias'; layout.groups "
        "are stem, blocks, head",
    ),
    "a bare penalty": (
        "penalties",
        "def feature_norm(*, strength: float = 0.1):\n"
        "    return lambda step: step.outputs.mean()\n",
        "regularization.feature_norm: moths.penalties.feature_norm gives function, not Effects",
    ),
    "a vector": (
        "penalties",
        "from tlx.training.effects import Effects, Penalty\n"
        "def feature_norm(*, strength: float = 0.1):\n"
        "    return Effects(Penalty(of=lambda step: step.outputs.mean(1)))\n",
        "regularization.feature_norm gives a tensor of shape [",
    ),
    "a float": (
        "penalties",
        "from tlx.training.effects import Effects, Penalty\n"
        "def feature_norm(*, strength: float = 0.1):\n"
        "    return Effects(Penalty(of=lambda step: 0.5))\n",
        "regularization.feature_norm gives 0.5; a penalty gives one number",
    ),
    "a bare network": (
        "networks",
        HEAD + "def small(*, init: str = 'none', width: int = 32):\n    return nn.Linear(2, 2)\n",
        "backbone: moths.networks.small gives Linear, not Backbone: give tlx.backbones.own.wrapped",
    ),
    "no start": (
        "networks",
        HEAD + "def small(*, width: int = 32):\n    return nn.Linear(2, 2)\n",
        "moths.networks.small has no argument init",
    ),
    "tensors": (
        "data",
        "from typing import Unpack\nimport torch\nfrom tlx.data.draw import Dividing, Draw\n"
        "from tlx.data.images.own import image_splits\n"
        "from tlx.data.splits import Labels\nMODALITY = 'image'\n"
        "def bars(*, tilt: float = 0.0, **draw: Unpack[Dividing]):\n"
        "    return image_splits(lambda i: torch.zeros(1, 16, 16), [0, 1] * 40,\n"
        "        Labels('single', ('a', 'b')), draw=Draw())\n",
        "gives Tensor for its first item; give PIL images",
    ),
    "no splits": (
        "data",
        "from typing import Unpack\nfrom tlx.data.draw import Dividing\nMODALITY = 'image'\n"
        "def bars(*, tilt: float = 0.0, **draw: Unpack[Dividing]):\n    return []\n",
        "dataset: moths.data.bars gives list, not Splits",
    ),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    init_command.init(tmp_path / "moths")
    monkeypatch.chdir(tmp_path / "moths")
    signatures.forget()
    yield tmp_path / "moths"
    for name in [name for name in sys.modules if name.partition(".")[0] == "moths"]:
        del sys.modules[name]
    signatures.forget()


def refusal(capsys, caplog, *more):
    caplog.clear()
    assert main(["train", *LINE, *more]) != 0
    out, err = capsys.readouterr()
    return out + err + caplog.text


@pytest.mark.parametrize("case", WRONG)
def test_what_a_function_gives_wrongly_is_named(case, project, capsys, caplog):
    caplog.set_level(logging.INFO)
    module, code, message = WRONG[case]
    (project / "moths" / f"{module}.py").write_text(code)
    more = {"freezing": ["freeze_strategy=upper"], "penalties": ["regularization=[feature_norm]"]}
    assert message in refusal(capsys, caplog, *more.get(module, []))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width=width", "width=width + 1", "gives features [2, 32] of two items, and says that"),
        ("size=(1, 16, 16)", "size=(3, 16, 16)", "says that it reads ImageSpec(size=(3, 16, 16)"),
    ],
)
def test_a_network_is_as_it_says(old, new, message, project, capsys, caplog):
    file = Path("moths/networks.py")
    text = file.read_text()
    assert old in text
    text = text.replace(old, new).replace(
        "mean=(0.2,), std=(0.3,)", "mean=(0.2,) * 3, std=(0.3,) * 3"
    )
    file.write_text(text if "size" in new else file.read_text().replace(old, new))
    assert message in refusal(capsys, caplog)


def test_a_module_that_is_not_there_is_named(project, capsys, caplog):
    option = Path("conf/freeze_strategy/upper.yaml")
    option.write_text(option.read_text().replace("moths.freezing", "moths.freezes"))
    said = refusal(capsys, caplog, "freeze_strategy=upper")
    assert "moths.freezes is no module that can be found" in said
