"""The words of the headline, against gains worked out by hand."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.report import ReportData, TrialRecord, TrialState, gains
from codesign.report.headline import asked, change, ungained
from codesign.report.quantities import format_quantity, score_label
from tests.report.report_fakes import OBJECTIVES, fake_report

ACCURACY, ENERGY = OBJECTIVES[0], OBJECTIVES[1]


def design(number: int, accuracy: float, energy: float, test: float | None = None) -> TrialRecord:
    scores = {"validation_accuracy": accuracy, "inference_energy_pj": energy}
    if test is not None:
        scores["test_accuracy"] = test
    return TrialRecord(
        number=number, state=TrialState.COMPLETED, scores=scores, on_front=number > 0, reference=number == 0
    )


def study(*trials: TrialRecord) -> ReportData:
    return dataclasses.replace(fake_report(3), objectives=(ACCURACY, ENERGY), trials=trials, breakdowns={})


def test_the_best_saving_is_taken_among_designs_within_a_point_of_the_reference() -> None:
    data = study(design(0, 0.97, 340.0, 0.96), design(1, 0.965, 100.0, 0.957), design(2, 0.90, 10.0, 0.90))
    assert [gain.sentence for gain in gains(data)] == [
        "3.4× less energy per inference at −0.3 pp test accuracy"
    ]


def test_a_saving_that_costs_more_than_a_point_is_told_with_its_price() -> None:
    data = study(design(0, 0.97, 340.0), design(1, 0.90, 10.0))
    assert [gain.sentence for gain in gains(data)] == [
        "34.0× less energy per inference at −7.0 pp validation accuracy"
    ]


def test_the_design_is_chosen_by_validation_never_by_test() -> None:
    data = study(design(0, 0.97, 340.0, 0.97), design(1, 0.94, 50.0, 0.99), design(2, 0.97, 170.0, 0.90))
    assert [gain.label for gain in gains(data)] == ["2"]
    assert gains(data)[0].price == "at −7.0 pp test accuracy"


def test_a_better_accuracy_is_told_with_test_accuracy_and_energy() -> None:
    data = study(design(0, 0.97, 100.0, 0.96), design(1, 0.98, 200.0, 0.965))
    assert [gain.sentence for gain in gains(data)] == [
        "+1.0 pp validation accuracy at +0.5 pp test accuracy, 2.0× more energy per inference"
    ]
    assert [objective.name for objective in ungained(data)] == ["inference_energy_pj"]


def test_another_chip_of_a_trial_shows_the_gain_under_its_label() -> None:
    chip = dataclasses.replace(design(1, 0.97, 100.0), variant=12)
    data = study(design(0, 0.97, 340.0), design(1, 0.97, 170.0), chip)
    assert [(gain.label, gain.figure) for gain in gains(data)] == [("1.12", "3.4× less")]
    bare = dataclasses.replace(data, trials=data.trials[1:])
    assert [gain.label for gain in gains(bare)] == ["1.12", "1"]


def test_unfinished_training_never_shows_a_gain() -> None:
    stopped = TrialRecord(
        number=1,
        state=TrialState.STOPPED,
        reached="stage 1 of 2",
        scores={"validation_accuracy": 0.99, "inference_energy_pj": 1.0},
    )
    assert gains(study(design(0, 0.97, 340.0), stopped)) == ()


def test_without_a_reference_the_best_values_are_told() -> None:
    data = study(design(1, 0.98, 2e6), design(2, 0.97, 1e6))
    assert [gain.sentence for gain in gains(data)] == [
        "1 µJ best energy per inference",
        "98.0 % best validation accuracy",
    ]
    assert ungained(data) == ()


@pytest.mark.parametrize("worthless", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_never_win(worthless: float) -> None:
    data = study(design(0, 0.97, 340.0), design(1, worthless, 100.0), design(2, 0.97, worthless))
    assert [(gain.label, gain.price) for gain in gains(data)] == [("1", "")]
    assert gains(study(design(0, 0.97, worthless), design(1, 0.97, 100.0))) == ()


def test_an_empty_front_gives_no_gain() -> None:
    assert gains(study(design(0, 0.97, 340.0))) == ()
    assert gains(study()) == ()


@pytest.mark.parametrize(
    ("value", "was", "unit", "words"),
    [
        (100.0, 340.0, "pJ", "3.4× less"),
        (340.0, 100.0, "pJ", "3.4× more"),
        (1.0, 250.0, "s", "250× less"),
        (100.0, 104.0, "B", "1.04× less"),
        (1000.0, 1004.0, "B", "1.004× less"),
        (7.0, 7.0, "mm2", "the same"),
        (0.0, 2048.0, "bytes", "2 KiB less"),
        (0.953, 0.95, "fraction", "+0.3 pp"),
        (0.95, 0.953, "fraction", "−0.3 pp"),
        (0.95, 0.9503, "fraction", "±0.0 pp"),
        (math.nan, 1.0, "s", "–"),
    ],
)
def test_changes_in_words(value: float, was: float, unit: str, words: str) -> None:
    assert change(value, was, unit) == words


@given(st.floats(1e-6, 1e12), st.floats(1e-6, 1e12))
def test_less_and_more_are_each_other_s_mirror(a: float, b: float) -> None:
    there, back = change(a, b, "pJ"), change(b, a, "pJ")
    assert there.replace("less", "more") == back.replace("less", "more")
    assert (there == back) == (a == b)


def test_what_the_study_asked() -> None:
    assert asked(study()) == "more validation accuracy and less energy per inference"
    assert asked(dataclasses.replace(study(), objectives=(ENERGY,))) == "less energy per inference"


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0, "pJ", "0 J"),
        (999.6, "pJ", "1 nJ"),
        (999.4, "pJ", "999 pJ"),
        (2_500_000.0, "pJ", "2.5 µJ"),
        (0.0042, "s", "4.2 ms"),
        (262_144.0, "B", "256 KiB"),
        (1023.0, "bytes", "1023 B"),
        (12_250.0, "bit", "12.2 kbit"),
        (12.25, "mm2", "12.2 mm²"),
        (147_456.0, "", "147456"),
        (147_456.0, "count", "147 k"),
        (3.0, "frames/s", "3 frames/s"),
        (-0.5, "s", "−500 ms"),
        (math.inf, "s", "–"),
    ],
)
def test_quantities_in_words(value: float, unit: str, words: str) -> None:
    assert format_quantity(value, unit) == words


PREFIXES = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}


@given(st.floats(1e-6, 1e20), st.sampled_from([("pJ", "J", 1e-12), ("s", "s", 1.0), ("count", "", 1.0)]))
def test_what_is_shown_is_the_value_to_three_digits(value: float, unit: tuple[str, str, float]) -> None:
    name, symbol, factor = unit
    number, _, rest = format_quantity(value, name).partition(" ")
    prefix = rest.removesuffix(symbol)
    assert float(number) * PREFIXES.get(prefix, 1.0) == pytest.approx(value * factor, rel=0.0051)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inference_energy_pj", "inference energy"),
        ("macs", "MACs"),
        ("area_mm2", "area"),
        ("peak_inference_bytes", "peak inference memory"),
    ],
)
def test_score_names_in_words(name: str, words: str) -> None:
    assert score_label(name) == words
