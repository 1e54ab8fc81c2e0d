"""The thesis's claims C1 to C17, each with a rule that stands before the data, and the verdict of our runs.

A claim is one inequality or several, each tested by a paired t over seeds at equal epochs; p values are corrected by
Holm over all inequalities of all claims of one data set. `supported` and `contradicted` are wrong by chance in at most
5% of data sets, over all claims together; everything else is `undecided`, or `not run`. C1 rests on a set of scales
that holds the true best in 95% of studies, and is not in that family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import pandas as pd

from analysis import claim_parts, intervals, reanalysis, runs, theory
from analysis.claim_parts import RECALL, Data, Part
from analysis.intervals import Interval

Verdict = Literal["supported", "contradicted", "undecided", "not run"]

LEVEL = 0.05
NAN = float("nan")
FAR = 1.5  # C1: a scale within this factor of AdaCos's is not far from it


class Claim(NamedTuple):
    """One claim. rule: when it counts as supported or contradicted. needs: whether all of its parts must hold, or any.

    parts: its inequalities on our data. For C1 None: its rule is about a set of scales.
    """

    id: str
    where: str
    says: str
    evidence: str
    rule: str
    needs: Literal["all", "any"]
    parts: Callable[[Data], list[Part]] | None


class Outcome(NamedTuple):
    """A claim's verdict on one data set. mean, low, high, seeds, p: of the part that decides (p after Holm)."""

    id: str
    where: str
    says: str
    evidence: str
    printed: str
    rule: str
    setting: str
    measured: str
    mean: float
    low: float
    high: float
    seeds: int
    p: float
    verdict: Verdict


def decide(parts: Sequence[Part], adjusted: Sequence[float], needs: Literal["all", "any"]) -> Verdict:
    """The verdict of a claim from its parts and their p values after Holm."""
    if not any(len(part.values) for part in parts):
        return "not run"
    holds = [p < LEVEL and part.speaks_for for part, p in zip(parts, adjusted, strict=True)]
    fails = [p < LEVEL and not part.speaks_for for part, p in zip(parts, adjusted, strict=True)]
    if needs == "all":
        return "contradicted" if any(fails) else "supported" if all(holds) else "undecided"
    return "supported" if any(holds) else "contradicted" if all(fails) else "undecided"


# The claims --------------------------------------------------------------------------------------------------------

