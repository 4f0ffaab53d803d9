"""Memory of training above what is held before the first step: linear probe against full.

ViT-tiny at 224 px, batch 64, each in a fresh process. Run: python -m benchmarks.memory
"""

import statistics
import subprocess
import sys

CHILD = """
import sys, warnings, torch, timm
warnings.filterwarnings("ignore")
from benchmarks import made
from benchmarks.step import adamw
import pytorch_lightning as pl

def status(key):
    line = next(l for l in open("/proc/self/status") if l.startswith(key))
    return int(line.split()[1]) * 1024

class Before(pl.Callback):
    def on_train_batch_start(self, *args):
        if not hasattr(self, "held"):
            open("/proc/self/clear_refs", "w").write("5")
            Before.held = status("VmRSS")

original = made.make_trainer
made.make_trainer = lambda **kw: original(**{**kw, "callbacks": [*kw["callbacks"], Before()]})
torch.manual_seed(0)
inputs, targets = torch.randn(128, 3, 224, 224), torch.randint(0, 10, (128,))
trunk = timm.create_model("vit_tiny_patch16_224", num_classes=0)
made.tlx_step_s(trunk, 192, made.splits(inputs, targets, 10), optimizer=adamw, steps=3,
                batch_size=64, trained=sys.argv[1], skip=1)
print(status("VmHWM") - Before.held)
"""


def above(trained: str) -> int:
    """Peak bytes above what was held before the first step."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, trained], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


def main(pairs: int = 7) -> None:
    """Prints the ratio of the probe's memory to that of full fine-tuning."""
    found = []
    for _ in range(pairs):
        probe, full = above("head."), above("")
        found.append(probe / full)
    middle = statistics.median(found)
    print(
        f"memory above the first step, linear probe / full: median {middle:.3f} "
        f"[{min(found):.3f}, {max(found):.3f}] over {pairs} pairs "
        f"(last: {probe / 2**20:.0f} / {full / 2**20:.0f} MiB), limit 0.4: "
        f"{'ok' if middle <= 0.4 else 'OVER'}"
    )


if __name__ == "__main__":
    main()
