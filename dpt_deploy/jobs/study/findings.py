"""A study in words: what was found, as it was found. Every sentence follows from intervals, none from hope."""

from __future__ import annotations

from dpt_deploy.jobs.study.outcome import Study
from dpt_deploy.jobs.study.prices import Price
from dpt_deploy.jobs.study.resolution import Comparison, Control, Curve, Verdict, paper_range, ratio, verdict
from dpt_deploy.measure.bootstrap import Estimate

NOTHING = "This study measures nothing: a planted defect went unnoticed."

_UNANIMOUS: dict[Verdict, str] = {
    "holds": "Transformers lose less than the convolutional network, as the paper says.",
    "reversed": "The convolutional network loses less: the reverse of what the paper says.",
    "not distinguishable": "No difference between transformers and the convolutional network can be told.",
}
_DEFECTS = {  # what was done to a control's positions
    "nearest": "repeated instead of interpolated",
    "tiled": "begun anew beyond the training grid instead of interpolated",
}


def headline(study: Study) -> str:
    """One sentence, for the top of a page."""
    if study.random:
        return "Random weights: a rehearsal, not a result."
    if not study.measures_something:
        return NOTHING
    verdicts = [comparison.verdict for comparison in study.analysis.comparisons]
    if not verdicts:
        return "What a larger image costs a model that was trained on smaller ones."
    if len(set(verdicts)) == 1:
        return _UNANIMOUS[verdicts[0]]
    return f"The paper's ordering holds for {verdicts.count('holds')} of {len(verdicts)} pairs."


def ordering(study: Study) -> list[str]:
    """One sentence for each pair that the paper would compare."""
    return [_compared(comparison, _range(study)) for comparison in study.analysis.comparisons]


def control(study: Study) -> str:
    """What became of the planted defect."""
    found = study.analysis.control
    if found is None:
        return f"No control was run: {study.no_control}."
    defect = next(candidate.control for candidate in study.candidates if candidate.name == found.planted)
    return _controlled(found, _DEFECTS[defect])


def precisions(study: Study) -> list[str]:
    """What each other precision costs beside FP32, and whether it keeps the graceful degradation."""
    return [_priced(each, study) for each in study.prices]


def references(study: Study) -> list[str]:
    """Each published number beside ours."""
    return [
        f"{each.metric}, {each.model}: {interval(each.ours, digits=3)} here on {each.images}; "
        f"{each.published} in {each.source} of the paper."
        for each in study.references
    ]


def cautions(study: Study) -> list[str]:
    """What a reader must know before any number."""
    found = []
    if study.random:
        found.append(f"{', '.join(study.random)}: random weights. Nothing was learned, so nothing here is a finding.")
    if not study.measures_something:
        found.append(f"{NOTHING} {control(study)}")
    untaught = [curve.candidate for curve in study.analysis.curves if _like_a_plane(study, curve)]
    if untaught and not study.random:
        found.append(f"{', '.join(untaught)}: not better than a plane. What has learned little has little to lose.")
    if study.failures:
        names = ", ".join(image for image, _ in study.failures[:3])
        more = f" and {len(study.failures) - 3} more" if len(study.failures) > 3 else ""
        found.append(f"{len(study.failures)} image(s) could not be used and are left out: {names}{more}.")
    return found


def interval(estimate: Estimate, unit: str = "", digits: int = 1) -> str:
    """``12.3 % (10.1 to 14.2)``."""
    return f"{signed(estimate.value, digits)}{unit} ({signed(estimate.low, digits)} to {signed(estimate.high, digits)})"


def signed(value: float, digits: int = 1) -> str:
    """A number with a real minus sign, and no sign on a zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text.lstrip("-")


def _like_a_plane(study: Study, curve: Curve) -> bool:
    return curve.share_of_plane[study.scores.reference].high >= 1


def _range(study: Study) -> str:
    """The sizes that a verdict rests on, in words."""
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
    return f"Not distinguishable: the loss of {found.rival} less that of {found.candidate} is {points} {where}."


def _priced(found: Price, study: Study) -> str:
    sizes = study.scores.sizes
    error, share = found.worst_abs_rel, found.worst_delta1
    at = sizes[found.abs_rel.index(error)], sizes[found.delta1.index(share)]
    more = interval(found.in_range, " points", 2)
    said = {
        "holds": "beyond chance",
        "reversed": "which is less, beyond chance",
        "not distinguishable": "within chance",
    }
    return (
        f"{found.candidate} beside {found.original}: AbsRel grows by {interval(error, ' %', 2)} at most, at {at[0]}; "
        f"\N{GREEK SMALL LETTER DELTA}1 moves by {interval(share, ' points', 2)} at worst, at {at[1]}; "
        f"{_range(study)} it loses {more} more, {said[verdict(found.in_range)]}."
    )


def _controlled(found: Control, defect: str) -> str:
    points = interval(found.overall, " points")
    same = "the same at the training size" if found.at_training < 1e-6 else "not quite the same at the training size"
    if found.noticed:
        return (
            f"{found.original} with its positions {defect} loses {points} more, "
            f"and is {same}: the study notices a defect that only shows away from it."
        )
    return (
        f"{found.original} with its positions {defect} loses {points} more: "
        "within chance. Differences of that order cannot be told here."
    )
