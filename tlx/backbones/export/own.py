"""Networks of users' own code: weights, and how their function is called, in a folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tlx.backbones.export import LINEAR_HEAD
from tlx.backbones.weights import files as weights
from tlx.data.inputs import Spec


def export_own(
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    function: str,
    arguments: Mapping[str, object],
    label_names: Sequence[str],
    reads: Spec,
) -> Path:
    """Writes model.safetensors, config.json and README.md; the folder.

    Names of weights are the run's: `backbone.` and what the function's module calls them, `head.`
    and what the head does.

    Args:
        state: the whole network's, adapters merged.
        folder: made if missing; files of an earlier export are replaced.
        function: dotted name of what made the backbone.
        arguments: of the call, but for `init`; JSON data.
        label_names: in the order of the outputs.
        reads: the backbone's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights.write(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "function": function,
        "arguments": dict(arguments),
        "label_names": list(label_names),
        "reads": reads.plain(),
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(_readme(config, state), encoding="utf-8")
    return folder


def _readme(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    module, _, name = config["function"].rpartition(".")
    called = ", ".join(f"{key}={value!r}" for key, value in config["arguments"].items())
    head = sorted(key for key in state if key.startswith("head."))
    text = (
        f"# {name}, fine-tuned\n\nWritten by tlx. The network is made by `{config['function']}`, "
        "whose module must be at hand:\n\n```python\n"
        "import torch\nfrom safetensors.torch import load_file\n\n"
        f"from {module} import {name}\n\n"
        "state = load_file('model.safetensors')\n"
        f"backbone = {name}({called})\n"
        "trunk = {key.removeprefix('backbone.'): value for key, value in state.items()\n"
        "         if key.startswith('backbone.')}\n"
        "backbone.module.load_state_dict(trunk)\n"
        "features = backbone.features(backbone.module.eval(), inputs)\n"
    )
    if head == sorted(LINEAR_HEAD):
        text += "weight, bias = state['head.linear.weight'], state['head.linear.bias']\n"
        text += "outputs = torch.nn.functional.linear(features.pooled, weight, bias)\n"
    text += "```\n\n"
    if head != sorted(LINEAR_HEAD):
        text += f"The head's weights: {', '.join(head)}.\n\n"
    return text + "What it reads, and the labels in the order of the outputs, are in config.json.\n"
