"""What every registered thing must do, so that a new file is tested without touching tests."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from codesign.samplers import Generations, build_sampler
from codesign.sections.search import Sampler
from evaluators.cost.area import area_mm2
from evaluators.cost.model import cost
from evaluators.learning import zero_cost
from evaluators.networks import registry as networks
from evaluators.networks.layers import compressible_layers, layer_infos
from evaluators.techniques.dispatch import apply, rewrite
from evaluators.workload.graph import Phase, Workload
from evaluators.workload.memory import peak_bits
from evaluators.workload.trace import trace
from hw_templates import templates
from search_spaces.ask import LayerInfo
from search_spaces.choice import from_json, to_json
from search_spaces.family import LayerSpace, layer_families
from search_spaces.learning import Optimizer

SHAPE = (1, 16, 16)


class First:
    """Answers every knob with its first value."""

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        return values[0]

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        return values[0]


def traced(name: str, *, training: bool) -> Workload:
    model = networks.build(name, width=0.5, depth=1, input_shape=SHAPE, num_classes=4, seed=0)
    return trace(
        model,
        (torch.zeros(4 if training else 1, *SHAPE),),
        loss="cross_entropy" if training else None,
        optimizer=Optimizer.MOMENTUM if training else None,
        training=training,
    )


@pytest.mark.parametrize("name", networks.names())
def test_every_network_traces_and_its_layers_are_those_a_design_compresses(name: str) -> None:
    model = networks.build(name, width=0.5, depth=1, input_shape=SHAPE, num_classes=4, seed=0)
    inference, training = traced(name, training=False), traced(name, training=True)
    assert set(inference.layers) == set(compressible_layers(model)) == set(training.layers)
    assert [info.name for info in layer_infos(model)] == list(compressible_layers(model))
    assert training.macs == 4 * inference.macs
    assert {op.phase for op in training.ops} == set(Phase)
    assert peak_bits(training) > peak_bits(inference)
    assert networks.describe(name)


@pytest.mark.parametrize("name", networks.names())
@pytest.mark.parametrize("score", zero_cost.names())
def test_every_zero_cost_score_is_a_number_of_every_network_and_layer_family(score: str, name: str) -> None:
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    model = networks.build(name, width=0.5, depth=1, input_shape=SHAPE, num_classes=4, seed=0)
    if score == "naswot" and any(isinstance(module, nn.SiLU) for module in model.modules()):
        with pytest.raises(zero_cost.ZeroCostError, match="whose only activations are ReLUs"):
            zero_cost.score(score, model, images)
        return
    assert math.isfinite(zero_cost.score(score, model, images))
    for family in layer_families().values():
        space = family()
        assert isinstance(space, LayerSpace)
        for info in layer_infos(model):
            made = space.suggest(First(), info)
            if made is not None:
                apply(made, compressible_layers(model)[info.name], info.name)
    assert math.isfinite(zero_cost.score(score, model, images))
    assert zero_cost.describe(score)


@pytest.fixture(scope="module")
def small() -> Workload:
    return traced("small_cnn", training=True)


@pytest.mark.parametrize("name", templates.names())
def test_every_chip_prices_an_inference(name: str) -> None:
    inference = traced("small_cnn", training=False)
    narrow = inference.rewrite(bits=dict.fromkeys(range(len(inference.tensors)), 8.0))
    chip = templates.load(name).build()
    report = cost(narrow, chip)
    assert not report.infeasible
    assert 0 < report.energy_pj < math.inf
    assert 0 < report.latency_s < math.inf
    assert area_mm2(chip) > 0
    assert report.macs == inference.macs


@pytest.mark.parametrize("name", templates.names())
def test_every_chip_prices_a_training_step_or_says_which_memory_is_too_small(
    name: str, small: Workload
) -> None:
    report = cost(small, templates.load(name).build())
    assert report.macs == small.macs + small.backward_macs
    if report.infeasible:
        assert report.energy_pj == math.inf
        for row in report.infeasible:
            assert row.infeasible is not None
            assert row.infeasible.demand_bits > row.infeasible.capacity_bits
    else:
        assert 0 < report.energy_pj < math.inf


@pytest.mark.parametrize("name", layer_families())
def test_every_layer_family_makes_a_choice_with_a_technique(name: str, small: Workload) -> None:
    model = layer_families()[name]
    assert issubclass(model, BaseModel)
    space = model()
    assert isinstance(space, LayerSpace)
    network = networks.build("small_cnn", width=0.5, depth=1, input_shape=SHAPE, num_classes=4, seed=0)
    for info in layer_infos(network):
        made = space.suggest(First(), info)
        if made is None:
            assert "off" in str(space.model_dump())  # a family that studies opt in to, one by one
            continue
        assert from_json(to_json(made)) == made
        assert isinstance(rewrite(made, small, info.name), Workload)
        apply(made, compressible_layers(network)[info.name], info.name)
    assert network(torch.zeros(2, *SHAPE)).isfinite().all()
    reference = model.model_validate(model().model_dump() | space.reference())  # type: ignore[attr-defined]
    made = reference.suggest(First(), LayerInfo(name="c", kind="conv2d", weight_shape=(8, 8, 3, 3)))
    assert made is None or rewrite.dispatch(type(made)) is not rewrite.dispatch(object)


@pytest.mark.parametrize("name", ["auto", "nsga2", "nsga3", "tpe", "gp", "random"])
def test_every_sampler_is_the_same_for_the_same_seed(name: str) -> None:
    import optuna

    def draws() -> list[dict[str, int]]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(directions=["minimize", "minimize"])
        space = {
            "a": optuna.distributions.IntDistribution(0, 5),
            "b": optuna.distributions.IntDistribution(0, 5),
        }
        found, generations = [], Generations()
        for number in range(30):
            study.sampler = build_sampler(Sampler(name=name, population=6), 30, number, generations)  # type: ignore[arg-type]
            trial = study.ask(fixed_distributions=space)
            found.append(dict(trial.params))
            generations.add(study.tell(trial, [trial.params["a"], -trial.params["b"]]))
        return found

    assert draws() == draws()


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_genetic_samplers_with_looked_up_generations_propose_what_optunas_own_propose(name: str) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {knob: optuna.distributions.IntDistribution(0, 9) for knob in "abcd"}
    kinds = {"nsga2": optuna.samplers.NSGAIISampler, "nsga3": optuna.samplers.NSGAIIISampler}

    def draws(indexed: bool) -> list[dict[str, int]]:
        study, found, generations = optuna.create_study(directions=["minimize"] * 2), [], Generations()
        for number in range(60):
            study.sampler = (
                build_sampler(Sampler(name=name, population=6), 60, number, generations)  # type: ignore[arg-type]
                if indexed
                else kinds[name](population_size=6, seed=number)
            )
            trial = study.ask(fixed_distributions=space)
            found.append(dict(trial.params))
            if number % 7 == 3:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            values = [trial.params["a"] + trial.params["b"], -trial.params["c"] * trial.params["d"]]
            generations.add(study.tell(trial, values))
        return found

    assert draws(True) == draws(False)
