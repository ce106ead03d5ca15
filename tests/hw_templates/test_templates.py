"""Contract over the catalog, and what a wrong chip file is told."""

import math
from collections.abc import Iterator, Mapping
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_templates import templates
from hw_templates.accelerator import HardwareError
from hw_templates.chip_file import accelerator_from_file, accelerator_from_yaml

CATALOG = templates.names()


@pytest.mark.parametrize("name", CATALOG)
def test_a_template_says_what_it_is_and_where_it_is_from(name):
    template = templates.load(name)
    assert template.name == name
    assert template.title
    assert len(template.source) > 30
    chip = template.build()
    assert chip.pe_count >= 1
    assert 0 < chip.clock_hz < 1e11


@pytest.mark.parametrize("name", CATALOG)
def test_every_legal_value_of_every_knob_builds_and_changes_the_chip(name):
    template = templates.load(name)
    default = template.build()
    for knob in template.knobs.values():
        assert knob.default in knob.values
        assert knob.description
        for value in knob.values:
            chip = template.build({knob.name: value})
            assert (chip == default) == (value == knob.default)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_yaml_round_trip_is_exact(data):
    template = templates.load(data.draw(st.sampled_from(CATALOG)))
    parameters = {
        knob.name: data.draw(st.sampled_from(knob.values), label=knob.name)
        for knob in template.knobs.values()
    }
    chip = template.build(parameters)
    again = accelerator_from_yaml(chip.to_yaml())
    assert again == chip
    assert hash(again) == hash(chip)


def test_a_larger_buffer_costs_area_and_energy_per_access():
    template = templates.load("eyeriss_like")
    small, large = (template.build({"global_buffer_kib": kib}) for kib in (64, 512))
    by_name = {level.name: level for level in large.memories}
    for level in small.memories:
        if level.name == "global_buffer":
            assert by_name[level.name].read_energy_pj > level.read_energy_pj
            assert by_name[level.name].area_mm2 > level.area_mm2
        else:
            assert by_name[level.name] == level


def test_a_template_file_that_changed_is_read_anew(tmp_path):
    path = tmp_path / "own.yaml"
    text = (resources.files("hw_templates.catalog") / "tpu_like.yaml").read_text("utf-8")
    path.write_text(text, "utf-8")
    before = templates.load(str(path)).build()
    assert templates.load(str(path)) is templates.load(str(path))
    path.write_text(text.replace("clock: 700 MHz", "clock: 1400 MHz"), "utf-8")
    assert templates.load(str(path)).build().clock_hz == 2 * before.clock_hz


def test_wrong_parameters_are_answered_with_the_legal_ones():
    template = templates.load("eyeriss_like")
    with pytest.raises(
        HardwareError, match=r"no knob 'pe_row'\. Did you mean 'pe_rows'.*Legal knobs: pe_rows"
    ):
        template.build({"pe_row": 4})
    with pytest.raises(HardwareError, match=r"pe_rows must be one of \[4, 6, 8, 12, 16, 24\], but got 5"):
        template.build({"pe_rows": 5})


def test_an_unknown_template_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(HardwareError, match=r"Did you mean 'eyeriss_like'"):
        templates.load("eyeris_like")
    with pytest.raises(HardwareError, match=r"there is no template file"):
        templates.load(str(tmp_path / "absent.yaml"))


def _catalog_text(name):
    from importlib import resources

    return (resources.files("hw_templates.catalog") / f"{name}.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clock: 200 MHz", "clock: 200", r"chip.yaml has 1.*\n  chip.clock: 200 has no unit"),
        ("clock: 200 MHz", "clock: 200 MHZ", r"clock: .*'MHZ' of '200 MHZ' is not one of.*mean 'MHz'"),
        (
            "  dataflow: row_stationary",
            "  dataflow: rows",
            r"dataflow: must be one of weight_stationary.*got 'rows'",
        ),
        ("  dataflow:", "  datflow:", r"(?s)chip.dataflow: is required.*chip.datflow: no such key"),
        ("    gates: [I]", "    gates: [X]", r"zeros.gates.0: must be one of I, W, but got 'X'"),
        ("default: 108", "default: 100", r"knobs.global_buffer_kib.default: must be one of"),
        ("values: [16, 32,", "values: [32, 16,", r"knobs.global_buffer_kib.values: must ascend"),
        ("capacity: $global_buffer_kib", "capacity: 108", r"knobs.global_buffer_kib: is used nowhere"),
        (
            "size: $pe_rows",
            "size: $pe_row",
            r"chip.array.rows.size: \$pe_row is no knob. Did you mean 'pe_rows'\? Knobs: pe_rows",
        ),
        ("capacity: $filter_spad_bytes B", "capacity: 4 bits", r"knobs.filter_spad_bytes: is used nowhere"),
        (
            "shared_over: [columns, rows]",
            "shared_over: [column, rows]",
            r"chip.memories.global_buffer.shared_over: must name axes of.*got column",
        ),
        (
            "technology: cacti_aladdin_45nm",
            "technology: cacti",
            r"chip.technology: there is no technology 'cacti'",
        ),
        ("    dram_type: LPDDR4", "    dram_type: LPDDR9", r"has no DRAM 'LPDDR9'; it has"),
        ("title:", "titel:", r"(?s)problem.*titel"),
    ],
)
def test_a_wrong_chip_file_says_file_path_value_and_legal_choices(tmp_path, old, new, message):
    text = _catalog_text("eyeriss_like")
    assert old in text
    path = tmp_path / "chip.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(HardwareError, match=message):
        templates.load(str(path)).build()


