"""The page of a study: one file without scripts or network access, for light and dark themes and any width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpt_deploy.jobs.study import findings
from dpt_deploy.jobs.study.findings import interval, signed
from dpt_deploy.jobs.study.outcome import Candidate, Study
from dpt_deploy.jobs.study.resolution import paper_range
from dpt_deploy.report.exhibits import Exhibit, View, depth_picture, photograph
from dpt_deploy.report.figures.resolution_figure import COLOURS, Difference, chart, colours, differences_svg, panel_svg
from dpt_deploy.report.html import Html, el, join, table, whole_page
from dpt_deploy.report.style import QUIET

HARDEST = 3  # images shown of each model


@dataclass(frozen=True)
class Gallery:
    """Images of the page: some seen by every model at several sizes, and each model's worst at the training size."""

    exhibits: tuple[Exhibit, ...]
    worst: dict[str, tuple[Exhibit, ...]]


def render(study: Study, gallery: Gallery) -> str:
    """Render the page as HTML."""
    title = findings.headline(study)
    main = el(
        "main",
        _opening(study, title),
        _models(study),
        _curves(study),
        _prices(study),
        _differences(study),
        _exhibits(study, gallery.exhibits),
        _worst(study, gallery.worst),
        _method(study),
        _provenance(study),
        el("footer", "Written by dpt-deploy study. This page is a single file."),
    )
    return whole_page(title, main)


def _opening(study: Study, title: str) -> Html:
    kicker = f"Resolution study \N{MIDDLE DOT} {len(study.scores.images)} images \N{MIDDLE DOT} {study.data.name}"
    lead = (
        f"How much accuracy do models trained at {study.scores.trained} pixels lose on larger images? Figure 4 of "
        "Ranftl et al. (ICCV 2021) answers this for large models. This page answers it for the exported files below, "
        "by the same measure."
    )
    warnings = [el("p", text, class_="warning", role="note") for text in findings.cautions(study)]
    verdicts = zip(findings.ordering(study), study.analysis.comparisons, strict=True)
    items = [_verdict(text, comparison.verdict) for text, comparison in verdicts]
    found = [el("ul", *items, class_="findings")] if items else []
    return el(
        "header", el("p", kicker, class_="kicker"), el("h1", title), *warnings, el("p", lead, class_="lead"), *found
    )


def _verdict(text: str, verdict: str) -> Html:
    word, _, rest = text.partition(":")
    return el("li", el("b", f"{word}:"), rest, class_=verdict.replace(" ", "-"))


def _models(study: Study) -> Html:
    cards = [_card(study, candidate, colours(study)[candidate.name]) for candidate in study.models]
    return el("section", *cards, class_="models", aria_label="The models")


def _card(study: Study, candidate: Candidate, colour: str) -> Html:
    curve, at = study.curve(candidate.name), study.scores.reference
    inside = paper_range(study.scores.sizes, study.scores.trained)
    first, last = study.scores.sizes[inside[0]], study.scores.sizes[inside[-1]]
    what = f"{candidate.family}, {candidate.precision} on {candidate.runtime}"
    facts = [
        ("AbsRel at " + str(study.scores.trained), f"{curve.error[at].value:.3f}", "large"),
        (f"loss at {last}", f"{signed(curve.loss[inside[-1]].value)} %", "large"),
        ("share of the plane's error", f"{100 * curve.share_of_plane[at].value:.0f} %", ""),
        (f"mean loss, {first} to {last}", f"{signed(curve.in_range.value)} %", ""),
    ]
    pairs = [join([el("dt", name), el("dd", value, class_=kind)]) for name, value, kind in facts]
    return el(
        "article",
        el("h3", candidate.name),
        el("p", what, class_="what"),
        el("dl", *pairs),
        class_="model",
        style=_coloured(colour),
    )


def _curves(study: Study) -> Html:
    shown = chart(study)
    notes = (
        "Increase of the mean error compared with the training size. Bands are 95 % intervals.",
        "Absolute errors: a model that loses more may still be the better one. Bands are wide because images differ "
        "in difficulty; this cancels in the comparison of models below. "
        f"The error of the best plane of each image is {study.analysis.plane.value:.3f} on average.",
    )
    panels = [
        el("figure", Html(panel_svg(shown, "loss")), el("figcaption", notes[0])),
        el("figure", Html(panel_svg(shown, "error")), el("figcaption", notes[1])),
    ]
    numbers = el("details", el("summary", "Every number of the figure"), _numbers(study))
    return el("section", el("h2", "Accuracy against resolution"), el("div", *panels, class_="panels"), numbers)


def _numbers(study: Study) -> Html:
    columns = ["", *(f"{size} (\N{MULTIPLICATION SIGN}{times:.2f})" for times, size in study.ticks())]
    curves = study.analysis.curves
    losses = [[curve.candidate, *map(interval, curve.loss)] for curve in curves]
    errors = [[curve.candidate, *(interval(each, digits=4) for each in curve.error)] for curve in curves]
    return join(
        [
            table(columns, losses, caption="Loss in percent, with its 95 % interval"),
            table(columns, errors, caption="AbsRel, with its 95 % interval"),
        ]
    )


def _prices(study: Study) -> Html:
    if not study.prices:
        return Html("")
    columns = ["", *(str(size) for size in study.scores.sizes)]
    errors = [[each.candidate, *(interval(found, digits=2) for found in each.abs_rel)] for each in study.prices]
    shares = [[each.candidate, *(interval(found, digits=2) for found in each.delta1)] for each in study.prices]
    sentences = [el("li", text) for text in findings.precisions(study)]
    tables = [
        table(columns, errors, caption="Increase of AbsRel compared with FP32, in percent"),
        table(columns, shares, caption="Increase of \N{GREEK SMALL LETTER DELTA}1 compared with FP32, in points"),
    ]
    return el(
        "section",
        el("h2", "Loss of accuracy by precision"),
        el("ul", *sentences, class_="findings"),
        el("details", el("summary", "At every size"), *tables),
    )


