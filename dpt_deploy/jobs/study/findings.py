"""Sentences about a study. Each follows from intervals."""

from __future__ import annotations

from dpt_deploy.jobs.study.outcome import Study
from dpt_deploy.jobs.study.prices import Price
from dpt_deploy.jobs.study.resolution import Comparison, Control, Verdict, paper_range, ratio, verdict
from dpt_deploy.measure.bootstrap import Estimate

NOTHING = "This study is not sensitive enough: it did not notice a planted defect."

_UNANIMOUS: dict[Verdict, str] = {
    "holds": "Transformers lose less than the convolutional network, as in the paper.",
    "reversed": "The convolutional network loses less, which is the reverse of the paper.",
    "not distinguishable": "No difference between transformers and the convolutional network can be distinguished.",
}
_DEFECTS = {  # the defect in a control's positions
    "nearest": "repeated instead of interpolated",
    "tiled": "restarted beyond the training grid instead of interpolated",
}


def headline(study: Study) -> str:
    """Return the headline of the page."""
    if study.random:
        return "Random weights: a trial run, not a result."
    if not study.measures_something:
        return NOTHING
    verdicts = [comparison.verdict for comparison in study.analysis.comparisons]
    if not verdicts:
        return "Loss of accuracy on images larger than those of the training."
    if len(set(verdicts)) == 1:
        return _UNANIMOUS[verdicts[0]]
    return f"The paper's ordering holds for {verdicts.count('holds')} of {len(verdicts)} pairs."


def ordering(study: Study) -> list[str]:
    """Return a sentence for each pair of networks that the paper compares."""
    return [_compared(comparison, _range(study)) for comparison in study.analysis.comparisons]


def control(study: Study) -> str:
    """Return a sentence about the planted defect."""
    found = study.analysis.control
    if found is None:
        return f"No control was run: {study.no_control}."
    defect = next(candidate.control for candidate in study.candidates if candidate.name == found.planted)
    return _controlled(found, _DEFECTS[defect])


def precisions(study: Study) -> list[str]:
    """Return a sentence about the cost of each precision compared with FP32."""
    return [_priced(each, study) for each in study.prices]


def references(study: Study) -> list[str]:
    """Return a sentence about each published number and the measured one."""
    return [
        f"{each.metric}, {each.model}: {interval(each.ours, digits=3)} measured here on {each.images}; "
        f"{each.published} in {each.source} of the paper."
        for each in study.references
    ]


def cautions(study: Study) -> list[str]:
    """Return what a reader must know before the numbers."""
    found = []
    if study.random:
        found.append(
            f"{', '.join(study.random)}: random weights. The models are untrained, so no number here is a finding."
        )
    if not study.measures_something:
        found.append(f"{NOTHING} {control(study)}")
    at = study.scores.reference
    untaught = [curve.candidate for curve in study.analysis.curves if curve.share_of_plane[at].high >= 1]
    if untaught and not study.random:
        found.append(f"{', '.join(untaught)}: no better than a plane. A model that learned little has little to lose.")
    if study.failures:
        names = ", ".join(image for image, _ in study.failures[:3])
        more = f" and {len(study.failures) - 3} more" if len(study.failures) > 3 else ""
        found.append(f"{len(study.failures)} image(s) could not be used and were left out: {names}{more}.")
    return found


def interval(estimate: Estimate, unit: str = "", digits: int = 1) -> str:
    """Format an estimate, for example ``12.3 % (10.1 to 14.2)``."""
    return f"{signed(estimate.value, digits)}{unit} ({signed(estimate.low, digits)} to {signed(estimate.high, digits)})"


def signed(value: float, digits: int = 1) -> str:
    """Format a number with a real minus sign, and zero without one."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text.lstrip("-")


def _range(study: Study) -> str:
    """Describe the sizes that a verdict is based on."""
    scores = study.scores
    times = [ratio(scores.sizes[index], scores.trained) for index in paper_range(scores.sizes, scores.trained)]
    ends = dict.fromkeys((f"{min(times):.2f}", f"{max(times):.2f}"))
    return f"at {' to '.join(ends)} times the training size"


def _compared(found: Comparison, where: str) -> str:
    points = interval(found.in_range, " points")
    if found.verdict == "holds":
        return f"Holds: {found.rival} loses {points} more than {found.candidate} {where}."
    if found.verdict == "reversed":
        back = Estimate(-found.in_range.value, -found.in_range.high, -found.in_range.low)
        return f"Reversed: {found.candidate} loses {interval(back, ' points')} more than {found.rival} {where}."
    return f"Not distinguishable: the loss of {found.rival} minus that of {found.candidate} is {points} {where}."


def _priced(found: Price, study: Study) -> str:
    sizes = study.scores.sizes
    error, share = found.worst_abs_rel, found.worst_delta1
    at = sizes[found.abs_rel.index(error)], sizes[found.delta1.index(share)]
    more = interval(found.in_range, " points", 2)
    chance = {
        "holds": "beyond chance",
        "reversed": "which is less, beyond chance",
        "not distinguishable": "within chance",
    }
    return (
        f"{found.candidate} compared with {found.original}: "
        f"AbsRel grows by {interval(error, ' %', 2)} at most, at {at[0]}; "
        f"\N{GREEK SMALL LETTER DELTA}1 moves by {interval(share, ' points', 2)} at worst, at {at[1]}; "
        f"{_range(study)} it loses {more} more, {chance[verdict(found.in_range)]}."
    )


def _controlled(found: Control, defect: str) -> str:
    points = interval(found.overall, " points")
    same = "equal at the training size" if found.at_training < 1e-6 else "not quite equal at the training size"
    if found.noticed:
        return (
            f"{found.original} with its positions {defect} loses {points} more, "
            f"and is {same}: the study notices a defect that shows only at other sizes."
        )
    return (
        f"{found.original} with its positions {defect} loses {points} more: "
        "within chance. This study cannot distinguish differences of that order."
    )
