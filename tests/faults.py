"""Optimizers that go wrong on purpose, allowed to a config by the test's own settings file."""

import os
import signal
import time
from typing import Any

import torch

OPTIMIZER = """# Goes wrong on purpose.
_target_: faults.optimizer
lr: 0.001
"""
SETTINGS = 'allow_targets = ["faults.optimizer"]\n'


def optimizer(
    groups: list[dict[str, Any]], *, lr: float, how: str = "right", at: int = 3, flag: str = ""
) -> torch.optim.Optimizer:
    """AdamW whose `at`-th step goes wrong, unless the file `flag` exists."""
    made = torch.optim.AdamW(groups, lr=lr)
    plain, steps = made.step, [0]

    def step(*args: Any, **kwargs: Any) -> Any:
        steps[0] += 1
        if steps[0] == at and not (flag and os.path.exists(flag)):
            if how == "raise":
                raise ValueError("a mistake in the third step")
            if how == "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            while how == "hang":
                time.sleep(1)
            if how == "diverge":
                for group in made.param_groups:
                    for parameter in group["params"]:
                        parameter.data.fill_(float("nan"))
        return plain(*args, **kwargs)

    made.step = step  # type: ignore[method-assign]
    return made