def _differences(study: Study) -> Html:
    analysis, tints = study.analysis, colours(study)
    rows = [
        Difference(f"{each.rival} \N{MINUS SIGN} {each.candidate}", each.in_range, tints[each.candidate])
        for each in analysis.comparisons
    ]
    if analysis.control:
        rows.append(Difference("control \N{MINUS SIGN} " + analysis.control.original, analysis.control.overall, QUIET))
    figure = [el("figure", Html(differences_svg(rows, "points of loss")), class_="differences")] if rows else []
    text = (
        "Both sides of a difference use the same resampled images, so the difficulty of an image cancels. A difference "
        "is significant if its whole interval lies on one side of zero."
    )
    return el(
        "section",
        el("h2", "Comparison of models"),
        el("p", text),
        *figure,
        el("h3", "Control: does this study notice a planted defect?"),
        el("p", findings.control(study)),
    )


def _exhibits(study: Study, exhibits: Sequence[Exhibit]) -> Html:
    if not exhibits:
        return Html("")
    text = (
        "Images of median difficulty, one of each kind, or from easy to hard if there is only one kind. Bright means "
        "near. All pictures of an image are aligned to its ground truth and share its colours. The number is AbsRel."
    )
    shown = [_exhibit(exhibit, colours(study)) for exhibit in exhibits]
    return el("section", el("h2", "Outputs of the models"), el("p", text), *shown)


def _exhibit(exhibit: Exhibit, tints: dict[str, str]) -> Html:
    scale = exhibit.scale()
    given = el("div", _image(exhibit), _truth(exhibit), class_="given")
    rows = []
    for name in dict.fromkeys(view.candidate for view in exhibit.views):
        views = [view for view in exhibit.views if view.candidate == name]
        pictures = [_seen(view, scale, f"{view.size}: {view.error:.3f}") for view in views]
        style = f"{_coloured(tints[name])}; --columns: {len(views)}"
        rows.append(el("div", el("h3", name), *pictures, class_="row", style=style))
    return el("article", given, el("div", *rows), class_="exhibit")


def _worst(study: Study, worst: dict[str, tuple[Exhibit, ...]]) -> Html:
    if not worst:
        return Html("")
    parts = [el("h2", "Largest errors")]
    parts.append(el("p", f"The images with the largest errors of each model at {study.scores.trained} pixels."))
    for name, exhibits in worst.items():
        parts.append(el("h3", name, style=f"color: var({_variable(colours(study)[name])})"))
        for exhibit in exhibits:
            seen = [_seen(view, exhibit.scale(), f"AbsRel {view.error:.3f}") for view in exhibit.views]
            cells = [_image(exhibit), _truth(exhibit), *seen]
            parts.append(el("div", *cells, class_="worst"))
    return el("section", *parts)


def _image(exhibit: Exhibit) -> Html:
    return _picture(photograph(exhibit.image), f"{exhibit.kind}, {exhibit.name}" if exhibit.kind else exhibit.name)


def _truth(exhibit: Exhibit) -> Html:
    return _picture(depth_picture(exhibit.truth, exhibit.scale()), "ground truth")


def _seen(view: View, scale: tuple[float, float], note: str) -> Html:
    return _picture(depth_picture(view.nearness, scale), note, f"depth predicted by {view.candidate} at {view.size}")


def _picture(source: str, note: str, alt: str = "") -> Html:
    return el("figure", el("img", src=source, alt=alt or note, loading="lazy"), el("figcaption", note))


def _method(study: Study) -> Html:
    facts = [
        ("images", f"{len(study.scores.images)} of {study.data.name}"),
        ("measure", study.data.protocol),
        ("loss", f"mean AbsRel at a size divided by mean AbsRel at {study.scores.trained}, minus one, in percent"),
        ("intervals", f"{study.interval}, seed {study.seed}"),
        (
            "the paper's range",
            "sizes up to 1.67 times the training size (416 to 640 for 384); verdicts are based on it",
        ),
        (
            "plane",
            "the plane in inverse depth that fits each ground truth best: a baseline that uses nothing of the image",
        ),
    ]
    facts += [("published", text) for text in findings.references(study)]
    return el("section", el("h2", "How it was measured"), _facts(facts))


def _provenance(study: Study) -> Html:
    rows = [
        [
            candidate.name,
            candidate.file,
            candidate.weights,
            candidate.runtime,
            candidate.precision,
            candidate.sha256[:16],
        ]
        for candidate in study.candidates
    ]
    files_table = table(["model", "file", "weights", "runtime", "precision", "sha256"], rows)
    environment = [(name, _flat(value)) for name, value in study.environment.items() if value]
    environment.append(("data", study.data.key))
    failures = [(image, reason) for image, reason in study.failures]
    parts = [el("h2", "Provenance"), files_table, el("details", el("summary", "The machine"), _facts(environment))]
    if failures:
        parts.append(el("details", el("summary", f"{len(failures)} images left out"), _facts(failures)))
    return el("section", *parts)


def _facts(rows: Sequence[tuple[str, str]]) -> Html:
    lines = [el("tr", el("th", name, scope="row"), el("td", value)) for name, value in rows]
    return el("div", el("table", el("tbody", *lines), class_="facts"), class_="scroll", tabindex="0")


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _coloured(colour: str) -> str:
    return f"--colour: var({_variable(colour)})"


def _variable(colour: str) -> str:
    return f"--series-{COLOURS.index(colour)}" if colour in COLOURS else "--quiet"
