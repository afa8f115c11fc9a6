"""Markdown for studies of conditions; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from dpt_deploy.jobs.study.robustness import findings
from dpt_deploy.report.drawing import lazy_drawing
from dpt_deploy.report.robustness.numbers import extra_table, growth_table, level_table, target_table
from dpt_deploy.report.sections import Result, Section, machine, markdown, source


def _study(result: Result, folder: str) -> str:
    data, target = result.data, target_table(result.data)
    models = ", ".join(dict.fromkeys(f"{each['model']} at {each['size']}" for each in data["subjects"]))
    steered = " steered to a target" if target else ""
    about = f"### {models}, {data['data']['images']} images of {data['data']['name']}{steered}\n\n"
    lines = "".join(f"- {line}\n" for line in [*findings.cautions(data), *findings.sentences(data)])
    tables = [markdown(growth_table(data))]
    tables += [markdown(extra_table(data))] if data["extras"] else []
    tables += [markdown(target)] if target else []
    levels = f"<details><summary>The error at every level</summary>\n\n{markdown(level_table(data))}\n</details>\n"
    picture = f"![growth of the error by condition]({folder}/{result.picture})\n"
    where = f"{about}{machine(data['environment'])}. The error is: {data['about']['error']}.\n"
    return "\n".join([where, lines, picture, *tables, levels, source(result, folder)])


ROBUSTNESS_KINDS: dict[str, Section] = {
    "corruption-study": Section(
        "Corruptions: accuracy by precision",
        "`dpt-deploy study --corruptions all --precision fp32,fp16,int8-cpu`: damaged images in five severities, next\n"
        "to the undamaged ones. The error is DEE, the mean of AbsRel and 1 - δ1. Growth is the mean error minus that\n"
        "on undamaged images, in points. Intervals are 95 % (paired bootstrap over images).",
        _study,
        lazy_drawing("dpt_deploy.report.figures.robustness_figure:draw_robustness"),
    ),
    "attack-study": Section(
        "Attacks: error of what is deployed",
        "`dpt-deploy attack`: every image is changed by at most some levels of 255 so that the error of the network\n"
        "in PyTorch rises, with knowledge of its weights. The exported files are scored on the same images. Noise of\n"
        "equal size is the control. Growth is the mean error minus that on clean images, in points. Intervals are\n"
        "95 % (paired bootstrap over images).",
        _study,
        lazy_drawing("dpt_deploy.report.figures.robustness_figure:draw_robustness"),
    ),
}
