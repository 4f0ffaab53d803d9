"""What a whole run must be: what trains moves, what is frozen stays, a killed run goes on."""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

import tlx
from tlx.building.plans import plan
from tlx.config.check import check
from tlx.config.identity import normalise, run_id
from tlx.config.run import typed
from tlx.execution import runs
from tlx.execution.lineage import Locator
from tlx.results.record import Record
from tlx.testing.contract import Contract

KILLED = """
import json, os, signal, sys
import tlx
from tlx.training.engine.module import TransferModule
config, at = json.loads(sys.argv[1]), int(sys.argv[2])
step = TransferModule.training_step
def killed(module, *args):
    if module.step >= at:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(module, *args)
TransferModule.training_step = killed
tlx.run(config)
"""


class RunContract(Contract):
    """Of a line of overrides, as `tlx train` takes them: a few steps of it, on this machine.

    Attributes:
        overrides: the line; give few `trainer.steps`, at least 4.
    """

    overrides: Sequence[str] = ()

    def setUp(self) -> None:
        """Composes the config of a run in a folder that is deleted afterwards."""
        place = tempfile.TemporaryDirectory(prefix="tlx-contract-")
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name)

    def config(self, name: str) -> dict[str, Any]:
        """Its config, with a folder of runs of its own."""
        few = ["trainer.accelerator=cpu", "trainer.checkpoint_every_steps=1", "logger=[csv]"]
        return tlx.compose([*self.overrides, *few, f"runs_dir={self.folder / name}"])

    def trained(self, name: str) -> tuple[Record, dict[str, Tensor]]:
        """The record and the final weights of a run."""
        config = self.config(name)
        record: Record = tlx.run(config)
        folder = self.folder / name / run_id(normalise(config))
        return record, load_file(folder / runs.WEIGHTS)

    def test_it_trains_what_it_says(self) -> None:
        """Figures are finite; in each stage something moves; what no stage trains stays."""
        config = self.config("straight")
        self.assertEqual(check(config), [])
        record, after = self.trained("straight")
        self.assertEqual(record.status, "finished")
        for title, split in record.splits.items():
            for metric, value in split.metrics.items():
                self.assertTrue(math.isfinite(value.value), f"{title}/{metric} is {value.value}")
        before, stages = self._start(config)
        for stage in stages:
            moved = any(not before[name].equal(after[name]) for name in stage.trains)
            self.assertTrue(moved, f"stage {stage.name!r} moved nothing that it trains")
        frozen = before.keys() - {name for stage in stages for name in stage.trains}
        changed = sorted(name for name in frozen if not before[name].equal(after[name]))
        self.assertFalse(changed, "no stage trains these, and they moved")

    def _start(self, config: dict[str, Any]) -> tuple[dict[str, Tensor], Sequence[Any]]:
        """Parameters before the first step, and the stages."""
        found = Locator().locate(typed(config))
        planned = plan(found.run, init=found.init)
        network = planned.model.network
        return dict(network.named_parameters()), [span.stage for span in planned.spans]

    def test_a_killed_run_goes_on_to_the_same_weights(self) -> None:
        """Kill -9 in the middle, the same line again: bit by bit as if nothing had been."""
        config = self.config("killed")
        at = max(int(self.trained("whole")[0].used_steps) // 2, 1)
        line = [sys.executable, "-c", KILLED, json.dumps(config), str(at)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, -9, f"it was to be killed, and was not:\n{done.stderr}")
        self.same(self.trained("killed")[1], self.trained("whole")[1], "its weights differ")
