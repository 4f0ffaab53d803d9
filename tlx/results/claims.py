"""What a study claims, and whether its runs bear it out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tlx.results import looks
from tlx.results import manifest as manifests
from tlx.results.grammar import Claim, ClaimError, parse
from tlx.results.manifest import Manifest
from tlx.results.record import Record
from tlx.results.verdict import Verdict
from tlx.results.wording import sentence

__all__ = ["Claim", "ClaimError", "judge", "parse", "take"]


def judge(manifest: Manifest, records: Mapping[str, Record]) -> list[Verdict]:
    """A verdict on each claim of a study.

    The difference between the arms is taken seed by seed and tested against the margin, *two-sided*
    and Holm-adjusted over all claims of the study. A claim is held where the test rejects at 0.05
    in the claim's direction, not held where it rejects in the opposite one, and undecided
    otherwise. A claim has a direction, so a one-sided test would be permissible and needs fewer
    seeds. But claims are often written once first results are known, "not held" is a finding too
    and needs the other tail, and a two-sided t test never contradicts the interval beside it.
    So the probability that any claim is called held which is not true is at most 0.025.

    The promise is kept however often one looks. Which test it takes is settled by the study's first
    look, see `Manifest.looks`; the present seeds count as a look:

    - One look at all declared seeds: `stats.compare`.
    - `sequential`, a look after every seed up to a declared number: Student's test against
      `sequential.limit`.
    - Seeds that were added to either without having been declared: the declared looks keep
      0.04, and all others share 0.01, by `sequential.e_value`.

    While a declared run of its arms is missing or has failed, a claim has an estimate and no
    verdict. Seeds whose runs finished without a finite figure are left out and counted in
    `missing`.

    Args:
        manifest: of the study.
        records: run's id -> record.

    Raises:
        ClaimError: a claim cannot be parsed.
    """
    from tlx.results.evidence import Judge

    claims = [parse(text, arms=manifest.arms, metric=manifest.metric) for text in manifest.claims]
    plan = looks.plan(manifest)
    bare = Judge(manifest, records, plan).verdicts(claims)
    return [
        replace(
            verdict,
            sentence=sentence(verdict, known=_known(records) if verdict.n == 0 else ()),
        )
        for verdict in bare
    ]


def take(folder: Path | str, manifest: Manifest, records: Mapping[str, Record]) -> Manifest:
    """Notes in a study's folder that its claims are judged now; returns the manifest with it.

    Nothing is noted where no claim has a verdict yet, or where one has been given on these seeds.

    Raises:
        ClaimError: a claim cannot be parsed.
        OSError: the folder cannot be written to.
    """
    n = max((verdict.looked for verdict in judge(manifest, records)), default=0)
    seeds = manifest.seeds[:n]
    if not n or any(set(look.seeds) == set(seeds) for look in manifest.looks):
        return manifest
    known = manifests.add_look(folder, seeds, sequential=manifest.sequential)
    return replace(manifest, looks=known.looks)


def _known(records: Mapping[str, Record]) -> list[str]:
    """Every split/metric of the finished runs."""
    finished = (record for record in records.values() if record.status == "finished")
    splits = (pair for record in finished for pair in record.splits.items())
    return list(dict.fromkeys(f"{name}/{key}" for name, split in splits for key in split.metrics))
