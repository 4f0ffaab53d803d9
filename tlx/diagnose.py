"""`tlx doctor`: versions, devices, and pairings that are known not to work."""

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from tlx.base import cores, ownership
from tlx.config import listing
from tlx.config.places import Library
from tlx.config.problems import CheckError
from tlx.config.settings import load_settings
from tlx.results.provenance import versions

SHOWN = (
    "torch", "torchvision", "timm", "transformers", "pytorch-lightning", "hydra-core",
    "omegaconf", "wandb", "numpy", "scikit-learn", "safetensors", "pillow",
)  # fmt: skip
PROBE = "import torch; import torchvision; print(torch.cuda.device_count())"


@dataclass(frozen=True)
class Findings:
    """What the doctor saw.

    Attributes:
        versions: package -> version.
        devices: a line each.
        options: that the project one is in and installed packages bring, a line each.
        problems: (what is wrong, how to mend it).
    """

    versions: dict[str, str]
    devices: tuple[str, ...]
    options: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]


def examine() -> Findings:
    """Looks at the installation; imports torch in another process, since that may fail."""
    found = versions(SHOWN)
    problems = [*ownership.problems(sys.path), *_pairings(found), *_torch_problems()]
    options, faults = _options()
    return Findings(found, _devices(), tuple(options), (*problems, *faults))


def _options() -> tuple[list[str], list[tuple[str, str]]]:
    """Options besides tlx's own, and what is wrong with them or with the settings."""
    try:
        load_settings()
        lines, problems = listing.brought(), Library.here().problems()
    except CheckError as error:
        lines, problems = [], list(error.problems)
    return lines, [(str(problem), "mend what is named") for problem in problems]


def _pairings(found: dict[str, str]) -> list[tuple[str, str]]:
    problems = []
    installed = {d.metadata["Name"].lower() for d in metadata.distributions() if d.metadata["Name"]}
    if "lightning" in installed:
        problems.append(
            (
                "the package `lightning` is installed beside pytorch-lightning: their classes "
                "differ, and lightning 2.6.2 and 2.6.3 were malicious",
                "pip uninstall lightning",
            )
        )
    torch, vision = found.get("torch", ""), found.get("torchvision", "")
    if torch and vision and ("+cpu" in torch) != ("+cpu" in vision):
        problems.append(
            (
                f"just one of torch {torch} and torchvision {vision} is a CPU-only build: "
                "importing torchvision fails with «operator torchvision::nms does not exist»",
                "pip install --force-reinstall -c constraints.txt torch torchvision",
            )
        )
    hydra = found.get("hydra-core", "")
    if hydra and not hydra.startswith("1.3"):
        problems.append((f"hydra-core {hydra} is untested", "pip install 'hydra-core~=1.3.2'"))
    for name in SHOWN:
        if name not in found:
            problems.append((f"{name} is not installed", f"pip install -c constraints.txt {name}"))
    return problems


def _torch_problems() -> list[tuple[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return []
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
    mend = "pip install --force-reinstall -c constraints.txt torch torchvision"
    return [(f"torch and torchvision do not import together: {last}", mend)]


def _devices() -> tuple[str, ...]:
    probe = (
        "import torch\n"
        "for i in range(torch.cuda.device_count()):\n"
        "    p = torch.cuda.get_device_properties(i)\n"
        "    print(f'GPU {i}: {p.name}, {p.total_memory / 2**30:.0f} GiB')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    gpus = done.stdout.splitlines() if done.returncode == 0 else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    count = f"{os.cpu_count()} cores"
    if (usable := cores.usable()) != os.cpu_count():
        count += f", {usable} of them for this process"
    return (f"CPU: {count}, {memory:.0f} GiB", *(gpus or ["GPU: none"]))


def text(found: Findings) -> str:
    """The findings as lines."""
    lines = [f"python {found.versions.get('python')}"]
    lines += [f"{name} {version}" for name, version in found.versions.items() if name != "python"]
    lines += [*found.devices, *found.options]
    for wrong, mend in found.problems:
        lines.append(f"PROBLEM {wrong}\n  mend it: {mend}")
    if not found.problems:
        lines.append("everything that tlx knows of fits together")
    return "\n".join(lines)