def test_all_problems_of_a_file_come_at_once(tmp_path):
    text = _catalog_text("eyeriss_like")
    path = tmp_path / "chip.yaml"
    path.write_text(
        text.replace("clock: 200 MHz", "clock: 200").replace("dataflow: row_stationary", "dataflow: rows")
    )
    with pytest.raises(HardwareError, match=r"has 2 problem") as caught:
        templates.load(str(path))
    assert "clock" in str(caught.value)
    assert "dataflow" in str(caught.value)


def test_a_memory_must_hold_one_word(tmp_path):
    text = _catalog_text("tpu_like").replace("capacity: 32 bits", "capacity: 8 bits")
    path = tmp_path / "chip.yaml"
    path.write_text(text)
    with pytest.raises(
        HardwareError,
        match=r"chip.memories.weight_register.capacity: must hold at least one word \(word: 16 bits\), but",
    ):
        templates.load(str(path))


def test_an_exported_file_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "accelerator.yaml"
    path.write_text("- 1\n")
    with pytest.raises(HardwareError, match=r"must hold a mapping, but holds list"):
        accelerator_from_file(path)
    path.write_text("a: [1\n")
    with pytest.raises(HardwareError, match=r"is not readable as YAML"):
        accelerator_from_file(path)


def test_importing_templates_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, hw_templates.templates; sys.exit(any(m in sys.modules for m in ('torch', 'numba')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_leakage_and_area_are_finite():
    for name in CATALOG:
        chip = templates.load(name).build()
        assert math.isfinite(chip.leakage_mw)
        assert chip.on_chip_bits > 0


@pytest.mark.parametrize("name", templates.names())
def test_every_source_of_the_catalog_says_what_it_is_worth(name: str) -> None:
    def sources(value: object, key: str = "") -> Iterator[str]:
        if isinstance(value, Mapping):
            for inner, one in value.items():
                yield from sources(one, inner)
        elif key.endswith("source"):
            yield str(value)

    template = templates.load(name)
    found = [template.source, *sources(template.chip)]
    assert len(found) > 5
    for text in found:
        assert any(word in text for word in ("verified", "derived", "from memory", "estimate")), text


def _refused(path, text):
    path.write_text(text)
    with pytest.raises(HardwareError) as caught:
        templates.load(str(path))
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_faults_of_every_kind_come_in_one_error(tmp_path):
    text = _catalog_text("tpu_like").replace("title:", "titel:").replace("clock: 700 MHz", "clock: 0 MHz")
    text = text.replace("capacity: 32 bits", "capacity: 3 bits").replace("dataflow: weight_s", "dataflow: s")
    text = text.replace("technology: ", "technology: no_", 1).replace(
        "shared_over: [", "shared_over: [x, ", 1
    )
    message = _refused(tmp_path / "chip.yaml", text)
    for part in (
        "title: is required, but missing",
        "titel: no such key",
        "chip.clock: must be above 0 Hz, but got '0 MHz'",
        "chip.memories.weight_register.capacity: must hold at least one word",
        "chip.dataflow: must be one of weight_stationary",
        "chip.technology: there is no technology 'no_",
        "shared_over: must name axes of the array",
    ):
        assert part in message


@pytest.mark.parametrize("word", ["-64 bits", "0 bits"])
def test_a_word_is_at_least_a_bit_and_the_capacity_is_not_blamed(tmp_path, word):
    text = _catalog_text("tpu_like").replace("word: 16 bits", f"word: {word}", 1)
    message = _refused(tmp_path / "chip.yaml", text)
    assert f".word: must be at least 1 bit, but got '{word}'" in message
    assert ".capacity" not in message


def test_a_key_that_is_written_twice_is_refused(tmp_path):
    text = _catalog_text("tpu_like").replace("  clock: 700", "  clock: 800 MHz\n  clock: 700")
    assert "the key 'clock' is written twice (line " in _refused(tmp_path / "chip.yaml", text)


def test_every_value_of_a_knob_must_make_a_chip(tmp_path):
    text = _catalog_text("eyeriss_like").replace("values: [16, 32,", "values: [big, 32,")
    message = _refused(tmp_path / "chip.yaml", text)
    assert "knobs.global_buffer_kib.values: with 'big' of ['big', 32" in message


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "chip.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HardwareError, match=r"chip.yaml cannot be read as text"):
        templates.load(str(tmp_path / "chip.yaml"))
