"""Where a result comes from: code, versions, hardware, inputs."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tlx.base.version import __version__

PACKAGES = (
    "torch", "torchvision", "timm", "transformers", "pytorch-lightning", "hydra-core", "omegaconf",
    "wandb", "numpy", "scikit-learn", "pillow", "safetensors",
)  # fmt: skip
MAX_DIFF_BYTES = 1_000_000


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python, of tlx as it is imported, and of the installed packages that matter."""
    found = {"python": platform.python_version(), "tlx": __version__}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> dict[str, object]:
    """Commit and uncommitted difference of the checkout that `folder` lies in; {} outside one."""
    sha = _git(folder, "rev-parse", "HEAD")
    if sha is None:
        return {}
    diff = _git(folder, "diff", "HEAD") or ""
    return {
        "sha": sha.strip(),
        "dirty": bool((_git(folder, "status", "--porcelain") or "").strip()),
        "diff": diff if len(diff) <= MAX_DIFF_BYTES else f"({len(diff)} bytes, left out)",
    }


def _git(folder: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def hardware() -> dict[str, object]:
    """Processor, cores, memory and accelerators (asks torch only where it is already loaded)."""
    facts: dict[str, object] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def stat_fingerprint(paths: Mapping[str, str]) -> dict[str, str]:
    """A quick fingerprint of input files and folders by names, sizes and modification times.

    Args:
        paths: name -> path; what does not exist is left out.
    """
    found: dict[str, str] = {}
    for name, text in paths.items():
        path = Path(text).expanduser()
        if not path.exists():
            continue
        digest = hashlib.sha256()
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                stat = file.stat()
                line = f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
                digest.update(line.encode(errors="surrogateescape"))
        found[name] = digest.hexdigest()[:16]
    return found
