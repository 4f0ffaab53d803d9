"""What is wrong with a config: one problem, and the error that shows all of them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where, and the nearest right thing."""

    place: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        """One line: place, message, suggestion."""
        tail = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{self.place}: {self.message}{tail}"


class CheckError(ValueError):
    """A config with problems; its text lists every one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        count = len(self.problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        super().__init__(f"{head} in the config:\n" + "\n".join(f"- {p}" for p in self.problems))
