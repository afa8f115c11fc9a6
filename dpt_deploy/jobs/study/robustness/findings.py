"""Sentences about a study of conditions, from its document. Each follows from intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpt_deploy.jobs.study.findings import interval
from dpt_deploy.measure.bootstrap import Estimate

Document = Mapping[str, Any]

OTHER_TASKS = "tasks that are not scored"  # in ``about``, only where the network has them
_UNDER = {"corruption-study": "corruption", "attack-study": "attack"}
_ANSWERS = {
    "loses more": "{subject} loses more than {original} under {under}.",
    "loses less": "{subject} loses less than {original} under {under}.",
    "not distinguishable": "Under {under}, no difference between {subject} and {original} can be distinguished.",
}
_EFFECTS = {  # of a control that was noticed, and of one that was not
    "error": ("raises the error of every model", "does not raise the error of every model"),
    "target": ("brings every model nearer to the target", "does not bring every model nearer to the target"),
}


def headline(document: Document) -> str:
    """Return the headline of the page: the answer about precisions if there is one."""
    if randomly(document):
        return "Random weights: a trial run, not a result."
    if not document["measures_something"]:
        return "This study is not sensitive enough: its control has no effect."
    if document["kind"] == "attack-study":
        return _transfer(document)
    extras, under = document["extras"], under_of(document)
    if not extras:
        return f"Accuracy under {under}."
    verdicts = {each["verdict"] for each in extras}
    if verdicts == {"not distinguishable"}:
        return f"No other precision loses distinguishably more than FP32 under {under}."
    more = [each["subject"] for each in extras if each["verdict"] == "loses more"]
    return f"{', '.join(more)}: more is lost than in FP32 under {under}." if more else f"FP32 loses most under {under}."


def _transfer(document: Document) -> str:
    if document["control"] and document["control"]["effect"] == "target":
        return "The attack on the network in PyTorch brings every exported file nearer to the target."
    safe = [each["subject"] for each in document["summary"] if each["growth"]["low"] <= 0]
    if safe:
        return f"The attack raises the error, but not distinguishably that of {', '.join(safe)}."
    return "The attack on the network in PyTorch raises the error of every exported file."


def under_of(document: Document) -> str:
    """The noun of the conditions: corruption or attack."""
    return _UNDER[document["kind"]]


def randomly(document: Document) -> list[str]:
    """Subjects with random weights."""
    return [each["subject"] for each in document["subjects"] if each["random"]]


def cautions(document: Document) -> list[str]:
    """Return what a reader must know before the numbers."""
    found = []
    if names := randomly(document):
        found.append(f"{', '.join(names)}: random weights. The models are untrained, so no number here is a finding.")
    if not document["measures_something"]:
        found.append(f"This study is not sensitive enough. {control(document)}")
    if failures := document["failures"]:
        found.append(f"{len(failures)} image(s) could not be used and were left out.")
    return found


def scored_task(document: Document) -> list[str]:
    """Return a sentence about the task that was attacked and scored, if the network has others."""
    about = document["about"]
    if OTHER_TASKS not in about:
        return []
    return [f"Of this network for several tasks, {about['task']} is attacked and scored; {about[OTHER_TASKS]} is not."]


def answers(document: Document) -> list[str]:
    """Return a sentence about each precision: does it lose more than FP32 under the conditions?"""
    return [
        f"{_ANSWERS[each['verdict']].format(**each, under=under_of(document))} Growth of the error minus that of "
        f"{each['original']}: {text(each['overall'], ' points', 2)}, averaged over all conditions."
        f"{_share(document, each)}"
        for each in document["extras"]
    ]


def _share(document: Document, extra: Mapping[str, Any]) -> str:
    """The growth as a share of that of the original, for attacks: corruptions may grow no error to compare with."""
    if document["kind"] != "attack-study":
        return ""
    return f" Its growth is {text(extra['share'], ' %')} of that of {extra['original']}."


def losses(document: Document) -> list[str]:
    """Return a sentence about each subject: its error on clean images, and what grows it most."""
    found = []
    for each in document["summary"]:
        ranked = sorted(each["growth_by_name"].items(), key=lambda item: item[1]["value"], reverse=True)
        worst = ", ".join(f"{name} {text(estimate)}" for name, estimate in ranked[:3])
        ratios = f"mRR {text(each['mrr'], ' %')}"
        ratios += f", mCE {text(each['mce'], ' %')}" if each["mce"] else ""
        found.append(
            f"{each['subject']}: error {text(each['clean'], ' %')} on clean images; it grows by "
            f"{text(each['growth'], ' points')} on average, most under {worst}. {ratios}."
        )
    return found


def control(document: Document) -> str:
    """Return a sentence about the control."""
    found = document["control"]
    if not found:
        return "No control was run."
    each = ", ".join(f"{name} {text(estimate, ' points')}" for name, estimate in found["growth"].items())
    effect = _EFFECTS[found["effect"]][0 if found["noticed"] else 1]
    return f"Control: {found['condition']} {effect} ({each})."


def sentences(document: Document) -> list[str]:
    """Return all sentences."""
    return [*scored_task(document), *answers(document), *losses(document), control(document)]


def text(estimate: Mapping[str, float], unit: str = "", digits: int = 1) -> str:
    """Format the dictionary of an estimate with its interval."""
    return interval(Estimate(**estimate), unit, digits)
