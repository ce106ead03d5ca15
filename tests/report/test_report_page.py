"""The page as text: escaped, self-contained, small, and the same each time."""

import base64
import dataclasses
import hashlib
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.report import ReportData, TrialState, render
from codesign.report.embed import BREAKDOWN_BUDGET, embedded
from tests.report.report_fakes import fake_report, with_stages_and_chips

EVIL = (
    "</script><script>document.documentElement.dataset.error='pwned'</script><img src=x onerror=alert(1)>&\"'"
)


def with_texts(text: str) -> ReportData:
    """Put one text everywhere a study can put a text of its own."""
    data = with_stages_and_chips(fake_report(50))
    return dataclasses.replace(
        data,
        study=text,
        description=text,
        budget=text,
        objectives=tuple(dataclasses.replace(o, label=text) for o in data.objectives),
        trials=tuple(
            dataclasses.replace(
                trial,
                design=((text, text),),
                violations=(text,) if trial.state is TrialState.GATED else (),
                reason=text if trial.state is TrialState.FAILED else None,
                reached=text if trial.state is TrialState.STOPPED else None,
            )
            for trial in data.trials
        ),
        breakdowns={
            label: dataclasses.replace(
                one,
                inference=tuple(
                    dataclasses.replace(row, layer=text, phase=text, energy_pj={text: {text: 1.0}})
                    for row in one.inference
                ),
            )
            for label, one in data.breakdowns.items()
        },
        manifest=((text, text),),
        commands=((text, text),),
        table_knobs=(text,),
    )


