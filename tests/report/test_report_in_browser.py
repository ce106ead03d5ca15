"""The page in a real headless browser: what is drawn, what a click does, and that nothing fails."""

import dataclasses
import math
from pathlib import Path

import pytest

from codesign.report import Breakdown, BreakdownRow, ReportData, StatusCounts, TrialState, render
from tests.report.report_browser import Dom, executable, screenshot, visit
from tests.report.report_fakes import fake_report, with_stages_and_chips
from tests.report.test_report_page import EVIL, with_texts

pytestmark = pytest.mark.skipif(executable() is None, reason="no chromium here: apt-get install chromium")


def drawable(data: ReportData) -> int:
    """Count the trials that the default axes can show: completed ones, and gated ones in the strip."""
    return sum(trial.state is not TrialState.FAILED for trial in data.trials)


def test_everything_is_drawn_and_nothing_complains(tmp_path: Path) -> None:
    data = fake_report(120)
    seen = visit(render(data), tmp_path, address="#near=0")
    dom = seen.dom
    assert dom.root.get("data-ready") == "1"
    assert "data-error" not in dom.root
    assert seen.console == ()
    assert int(
        next(e.attributes["data-points"] for e in dom.elements if "data-points" in e.attributes)
    ) == drawable(data)
    picture = [e for e in dom.by_class("pt-front") if e.attributes.get("r") == "5.5"]
    listed = {
        e.attributes["data-trial"] for e in dom.elements if e.tag == "tr" and "data-trial" in e.attributes
    }
    assert listed == {trial.label for trial in data.front} | {"0"}
    assert len(picture) >= len([trial for trial in data.front if not trial.reference])
    assert len(dom.by_class("step")) == 1
    assert [e.words for e in dom.by_class("mark") if e.words in ("reference", "knee")] == [
        "reference",
        "knee",
    ]
    knee = next(trial.number for trial in data.trials if trial.knee)
    assert dom.root["data-trial"] == str(knee)
    assert len(dom.by_class("name")) == 6
    assert len(dom.by_class("hv")) == 1
    assert dom.by_id("outcomes").words.count("must hold") == data.counts.gated
    assert dom.by_id("parallel").words.startswith("Validation accuracy")


def test_the_address_selects_a_design_and_the_axes(tmp_path: Path) -> None:
    data = fake_report(120)
    chosen = data.front[3]
    address = (
        f"#trial={chosen.number}&x=area_mm2&y=storage_bits&logy=1&gated=0&step=training&by=phase&unknown=1"
    )
    dom = visit(render(data), tmp_path, address=address).dom
    assert "data-error" not in dom.root
    assert dom.root["data-trial"] == str(chosen.number)
    rings = [e for e in dom.by_class("pt-picked") if "data-trial" in e.attributes]
    assert [e.attributes["data-trial"] for e in rings] == [str(chosen.number)]
    assert [e.attributes["data-trial"] for e in dom.by_class("picked")] == [str(chosen.number)]
    assert f"Trial {chosen.number}" in dom.by_id("card").words
    titles = [e.words for e in dom.by_class("title")]
    assert titles[:2] == ["Area (mm²)", "Storage"]
    assert len(dom.by_class("pt-gated")) == 1  # the legend's own
    legend = {e.words for e in dom.by_class("legend")}
    assert any("weight gradient" in words for words in legend)