_EQUAL = "at two phases, equal epochs, paired by seed"
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1", "4.2.1, abstract", "the best constant scale is far from AdaCos's closed form", "table 4.1",
        f"supported if no scale within a factor {FAR} of sqrt(2) ln(C-1) is in the set of constants not worse than the "
        "best (95%), contradicted if all of the set are", "all", None,
    ),
    Claim(
        "C2", "4.2.1", "s <= 10 is too small, 15 to 30 is enough", "table 4.1",
        f"Recall@1 of some constant from 15 to 30 exceeds each constant up to 10, {_EQUAL} (Bonferroni)",
        "all", claim_parts.c2,
    ),
    Claim(
        "C3", "4.2.1", "a scale above the best lowers Recall@1", "table 4.1",
        f"Recall@1 of some smaller constant exceeds the largest constant's, {_EQUAL} (Bonferroni)",
        "all", claim_parts.c3,
    ),
    Claim(
        "C4", "4.2.1", "at a small scale Recall@1 rises, then falls during training", "figure 4.5",
        "for each constant up to 6.5 the slope of Recall@1 over the second phase is below 0", "all", claim_parts.c4,
    ),
    Claim(
        "C5", "4.2.2", "additional training with a linearly falling scale raises Recall@1 for every final value",
        "table 4.3", f"each of 20 to 10, 5, 2.5 exceeds constant 20 continued, {_EQUAL}", "all", claim_parts.c5,
    ),
    Claim(
        "C6", "abstract", "by 1 to 2 points", "tables 4.3 to 4.5",
        f"the gains of C5 are at least 1 and at most 2 points, {_EQUAL}", "all", claim_parts.c6,
    ),
    Claim(
        "C7", "6.1", "only a range of final values is good", "table 4.3",
        "two of the final values 10, 5, 2.5 differ; contradicted if all are within 1 point of each other, "
        f"{_EQUAL}", "any", claim_parts.c7,
    ),
    Claim(
        "C8", "4.2.3", "the switch gains more than the linear decay", "text; tables 4.4, 4.5 at 100",
        f"Recall@1 of the switch to 5 exceeds that of linear to 5, {_EQUAL}", "all", claim_parts.c8,
    ),
    Claim(
        "C9", "4.2.3", "at three phases the order of accuracy and Recall@1 is reversed", "tables 4.4, 4.5",
        "at two phases the switch has the higher Recall@1 and the lower accuracy, at three phases the lower and the "
        "higher, paired by seed", "all", claim_parts.c9,
    ),
    Claim(
        "C10", "4.2.3", "lowering the scale costs training accuracy", "tables 4.3 to 4.5",
        f"accuracy of constant 20 exceeds that of each decay, {_EQUAL}", "all", claim_parts.c10,
    ),
    Claim(
        "C11", "5.1", "proxy angles stay as initialized at s = 20 and spread in the first epoch at small s",
        "table 5.1, figure 5.2",
        "the variance over all proxies at s = 20 is within a quarter of 1/D of 1/D after the first phase, and after "
        "one epoch it is larger at 6.5 than at 20", "all", claim_parts.c11,
    ),
    Claim(
        "C12", "5.1", "high dimension keeps proxy cosines near 0 even at small s", "table 5.1",
        "at s = 6.5 and the high dimension the variance over all proxies is below .01 (root mean square below .1) "
        "after the first phase", "all", claim_parts.c12,
    ),
    Claim(
        "C13", "5.2", "falling from the start is worse than additional training", "table 5.2",
        f"Recall@1 of linear to 5 after the first phase exceeds that of linear from the start, {_EQUAL}",
        "all", claim_parts.c13,
    ),
    Claim(
        "C14", "5.2, 5.3", "the loss grows ever faster as s falls; the quadratic fall has the lower maximum",
        "figure 5.4",
        "on the linear ramp the loss rises more in the second half than in the first, and its maximum exceeds the "
        "quadratic's, paired by seed (both follow from theory with the angles frozen)", "all", claim_parts.c14,
    ),
    Claim(
        "C15", "5.3 (6.1: no difference)", "the linear fall ends above the quadratic", "figure 5.4, no numbers",
        "Recall@1 of linear exceeds that of quadratic at three phases, paired by seed; contradicted if it is lower",
        "all", claim_parts.c15,
    ),
    Claim(
        "C16", "5.3", "the final value matters, not the path", "tables 4.3 to 4.5, figure 5.4",
        "linear, switch and quadratic to 5 are within 1 point of each other at three phases, paired by seed (two "
        "one-sided t)", "all", claim_parts.c16,
    ),
    Claim(
        "C17", "3.2.3, 5.2", "computing the scale in training (AdaCos dynamic) costs much time", "none",
        f"an epoch with dynamic AdaCos takes more than {claim_parts.MUCH:g} times as long as with fixed AdaCos (median "
        "over epochs, paired by seed)", "all", claim_parts.c17,
    ),
)  # fmt: skip


def _c1(data: Data) -> tuple[str, Interval | None, Verdict]:
    recall = runs.constants(data.part, RECALL, 2 * data.phase)
    adacos = theory.adacos_fixed(float(data.setting.classes))
    scales = [float(str(scale)) for scale in recall.index]
    near = {scale for scale in scales if adacos / FAR <= scale <= adacos * FAR}
    if not near or len(scales) < 3:
        return "", None, "not run"
    kept = [float(str(scale)) for scale in intervals.not_worse_than_best(recall)]
    words = f"AdaCos {adacos:.3g}; not worse than the best: {', '.join(f'{scale:g}' for scale in kept)}"
    best = scales[int(recall.mean(axis=1).to_numpy().argmax())]
    verdict: Verdict = "undecided"
    if not near.intersection(kept):
        verdict = "supported"
    elif near.issuperset(kept):
        verdict = "contradicted"
    return words, Interval(best, min(kept), max(kept), recall.shape[1]), verdict


def outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per claim and data set; without any run one row per claim. frame: runs.curves. Columns: of Outcome."""
    rows: list[Outcome] = []
    printed = _printed()
    for setting, part in runs.main_settings(frame):
        everything = frame[frame["dataset"] == setting.dataset]
        data = Data(setting, part, runs.phase_of(part), everything)
        measured = {claim.id: claim.parts(data) for claim in CLAIMS if claim.parts is not None}
        tested = [part for parts in measured.values() for part in parts if len(part.values) > 1]
        adjusted = {id(part): p for part, p in zip(tested, intervals.holm([p.p for p in tested]), strict=True)}
        for claim in CLAIMS:
            if claim.parts is None:
                words, interval, verdict = _c1(data)
                rows.append(_outcome(claim, printed, str(setting), words, interval, NAN, verdict))
                continue
            parts = measured[claim.id]
            ps = [adjusted.get(id(part), 1.0) for part in parts]
            verdict = decide(parts, ps, claim.needs)
            words = "; ".join(_in_words(part, p) for part, p in zip(parts, ps, strict=True))
            known = [(part, p) for part, p in zip(parts, ps, strict=True) if len(part.values)]
            if not known:
                rows.append(_outcome(claim, printed, str(setting), "", None, NAN, "not run"))
                continue
            decisive, p = _decisive(known, claim.needs)
            interval = intervals.mean_interval(decisive.values)
            rows.append(_outcome(claim, printed, str(setting), words, interval, p, verdict))
    if not rows:
        rows = [_outcome(claim, printed, "", "", None, NAN, "not run") for claim in CLAIMS]
    return pd.DataFrame(rows, columns=Outcome._fields)


def _decisive(known: Sequence[tuple[Part, float]], needs: Literal["all", "any"]) -> tuple[Part, float]:
    """The part on which the verdict rests: of an `all` claim the weakest, of an `any` claim the strongest."""
    speak_for = [item for item in known if item[0].speaks_for]
    against = [item for item in known if not item[0].speaks_for]
    if needs == "all":
        return min(against, key=lambda item: item[1]) if against else max(speak_for, key=lambda item: item[1])
    return min(speak_for, key=lambda item: item[1]) if speak_for else max(against, key=lambda item: item[1])


def _outcome(
    claim: Claim,
    printed: dict[str, str],
    setting: str,
    words: str,
    interval: Interval | None,
    p: float,
    verdict: Verdict,
) -> Outcome:
    mean, low, high, seeds = interval or Interval(NAN, None, None, 0)
    return Outcome(
        id=claim.id,
        where=claim.where,
        says=claim.says,
        evidence=claim.evidence,
        printed=printed.get(claim.id, ""),
        rule=claim.rule,
        setting=setting,
        measured=words,
        mean=mean,
        low=NAN if low is None else low,
        high=NAN if high is None else high,
        seeds=seeds,
        p=p,
        verdict=verdict,
    )


def _in_words(part: Part, p: float) -> str:
    if len(part.values) == 0:
        return f"{part.words}: not run"
    mean, low, high, n = intervals.mean_interval(part.values)
    if low is None or high is None:
        return f"{part.words}: {mean:+.4f} (one seed)"
    return f"{part.words}: {mean:+.4f} [{low:+.4f}, {high:+.4f}], n = {n}, Holm p = {p:.2g}"


def _printed() -> dict[str, str]:
    """By claim: the printed comparisons, each against the noise of single runs."""
    words: dict[str, list[str]] = {}
    for row in reanalysis.printed_differences():
        words.setdefault(row.claim, []).append(
            f"{row.dataset}, {row.comparison}: {row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}], {row.clear}"
        )
    return {claim: "; ".join(lines) for claim, lines in words.items()}