def payload(html: str) -> dict[str, object]:
    """Read the embedded data back."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found is not None
    value = json.loads(found[1])
    assert isinstance(value, dict)
    return value


def test_texts_of_a_study_never_become_markup() -> None:
    html = render(with_texts(EVIL))
    assert html.count("<script") == html.count("</script>") == 2
    assert "<img" not in html
    assert payload(html)["study"] == EVIL


@given(st.text())
def test_any_text_survives_embedding(text: str) -> None:
    embedding = embedded(dataclasses.replace(fake_report(1), study=text))
    assert "<" not in embedding
    assert json.loads(embedding)["study"] == text
    embedding.encode("utf-8")


def test_texts_that_are_not_unicode_can_be_written_to_a_file() -> None:
    html = render(dataclasses.replace(fake_report(1), study="broken \udcff name"))
    assert "<h1>broken ? name</h1>" in html
    html.encode("utf-8")


def test_the_page_names_nothing_outside_itself() -> None:
    html = render(fake_report(30))
    svg_namespace = "http://www.w3.org/2000/svg"  # a name, never fetched
    assert re.findall(r"https?://[^\s\"'<]*", html) == [svg_namespace]
    assert not re.findall(r"@import|url\(|\bimport\(|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon", html)
    assert re.findall(r"(?:src|href)=\"(?!#|data:)", html) == []
    assert re.findall(r"<(?:script|link|img|iframe|object|embed)[^>]*\ssrc=", html) == []


def test_the_policy_allows_the_page_s_own_script_and_style_and_nothing_else() -> None:
    html = render(fake_report(3))
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    script = re.search(r"<script>(.*?)</script>", html, re.S)
    assert style is not None
    assert script is not None
    digests = [
        base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode() for found in (script, style)
    ]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].split("; ")[:4] == [
        "default-src 'none'",
        f"script-src 'sha256-{digests[0]}'",
        f"style-src 'sha256-{digests[1]}'",
        "img-src data:",
    ]


def test_no_markup_is_parsed_and_no_style_stands_in_an_attribute() -> None:
    html = render(fake_report(3))
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", html
    )
    assert not re.findall(r"<[a-z][^>]*\sstyle=", html.split("<script")[0])


def test_the_same_data_gives_the_same_page() -> None:
    assert render(fake_report(25)) == render(fake_report(25))


@pytest.mark.parametrize("layers", [6, 48])
def test_two_thousand_trials_stay_under_a_megabyte(layers: int) -> None:
    names = tuple(f"features.{n}.block.conv" for n in range(layers))
    html = render(fake_report(2000, layers=names))
    assert len(html.encode()) < 1_000_000
    kept = payload(html)
    assert len(json.dumps(kept["breakdowns"])) <= BREAKDOWN_BUDGET * 1.1


def test_labels_of_chips_are_texts_and_trials_stay_numbers() -> None:
    data = with_stages_and_chips(fake_report(40))
    trials = payload(render(data))["trials"]
    assert isinstance(trials, list)
    assert [one[0] for one in trials] == [
        one.number if one.variant is None else f"{one.number}.1" for one in data.trials
    ]


def test_the_facts_name_budget_stopped_trials_and_chips() -> None:
    static = render(with_stages_and_chips(fake_report(40))).split("<script")[0]
    facts = dict(re.findall(r"<div><dt>([^<]*)</dt><dd>([^<]*)</dd></div>", static))
    data = with_stages_and_chips(fake_report(40))
    assert facts["planned"] == "40 trials"
    assert facts["stopped"] == str(data.counts.stopped) != "0"
    assert facts["other chips kept"] == str(data.chips_kept) != "0"
    assert "stopped" not in dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", render(fake_report(9))))


def test_breakdowns_beyond_the_budget_are_counted_reference_and_knee_kept() -> None:
    data = fake_report(600, layers=tuple(f"layer{n}" for n in range(80)))
    kept = payload(render(data))
    breakdowns, left_out = kept["breakdowns"], kept["breakdowns_left_out"]
    assert isinstance(breakdowns, dict)
    assert left_out == len(data.breakdowns) - len(breakdowns) > 0
    knee = next(trial.number for trial in data.trials if trial.knee)
    assert list(breakdowns)[:2] == ["0", str(knee)]


def test_numbers_that_are_not_finite_become_null() -> None:
    data = fake_report(2)
    broken = dataclasses.replace(
        data.trials[0], scores={"inference_energy_pj": math.nan, "area_mm2": math.inf, "macs": 5.0}
    )
    kept = json.loads(
        embedded(dataclasses.replace(data, trials=(broken,), hypervolume=((0, math.nan), (1, 0.5))))
    )
    names = [score["name"] for score in kept["scores"]]
    values = dict(zip(names, kept["trials"][0][2], strict=True))
    assert (values["inference_energy_pj"], values["area_mm2"], values["macs"]) == (None, None, 5)
    assert kept["hypervolume"] == [[1, 0.5]]


def test_the_headline_needs_no_script() -> None:
    static = render(fake_report(120)).split("<script")[0]
    assert '<html lang="en">' in static
    assert "<title>quickstart – co-design report</title>" in static
    assert "Best gains over the reference (trial\u00a00)" in static
    assert re.search(r'<a class="gain" href="#trial=\d+"><strong>[\d.]+× less</strong>', static)
    assert [int(level) for level in re.findall(r"<h(\d)", static)] == [1, 2, 2, 3, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trials": (), "breakdowns": {}}, "No trial has ended yet."),
        ({"manifest": ()}, "The run folder holds no manifest."),
        ({"commands": ()}, "No command was recorded."),
    ],
)
def test_what_is_missing_is_said(change: dict[str, object], words: str) -> None:
    html = render(dataclasses.replace(fake_report(30), **change))  # type: ignore[arg-type]
    assert words in html


def test_a_front_without_designs_is_said() -> None:
    data = fake_report(60)
    gated = tuple(trial for trial in data.trials if trial.state is TrialState.GATED)
    html = render(dataclasses.replace(data, trials=gated, breakdowns={}))
    assert "No trial completed within the constraints, so the front is empty." in html


def test_a_front_that_the_reference_wins_is_said() -> None:
    data = fake_report(1)
    assert "No design on the front beats the reference in any objective." in render(data)


def test_a_reference_that_breaks_a_constraint_is_said() -> None:
    data = fake_report(60)
    broken = dataclasses.replace(
        data.trials[0], violations=("area_mm2 <= 4, but it is 12.25",), on_front=False
    )
    html = render(dataclasses.replace(data, trials=(broken, *data.trials[1:])))
    assert "The reference itself breaks a constraint: area_mm2 &lt;= 4, but it is 12.25." in html


def _luminance(colour: str) -> float:
    """Source: WCAG 2.1, definition of relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_words_and_marks_stand_out_in_both_themes(theme: int) -> None:
    style = re.findall(r":root \{(.*?)\}", render(fake_report(1)), re.S)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style))
    for ground in ("page", "surface"):
        for words in ("ink", "soft", "accent", "good", "bad"):
            assert _contrast(colours[words], colours[ground]) >= 4.5, (words, ground)  # WCAG 2.1, 1.4.3
    for mark in ("front", "pick", "ink", "gated", "stopped", "dominated"):
        assert _contrast(colours[mark], colours["surface"]) >= 3.0, mark  # WCAG 2.1, 1.4.11