def test_an_outlier_on_the_front_does_not_hide_the_others(tmp_path: Path) -> None:
    data = fake_report(120)
    far = next(trial for trial in data.front if not (trial.knee or trial.reference))
    trials = tuple(
        dataclasses.replace(t, scores={**t.scores, "validation_accuracy": 0.1}) if t is far else t
        for t in data.trials
    )
    html = render(dataclasses.replace(data, trials=trials))
    drawn = {}
    for near in (0, 1):
        dom = visit(html, tmp_path, address=f"#near={near}").dom
        drawn[near] = int(
            next(e.attributes["data-points"] for e in dom.elements if "data-points" in e.attributes)
        )
        outside = drawable(data) - drawn[near]
        assert ("Zoomed in" in dom.by_id("scatter-note").words) == (near == 1)
    assert f"Zoomed in: {outside} trial" in dom.by_id("scatter-note").words
    assert drawn[0] == drawable(data) > drawn[1] > 0.5 * drawn[0]
    picked = visit(html, tmp_path, address=f"#near=1&trial={far.number}").dom
    assert [e for e in picked.by_class("pt-picked") if e.attributes.get("data-trial") == str(far.number)]


def _points(dom: Dom) -> int:
    return int(next(e.attributes["data-points"] for e in dom.elements if "data-points" in e.attributes))


def test_stopped_trials_have_a_mark_and_a_place_of_their_own(tmp_path: Path) -> None:
    data = with_stages_and_chips(fake_report(120))
    html = render(data)
    stopped = [t for t in data.trials if t.state is TrialState.STOPPED]
    untrained = [t for t in stopped if "validation_accuracy" not in t.scores]
    assert len(stopped) > len(untrained) > 0
    seen = visit(html, tmp_path, address=f"#near=0&trial={stopped[-1].number}")
    assert "data-error" not in seen.dom.root
    assert seen.console == ()
    assert _points(seen.dom) == drawable(data)
    assert len(seen.dom.by_class("pt-stopped")) == len(stopped) + 1  # the legend's own
    note = seen.dom.by_id("scatter-note").words
    assert f"{data.counts.gated} gated and {len(untrained)} stopped trials, which have no validation" in note
    assert f"Stopped after {stopped[-1].reached}, among the worse there" in seen.dom.by_id("card").words
    outcomes = seen.dom.by_id("outcomes").words
    assert outcomes.count("Stopped after stage") == len(stopped)
    assert f"Stopped ({len(stopped)})" in seen.dom.by_id("outcomes-filter").words
    hidden = visit(html, tmp_path, address="#near=0&stopped=0").dom
    assert _points(hidden) == drawable(data) - len(stopped)
    lines = next(e.attributes["data-lines"] for e in hidden.elements if "data-lines" in e.attributes)
    assert int(lines) == data.counts.completed + sum(t.variant is not None for t in data.trials)


def test_a_study_that_stops_nothing_has_no_switch_for_it(tmp_path: Path) -> None:
    dom = visit(render(fake_report(30)), tmp_path).dom
    labels = [e for e in dom.elements if e.tag == "label" and e.words == "stopped"]
    assert ["hidden" in e.attributes for e in labels] == [True]


def test_another_chip_of_a_trial_is_a_point_and_a_row_with_its_label(tmp_path: Path) -> None:
    data = with_stages_and_chips(fake_report(120))
    chip = next(t for t in data.front if t.variant is not None and t.number > 0)
    seen = visit(render(data), tmp_path, address=f"#near=0&sort=trial&down=0&trial={chip.label}")
    dom = seen.dom
    assert "data-error" not in dom.root
    assert seen.console == ()
    assert dom.root["data-trial"] == chip.label == f"{chip.number}.1"
    listed = [
        e.attributes["data-trial"] for e in dom.elements if e.tag == "tr" and "data-trial" in e.attributes
    ]
    assert listed == [t.label for t in data.trials if t.on_front or t.reference]
    assert [e.attributes["data-trial"] for e in dom.by_class("picked")] == [chip.label]
    assert f"The network of trial {chip.number} on another chip" in dom.by_id("card").words
    assert "tpu_ like 8x32" in dom.by_id("card").words  # a line may break after the underscore
    assert f"Trial {chip.label}" in dom.by_id("energy").words
    first = next(t for t in data.front if t.variant is not None)
    assert f"{first.label} is trial {first.number} on one that its" in dom.by_id("front-note").words
    assert f"Left out of this page: {data.chips_left_out} more chips" in dom.by_id("scatter-note").words
    own = visit(render(data), tmp_path, address=f"#trial={chip.number}").dom
    assert f"Its hardware sweep kept 3 other chips. On the front: {chip.label} ." in own.by_id("card").words


