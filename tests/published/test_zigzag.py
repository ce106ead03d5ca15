"""Against ZigZag 3.9.1: the same mappings counted, and our search against LOMA's best.

Source: zigzag_explicit_mappings.json and zigzag_loma_best.json of the reference folder, run with ZigZag 3.9.1
(L. Mei et al., IEEE TC 70(8), 2021), 8-bit ResNet-18 and MobileNetV2 layers on two chips.
"""

from dataclasses import replace

import numpy as np
import pytest

from evaluators.cost.fixed import evaluate_orders, held_array, mapping_energies_pj, order_arrays
from evaluators.cost.mapper import ZIGZAG, Effort, map_all, search
from evaluators.cost.report import LoopMapping
from tests.published import zigzag_reference as reference

pytestmark = pytest.mark.skipif(
    not reference.FOLDER.is_dir(), reason="needs the reference folder beside the repository"
)

AXES = {  # what a row-stationary and a weight-stationary array may unroll (Sze et al., Proc. IEEE 2017)
    "eyeriss_168_108k": {"D1": ("OY", "OX", "K"), "D2": ("FY", "K", "C")},
    "tpu_32x32_256k": {"D1": ("K", "G"), "D2": ("C", "FY", "FX")},
}


def chips(file):
    return {name: reference.accelerator(name, hardware) for name, hardware in file["hardware"].items()}


@pytest.fixture(scope="module")
def errors():
    """Relative errors (energy, DRAM bits, latency) of every explicit mapping, `(3, 660)`."""
    file = reference.read("zigzag_explicit_mappings.json")
    accelerators = chips(file)
    found = []
    for row in file["rows"]:
        accelerator = accelerators[row["config"]]
        orders = [[tuple(loop) for loop in one["order"]] for one in row["evals"]]
        mapped = evaluate_orders(
            reference.problem(row), accelerator, reference.spatial(row), orders, switches=ZIGZAG
        )
        for one, ours in zip(row["evals"], mapped, strict=True):
            theirs = one["zigzag"]
            dram = sum(ours.reads[o][-1] + ours.writes[o][-1] for o in range(3))
            found.append(
                (
                    energy_pj(ours, accelerator) / theirs["energy_pJ"] - 1,
                    dram * accelerator.memories[-1].word_bits / sum(theirs["dram_bits"].values()) - 1,
                    ours.latency_cycles / theirs["latency_cycles"] - 1,
                )
            )
    return np.abs(np.array(found)).T


def energy_pj(mapped, accelerator):
    return mapped.mac_energy_pj + sum(
        reads * level.read_energy_pj + writes * level.write_energy_pj
        for o in range(3)
        for level, reads, writes in zip(accelerator.memories, mapped.reads[o], mapped.writes[o], strict=True)
    )


def test_energy_of_the_same_mapping(errors):
    assert errors.shape == (3, 660)
    assert errors[0].mean() <= 0.0005
    assert errors[0].max() <= 0.005


def test_dram_traffic_of_the_same_mapping(errors):
    assert errors[1].mean() <= 0.0005
    assert errors[1].max() <= 0.005


def test_latency_of_the_same_mapping(errors):
    assert errors[2].mean() <= 0.005
    assert np.quantile(errors[2], 0.95) <= 0.01
    assert errors[2].max() <= 0.10


@pytest.fixture(scope="module")
def loma():
    return reference.read("zigzag_loma_best.json")


def ratios(mapped_pj, loma):
    return np.array(mapped_pj) / [row["best"]["energy"]["energy_pJ"] for row in loma["rows"]]


def test_our_loop_orders_against_loma_on_its_own_spatial_mapping(loma):
    """Both searches get the same array utilisation; LOMA's factors were limited, ours are not."""
    accelerators = chips(loma)
    options = [
        (reference.problem(row), accelerators[row["config"]], reference.spatial(row)) for row in loma["rows"]
    ]
    found = search(options, effort=Effort(orders=2000), switches=replace(ZIGZAG, greedy_allocation=False))
    ratio = ratios(found.outcome[:, 0], loma)
    assert ratio.max() <= 1.02
    assert ratio.mean() <= 0.96


def test_our_whole_search_against_loma(loma):
    """With the spatial mapping chosen from what the dataflow allows, at the effort that `cost` uses."""
    accelerators = {}
    for name, chip in chips(loma).items():
        axes = tuple(replace(axis, unroll=AXES[name][axis.name]) for axis in chip.axes)
        accelerators[name] = replace(chip, axes=axes)
    rows = [(reference.problem(row), accelerators[row["config"]]) for row in loma["rows"]]
    mapped = map_all(rows, switches=replace(ZIGZAG, greedy_allocation=False))
    ratio = ratios([energy_pj(one, chip) for one, (_, chip) in zip(mapped, rows, strict=True)], loma)
    assert ratio.max() <= 1.02
    assert ratio.mean() <= 0.94


def loma_mapping(best):
    """Return the order and what each memory holds of a mapping that the file gives per operand and level."""
    nested = best["temporal_mapping"]
    order = [tuple(loop) for level in nested["O"] for loop in level]
    held = {}
    for operand, levels in nested.items():
        assert [tuple(loop) for level in levels for loop in level] == order
        counts = np.cumsum([len(level) for level in levels])
        held[operand] = tuple((str(index), int(count)) for index, count in enumerate(counts))
    return order, LoopMapping(spatial=(), order=tuple(order), held=held)


def test_whole_mappings_of_lomas_search_cost_what_zigzag_says(loma):
    """Order and allocation are ZigZag's own: its best mappings by energy, latency and their product."""
    accelerators = chips(loma)
    errors, slow_fast = [], []
    for row in loma["rows"]:
        chip, task, spatial = accelerators[row["config"]], reference.problem(row), reference.spatial(row)
        wanted = list(row["best"].values())
        mappings = [loma_mapping(best) for best in wanted]
        orders = [order for order, _ in mappings]
        held = held_array(chip, [mapping for _, mapping in mappings])
        slow = evaluate_orders(task, chip, spatial, orders, held=held, switches=ZIGZAG)
        fast = mapping_energies_pj(task, chip, spatial, order_arrays(orders), held, switches=ZIGZAG)
        for best, one, energy in zip(wanted, slow, fast, strict=True):
            dram = sum(one.reads[o][-1] + one.writes[o][-1] for o in range(3))
            errors.append(
                (
                    energy / best["energy_pJ"] - 1,
                    dram * chip.memories[-1].word_bits / sum(best["dram_bits"].values()) - 1,
                    one.latency_cycles / best["latency_cycles"] - 1,
                )
            )
            slow_fast.append(energy / energy_pj(one, chip) - 1)
    energies, traffic, latencies = np.abs(np.array(errors)).T
    assert len(energies) == 3 * 64
    assert energies.mean() <= 0.0005
    assert energies.max() <= 0.005
    assert traffic.mean() <= 0.0005
    assert traffic.max() <= 0.005
    assert latencies.mean() <= 0.005
    assert latencies.max() <= 0.02
    assert np.abs(slow_fast).max() <= 1e-12
