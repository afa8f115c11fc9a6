"""The figure and the page: well formed, self-contained, deterministic, and readable in a browser."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from support.study import in_precisions, made

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[study]'")

from PIL import Image

from dpt_deploy.core.size import Size
from dpt_deploy.report import study_page as report
from dpt_deploy.report.exhibits import SIDE, Exhibit, View, depth_picture, photograph
from dpt_deploy.report.figures import resolution_figure as plots
from dpt_deploy.report.html import Html, el, join
from dpt_deploy.report.study_page import Gallery

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NARROW = 375  # CSS pixels of a small phone
_VOID = {"meta", "img"}


def exhibit(name="scene-1", candidates=("hybrid", "vit", "conv"), sizes=("192", "320", "512")):
    rng = np.random.default_rng(0)
    truth = np.tile(np.linspace(0.05, 1, 64, dtype=np.float32)[:, None], (1, 64))
    views = tuple(View(candidate, size, truth[::-1], 0.125) for candidate in candidates for size in sizes)
    return Exhibit(name, "room", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), truth, views)


def gallery():
    worst = {name: (exhibit("scene-1", (name,), ("192",)),) for name in ("hybrid", "vit", "conv")}
    return Gallery((exhibit(),), worst)


@pytest.fixture(scope="module")
def page():
    return report.render(made(), gallery())


class Nesting(html.parser.HTMLParser):
    """List the faults of a page: tags that do not close, references that leave it, ids that are there twice."""

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.ids, self.uses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "script":
            self.faults.append("a script")
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not str(value).startswith(("data:image/", "#")):
                self.faults.append(f"{name} leaves the page: {value}")
        self.uses += [value[1:] for name, value in attrs if name.endswith("href") and value.startswith("#")]
        self.uses += re.findall(r"url\(#([^)]+)\)", " ".join(filter(None, values.values())))
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img" and not values.get("alt"):
            self.faults.append("a picture without words")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


def faults(text):
    found = Nesting()
    found.feed(text)
    found.close()
    twice = {name for name in found.ids if found.ids.count(name) > 1}
    return [
        *found.faults,
        *(f"<{tag}> is never closed" for tag in found.open),
        *(f"id {name} twice" for name in sorted(twice)),
        *(f"#{name} is nowhere" for name in sorted(set(found.uses) - set(found.ids))),
        *(f"an address: {address}" for address in re.findall(r"(?:url\(|@import\s*)['\"]?(?:https?:)?//[^)]*", text)),
    ]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_needs_nothing_else(page):
    assert page.startswith("<!doctype html>")
    assert faults(page) == []


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ("<p><b>x</p></b>", "</p> closes nothing"),
        ("<div><p>x</p>", "<div> is never closed"),
        ('<img src="https://example.org/x.png" alt="x">', "src leaves the page: https://example.org/x.png"),
        ('<link href="style.css">', "href leaves the page: style.css"),
        ("<script></script>", "a script"),
        ('<img src="data:image/png;base64,">', "a picture without words"),
        ('<g id="a"></g><g id="a"></g>', "id a twice"),
        ('<use xlink:href="#a"></use>', "#a is nowhere"),
        ('<g clip-path="url(#b)"></g>', "#b is nowhere"),
        ("<style>@import '//fonts.example.org'</style>", "an address: @import '//fonts.example.org'</style>"),
    ],
)
def test_a_broken_page_would_be_noticed(broken, fault):
    assert fault in faults(broken)


def test_the_page_says_what_was_found_and_how(page):
    text = " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())
    study = made()
    for part in (
        "Transformers lose less than the convolutional network, as in the paper.",
        "Holds: conv loses",
        "the study notices a defect",
        "percentile bootstrap over images",
        "Largest errors",
        study.candidates[0].sha256[:16],
        "a processor",
    ):
        assert part in text


def test_every_number_of_the_figure_is_on_the_page(page):
    for row in made().rows():
        assert f"{row['abs_rel']:.4f}" in page


def test_cautions_stand_before_the_numbers():
    page = report.render(made(random=True, failures=[("bad-image", "cut short")]), gallery())
    assert page.index("The models are untrained") < page.index("Accuracy against resolution")
    assert page.index("bad-image") < page.index("Accuracy against resolution")


def test_names_from_outside_cannot_become_markup():
    study = made()
    evil = '<script>alert("x")</script>'
    candidates = tuple(replace(candidate, weights=evil, file=evil) for candidate in study.candidates)
    page = report.render(replace(study, candidates=candidates, failures=((evil, evil),)), gallery())
    assert "<script" not in page
    assert faults(page) == []
    assert "&lt;script&gt;" in page


def test_the_same_study_is_the_same_page(page):
    assert report.render(made(), gallery()) == page


def test_a_study_without_rival_control_and_pictures_is_a_page_as_well():
    study = made({"vit": (0, 5, 10, 25)}, no_control="it was not requested")
    page = report.render(study, Gallery((), {}))
    assert faults(page) == []
    assert "No control was run" in page
    assert "Outputs of the models" not in page


# --- markup -----------------------------------------------------------------------------------------------------------


def test_text_is_escaped_and_markup_is_not():
    assert el("p", "a < b", Html("<b>c</b>"), class_="x", aria_label='"') == (
        '<p class="x" aria-label="&quot;">a &lt; b<b>c</b></p>'
    )
    assert join(["&", el("img", src="x")]) == '&amp;<img src="x">'


# --- pictures ---------------------------------------------------------------------------------------------------------


def decoded(uri):
    kind, data = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)


def test_near_is_bright_and_unknown_is_grey():
    ramp = np.tile(np.linspace(0, 1, 100), (100, 1))
    ramp[:20] = np.nan
    picture = decoded(depth_picture(ramp, (0.0, 1.0)))
    assert picture[60, 95].sum() > picture[60, 50].sum() > picture[60, 4].sum()
    assert np.abs(picture[5, 50] - 128).max() < 8


def test_one_scale_makes_equal_depth_equal_in_every_picture():
    flat = np.full((40, 40), 0.5)
    first, second = (decoded(depth_picture(flat, (0.0, 1.0))), decoded(depth_picture(flat, (0.0, 0.5))))
    assert np.abs(first[20, 20] - decoded(depth_picture(flat * 1, (0.0, 1.0)))[20, 20]).max() == 0
    assert np.abs(first[20, 20] - second[20, 20]).max() > 40


def test_pictures_are_small_and_keep_their_shape():
    picture = decoded(photograph(np.zeros((600, 1200, 3), np.uint8)))
    assert picture.shape == (SIDE // 2, SIDE, 3)
    assert decoded(photograph(np.zeros((40, 50, 3), np.uint8))).shape == (40, 50, 3)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_both_panels_are_svg_in_the_pages_own_colours():
    for panel in plots.PANELS:
        text = plots.panel_svg(plots.chart(made()), panel)
        root = ET.fromstring(text)
        assert "width" not in root.attrib
        assert "viewBox" in root.attrib
        words = " ".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("text"))
        assert all(name in words for name in ("hybrid", "vit", "conv", "vit-nearest", "192", "512"))
        assert "var(--series-0)" in text
        assert "DejaVu" not in text
        assert not [colour for colour in (*plots.COLOURS, plots.INK, plots.QUIET) if colour in text]


def test_labels_of_curves_that_meet_are_moved_apart():
    study = made(dict.fromkeys(("hybrid", "vit", "conv", "vit-nearest"), (0, 5, 10, 25)), noise=0.0)
    root = ET.fromstring(plots.panel_svg(plots.chart(study), "loss"))
    heights = [
        float(re.findall(r"[-\d.]+", node.attrib["transform"])[-1])
        for node in root.iter()
        if node.tag.endswith("text") and "".join(node.itertext()).strip() in study.scores.candidates
    ]
    assert len(heights) == 4
    assert np.diff(sorted(heights)).min() > 10


def test_the_figure_is_written_in_both_forms_and_the_same_twice(tmp_path):
    paths = [tmp_path / name for name in ("a.svg", "b.svg", "a.png")]
    plots.save_figure(plots.chart(made()), "Accuracy", paths)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[2]) as picture:
        assert picture.size[0] > 2000
    ET.parse(paths[0])


def test_a_size_with_two_sides_is_labelled_as_such():
    sides = (Size(480, 640), Size(576, 768), Size(720, 960), Size(960, 1280))
    study = made()
    study = replace(study, scores=replace(study.scores, sizes=sides, trained=sides[0]))
    assert "480x640" in plots.panel_svg(plots.chart(study), "loss")


def test_a_model_keeps_its_colour_in_every_precision():
    study = in_precisions()
    lines = plots.chart(study).lines
    assert len({line.colour for line in lines}) == 2
    assert len({(line.colour, line.dash, line.marker) for line in lines}) == 4
    assert [line.leads for line in lines] == [True, False, True, False]
    root = ET.fromstring(plots.panel_svg(plots.chart(study), "error"))
    words = ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]
    assert [words.count(name) for name in ("vit", "conv", "fp32", "int8-cpu", "vit int8-cpu")] == [1, 1, 1, 1, 0]


def test_the_page_says_what_precisions_cost_where_there_are_several():
    text = report.render(in_precisions(), Gallery((), {}))
    assert "Loss of accuracy by precision" in text
    assert "vit int8-cpu compared with vit: AbsRel grows by 1.0" in text
    assert "Loss of accuracy by precision" not in report.render(made(), Gallery((), {}))


# --- in a browser -----------------------------------------------------------------------------------------------------

PROBE = """<!doctype html><iframe id="page" style="width: {width}px; height: 800px; border: 0"></iframe><script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const root = frame.contentDocument.documentElement;
  const pictures = [...root.querySelectorAll("img")];
  document.body.textContent = "RESULT" + JSON.stringify({{
    overflow: root.scrollWidth - frame.clientWidth, height: root.scrollHeight, title: frame.contentDocument.title,
    broken: pictures.filter(each => each.complete && !each.naturalWidth).length,
    pictures: pictures.length, figures: root.querySelectorAll("svg").length,
  }}) + "END";
}};
frame.srcdoc = {page};
</script>"""


def in_browser(page, folder, width):
    path = folder / "probe.html"
    path.write_text(PROBE.format(width=width, page=json.dumps(page).replace("</", "<\\/")))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=8000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(re.search(r"RESULT(.*)END", done.stdout).group(1))


@pytest.mark.skipif(not CHROMIUM, reason="no browser: chromium, chromium-browser and google-chrome are not installed")
@pytest.mark.parametrize("width", [NARROW, 1200])
def test_a_browser_shows_the_page_without_sideways_scrolling(page, tmp_path, width):
    found = in_browser(page.replace('loading="lazy"', ""), tmp_path, width)
    assert found["overflow"] <= 0
    assert found["title"].startswith("Transformers lose less")
    assert found["broken"] == 0
    assert found["pictures"] == page.count("<img ")
    assert found["figures"] == 3
    assert found["height"] > 1500


@pytest.mark.skipif(not CHROMIUM, reason="no browser: chromium, chromium-browser and google-chrome are not installed")
def test_a_page_that_is_too_wide_would_be_noticed(page, tmp_path):
    wide = page.replace("<footer>", '<div style="width: 900px">x</div><footer>')
    assert in_browser(wide, tmp_path, NARROW)["overflow"] > 100