def test_a_chip_without_a_ledger_says_how_to_get_one(tmp_path: Path) -> None:
    data = with_stages_and_chips(fake_report(60))
    chip = next(t for t in data.front if t.variant is not None)
    bare = dataclasses.replace(data, breakdowns={"0": data.breakdowns["0"]})
    dom = visit(render(bare), tmp_path, address=f"#trial={chip.label}").dom
    assert (
        f"energy of trial {chip.label} has not been worked out: `cosearch report`"
        in dom.by_id("energy").words
    )


STOPPED = """
const root = document.documentElement, seen = [];
const image = () => document.querySelector("#scatter svg");
const dot = image().querySelector(".pt-stopped").getBoundingClientRect();
const at = { clientX: dot.x + dot.width / 2, clientY: dot.y + dot.height / 2, bubbles: true };
image().dispatchEvent(new PointerEvent("pointermove", at));
seen.push("hover:" + document.querySelector("#tip b").textContent);
const labels = [...document.querySelectorAll("#front tbody tr")].map((row) => row.dataset.trial);
location.hash = "trial=" + labels.find((label) => label.includes("."));
window.dispatchEvent(new HashChangeEvent("hashchange"));
seen.push("picked:" + root.dataset.trial);
document.querySelector("#card .sweep button").click();
seen.push("linked:" + root.dataset.trial);
const before = image().dataset.points;
document.getElementById("stopped").click();
seen.push("fewer:" + (Number(image().dataset.points) < Number(before)));
root.dataset.seen = seen.join("|");
"""


def test_the_tip_says_where_a_trial_was_stopped_and_links_lead_to_chips(tmp_path: Path) -> None:
    html = render(with_stages_and_chips(fake_report(120)))
    seen = visit(html, tmp_path, address="#near=0&gated=0&dominated=0", drive=STOPPED)
    assert "data-error" not in seen.dom.root
    steps = dict(step.split(":", 1) for step in seen.dom.root["data-seen"].split("|"))
    assert "– stopped after stage" in steps["hover"]
    number, _, variant = steps["picked"].partition(".")
    assert variant == "1"
    assert steps["linked"] == number
    assert steps["fewer"] == "true"


def _row(layer: str, levels: dict[str, float]) -> BreakdownRow:
    energy = {level: {"W": picojoules} for level, picojoules in levels.items()}
    return BreakdownRow(layer=layer, phase="forward", energy_pj=energy, latency_s=1e-6, macs=10)


def test_layers_of_two_networks_stand_in_network_order_with_one_colour_a_level(tmp_path: Path) -> None:
    data = fake_report(30)
    levels = {f"level_{n}": 100.0 - n for n in range(16)}
    chosen = next(trial.label for trial in data.front if not trial.reference)
    breakdowns = {
        "0": Breakdown(inference=tuple(_row(name, levels) for name in ("a", "b", "c", "d"))),
        chosen: Breakdown(inference=tuple(_row(name, {"level_3": 50.0}) for name in ("a", "x", "d"))),
    }
    html = render(dataclasses.replace(data, breakdowns=breakdowns))
    dom = visit(html, tmp_path, address=f"#trial={chosen}").dom
    assert [e.words for e in dom.by_class("name")] == ["a", "b", "c", "x", "d"]
    absent = [e.words for e in dom.by_class("value") if e.words.startswith("not in")]
    assert absent == ["not in this design", "not in this design", "not in the reference"]
    assert "150 pJ" in dom.by_id("energy").words
    colours = [e.attributes["class"].removeprefix("swatch ") for e in dom.by_class("swatch")]
    plain, hatched = [f"c{n}" for n in range(7)], [f"c{n} hatched" for n in range(7)]
    assert sorted(colours) == sorted([*plain, *hatched, "c7", "c7"])


