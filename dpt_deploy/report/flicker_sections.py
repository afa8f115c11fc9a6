"""Markdown for the flicker of videos; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.sections import Result, Section, machine, markdown, source


def _flicker(result: Result, folder: str) -> str:
    data = result.data
    heads = (
        "camera",
        "flicker",
        "every frame aligned by the truth",
        "`--stable`",
        "a map that never changes",
        "AbsRel",
        "AbsRel `--stable`",
        "δ1",
        "δ1 `--stable`",
    )
    rows = []
    for each in data["moves"]:
        plain, stable, frozen = (each["mean"][key] for key in ("plain", "stable", "frozen"))
        flickers = [
            _percent(plain["whole"]),
            _percent(plain["each"]),
            f"{_percent(stable['whole'])} ({stable['whole'] / plain['whole']:.2f} times)",
            _percent(frozen["whole"]),
        ]
        accuracy = [f"{score['abs_rel']:.4f}" for score in (plain, stable)]
        accuracy += [f"{100 * score['delta1']:.1f} %" for score in (plain, stable)]
        rows.append((each["move"], *flickers, *accuracy))
    scenes = len(data["moves"][0]["scenes"])
    where = (
        f"`{data['model']}` on {scenes} scenes, {data['frames']} frames of {data['size']} each. "
        f"{machine(data['environment'])}.\n"
    )
    return "\n".join([where, markdown(TextTable(heads, tuple(rows))), source(result, folder)])


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


FLICKER_KINDS: dict[str, Section] = {
    "flicker": Section(
        "Flicker of videos",
        "`python benchmarks/flicker.py`: rendered camera moves with exact depth. Flicker is the mean change of "
        "a pixel's error from frame to frame, over the range of the true inverse depth; one scale and shift align all. "
        "It also counts a map that stays behind its scene: a map that never changes shows how much of that there is. "
        "AbsRel and δ1 follow the paper's zero-shot protocol, frame by frame.",
        _flicker,
    ),
}
