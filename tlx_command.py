"""Starts the `tlx` command, or says why what is imported as `tlx` is not ours.

It stands outside of tlx/, which another package of that name may cover.
"""

import sys

MEND = "pip uninstall tlx, then pip install --force-reinstall --no-deps . (or -e .) in its checkout"


def main() -> int:
    """Runs the command line; returns the exit status."""
    try:
        import tlx
    except ImportError as error:  # of tlx.base.ownership, which says what to do
        print(f"tlx: {error}", file=sys.stderr)
        return 1
    if "compose" not in getattr(tlx, "__all__", ()):
        place = getattr(tlx, "__file__", None) or ", ".join(tlx.__path__)
        print(
            f"tlx: this is the command of tlx-experiments, but what is imported as tlx ({place}) "
            "is not: the index has somebody else's package of that name, or our files have gone. "
            f"Mend it: {MEND}",
            file=sys.stderr,
        )
        return 1
    from tlx.cli import main as command

    return command()