def test_an_energy_that_is_not_embedded_is_said(tmp_path: Path) -> None:
    data = fake_report(30)
    lost = next(trial.number for trial in data.trials if trial.state is TrialState.GATED)
    dom = visit(render(data), tmp_path, address=f"#trial={lost}").dom
    assert dom.by_id("energy").words == f"No layer-by-layer energy was recorded for trial {lost}."
    assert "must hold, but got" in dom.by_id("card").words


DRIVE = """
const root = document.documentElement, seen = [];
const image = () => document.querySelector("#scatter svg");
const key = (name) => image().dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
document.querySelectorAll("#front tbody tr")[2].click();
seen.push("row:" + document.querySelectorAll("#front tbody tr")[2].dataset.trial + "=" + root.dataset.trial);
image().focus(); key("Home"); key("ArrowRight");
seen.push("said:" + document.getElementById("announce").textContent);
seen.push("tip:" + !document.getElementById("tip").hidden);
key("Enter");
seen.push("entered:" + root.dataset.trial);
const before = image().dataset.points;
document.getElementById("gated").click();
seen.push("fewer:" + (Number(image().dataset.points) < Number(before)));
document.querySelectorAll("#front thead button")[1].click();
seen.push("sorted:" + document.querySelectorAll("#front thead th")[1].getAttribute("aria-sort"));
const select = document.getElementById("y");
select.value = "area_mm2"; select.dispatchEvent(new Event("change"));
seen.push("axis:" + document.querySelectorAll("#scatter .title")[1].textContent);
const dot = image().querySelector(".pt-reference").getBoundingClientRect();
const at = { clientX: dot.x + dot.width / 2, clientY: dot.y + dot.height / 2, bubbles: true };
image().dispatchEvent(new PointerEvent("pointermove", at));
seen.push("hover:" + document.querySelector("#tip b").textContent);
image().dispatchEvent(new MouseEvent("click", at));
seen.push("clicked:" + root.dataset.trial);
seen.push("hash:" + location.hash.includes("y=area_mm2"));
root.dataset.seen = seen.join("|");
"""


def test_clicks_keys_and_menus_work(tmp_path: Path) -> None:
    seen = visit(render(fake_report(120)), tmp_path, drive=DRIVE)
    assert "data-error" not in seen.dom.root
    assert seen.console == ()
    steps = dict(step.split(":", 1) for step in seen.dom.root["data-seen"].split("|"))
    number, selected = steps["row"].split("=")
    assert number == selected
    assert steps["said"].startswith(f"Trial {steps['entered']} – ")
    assert "energy per inference" in steps["said"]
    assert steps["tip"] == steps["fewer"] == steps["hash"] == "true"
    assert steps["sorted"] == "ascending"
    assert steps["axis"] == "Area (mm²)"
    assert steps["hover"].startswith("Trial 0 – reference")
    assert steps["clicked"] == "0"


def test_texts_of_a_study_run_nothing(tmp_path: Path) -> None:
    seen = visit(render(with_texts(EVIL)), tmp_path)
    assert seen.dom.root.get("data-ready") == "1"
    assert "data-error" not in seen.dom.root
    assert seen.console == ()
    assert EVIL in seen.dom.by_id("card").words


def test_a_failure_is_seen_by_these_tests_and_by_the_reader(tmp_path: Path) -> None:
    broken = render(fake_report(3)).replace('"trials":[', '"trials":[null,', 1)
    seen = visit(broken, tmp_path)
    assert "data-ready" not in seen.dom.root
    assert "null" in seen.dom.root["data-error"] or "iterable" in seen.dom.root["data-error"]
    assert "A part of this page failed" in seen.dom.by_id("trouble").words
    assert seen.console != ()


def _nothing() -> ReportData:
    counts = StatusCounts(completed=0, gated=0, stopped=0, failed=0)
    return dataclasses.replace(fake_report(1), trials=(), hypervolume=(), breakdowns={}, counts=counts)


def _only_gated() -> ReportData:
    data = fake_report(60)
    return dataclasses.replace(
        data, trials=tuple(t for t in data.trials if t.state is TrialState.GATED), breakdowns={}
    )


def _holes() -> ReportData:
    data = fake_report(60)
    holes = {"validation_accuracy": math.nan, "inference_energy_pj": math.inf, "macs": 0.0}
    return dataclasses.replace(
        data,
        trials=tuple(
            dataclasses.replace(t, scores={**t.scores, **holes} if t.number % 2 else {}) for t in data.trials
        ),
    )


def _one_objective() -> ReportData:
    data = fake_report(60)
    return dataclasses.replace(data, objectives=data.objectives[1:2], score_units={})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(_nothing(), "The study holds no trial yet.", id="no trial"),
        pytest.param(fake_report(1), "Every trial completed within the constraints.", id="one trial"),
        pytest.param(_only_gated(), "No completed design is on the front.", id="only gated"),
        pytest.param(_holes(), "There is nothing to draw for these two scores.", id="missing scores"),
        pytest.param(_one_objective(), "Asked for less energy per inference.", id="one objective"),
        pytest.param(fake_report(2000), "1545", id="two thousand trials"),
    ],
)
def test_unusual_studies_are_drawn_without_trouble(data: ReportData, words: str, tmp_path: Path) -> None:
    seen = visit(render(data), tmp_path)
    assert seen.dom.root.get("data-ready") == "1"
    assert "data-error" not in seen.dom.root
    assert seen.console == ()
    body = next(e for e in seen.dom.elements if e.tag == "body")
    assert words in body.words
    assert not [
        e for e in seen.dom.elements if any("NaN" in v for n, v in e.attributes.items() if n != "data-seen")
    ]


# Chromium opens no window narrower than 500 pixels, so the page itself is made narrow: the rules for narrow
# screens hold below 640.
WIDTH = """
const root = document.documentElement;
root.style.width = "%dpx";
const scrolls = ".scroll, pre, .hidden, .skip, .layers .name, svg, select";
setTimeout(() => {
  const all = [...document.querySelectorAll("body *")];
  const boxes = all.filter((e) => !e.closest(scrolls) && e.clientWidth > 0);
  const beyond = (e) => e.getBoundingClientRect().right > %d + 1;
  const wide = boxes.filter((e) => beyond(e) || e.scrollWidth > e.clientWidth + 1);
  root.dataset.seen = `${boxes.length}:${wide.map((e) => e.tagName + "#" + e.id + "." + e.className).join()}`;
}, 500);
"""
TOO_WIDE = "const add = document.createElement('p'); add.id = 'wide'; add.textContent = 'x'.repeat(400);"
TOO_WIDE += "document.querySelector('main').append(add);"


@pytest.mark.parametrize("width", [420, 1400])
def test_the_page_is_no_wider_than_its_window(width: int, tmp_path: Path) -> None:
    layers = tuple(f"features.{n}.block.convolution" for n in range(30))
    html = render(fake_report(80, layers=layers))
    drive = WIDTH % (width, width)
    seen = [
        visit(html, tmp_path, size=(max(500, width), 900), drive=script).dom.root["data-seen"]
        for script in (drive, TOO_WIDE + drive)
    ]
    boxes, wide = seen[0].split(":")
    assert int(boxes) > 200
    assert wide == ""
    assert "P#wide." in seen[1]  # the check sees what is too wide


def test_a_picture_can_be_taken(tmp_path: Path) -> None:
    picture = screenshot(render(fake_report(120)), tmp_path)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000  # an empty page of this size packs into a tenth of that
