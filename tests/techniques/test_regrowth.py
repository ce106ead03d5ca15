"""Masks that regrow: the moves by hand, what never changes, training, memory and the space's key."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evaluators.learning.stepping import stepping_parts
from evaluators.networks import build
from evaluators.techniques import apply, rewrite
from evaluators.techniques.masks import nm_mask, row_mask, unstructured_mask
from evaluators.techniques.regrowth import FIRST_SHARE, RegrownMask, regrown
from evaluators.workload.trace import trace
from search_spaces.ask import LayerInfo
from search_spaces.choice import Choice, from_json, to_json
from search_spaces.learning import Optimizer
from search_spaces.sparsity import NM, Dense, FilterPruned, Masks, RowPruned, SparsitySpace, Unstructured

REGROWN = Masks.REGROWN
CHOICES = [
    Unstructured(density=0.4, masks=REGROWN),
    RowPruned(density=0.4, masks=REGROWN),
    NM(n=2, m=4, masks=REGROWN),
]


def _draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _first_mask(choice: Choice, weight: torch.Tensor) -> torch.Tensor:
    if isinstance(choice, NM):
        return nm_mask(weight, choice.n, choice.m)
    if isinstance(choice, RowPruned):
        return row_mask(weight, choice.density)
    assert isinstance(choice, Unstructured)
    return unstructured_mask(weight, choice.density)


def test_the_weakest_gives_its_place_to_the_steepest() -> None:
    kept = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    weight = torch.tensor([[3.0, 0.1, 9.0, 0.0]])  # what is not kept has no say
    gradient = torch.tensor([[0.0, 1.0, 2.0, -5.0]])
    found = regrown(Unstructured(density=0.5), kept, weight, gradient, 0.5)
    assert found.tolist() == [[1.0, 0.0, 0.0, 1.0]]
    stays = regrown(Unstructured(density=0.5), kept, weight, torch.tensor([[0.0, 9.0, 2.0, 5.0]]), 0.5)
    assert stays.tolist() == kept.tolist()  # what was dropped may grow again at once, as in the paper


def test_runs_swap_within_themselves() -> None:
    kept = torch.tensor([[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
    weight = torch.tensor([[3.0, 0.1, 0.0, 0.0, 4.0, 0.2, 0.0, 0.0]])
    gradient = torch.tensor([[0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 9.0, 8.0]])
    found = regrown(NM(n=2, m=4), kept, weight, gradient, 0.5)  # one of two runs: that of 0.1
    assert found.tolist() == [[1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("choice", CHOICES, ids=repr)
@given(seed=st.integers(0, 99), share=st.floats(0, 1))
def test_as_much_is_kept_as_before_in_the_same_pattern(choice: Choice, seed: int, share: float) -> None:
    weight, gradient = _draw(seed, 6, 8, 3, 3), _draw(seed + 1, 6, 8, 3, 3)
    kept = _first_mask(choice, weight)
    found = regrown(choice, kept, weight, gradient, share)
    assert set(found.unique().tolist()) <= {0.0, 1.0}
    assert found.sum() == kept.sum()
    if isinstance(choice, NM):
        assert (found.unflatten(1, (-1, 4)).sum(dim=2) == 2).all()
    if isinstance(choice, RowPruned):
        assert (found.amax(dim=3) == found.amin(dim=3)).all()
    assert torch.equal(regrown(choice, kept, weight, gradient, 0.0), kept)


def test_other_patterns_do_not_regrow() -> None:
    with pytest.raises(TypeError, match="no mask of a Dense regrows"):
        regrown(Dense(), *(torch.ones(1, 1) for _ in range(3)), 0.5)


@pytest.mark.parametrize("choice", CHOICES, ids=repr)
def test_places_move_once_an_epoch_and_less_each_time(choice: Choice) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3)
    apply(choice, layer, "conv")
    (part,) = stepping_parts(layer)
    assert isinstance(part, RegrownMask)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
    target, moves = _draw(5, 4, 8, 3, 3), []
    for _ in range(3):
        part.begin_epoch()
        for step in range(3):
            before = part.kept.clone()
            optimizer.zero_grad()
            (layer(_draw(step, 4, 8, 5, 5)) - target).square().mean().backward()
            optimizer.step()
            held = layer.weight.detach().clone()
            part.after_step()
            changed = part.kept != before
            assert step == 0 or not changed.any()
            if step == 0:
                moves.append(int(changed.sum()) // 2)
                assert (layer.weight[changed] == 0).all()  # what has grown begins at zero
                stays = (before == 1) & ~changed
                assert torch.equal(layer.weight[stays], held[stays])
    kept = int(part.kept.sum())
    assert moves[0] <= FIRST_SHARE * kept + 1
    assert 0 < moves[2] < moves[0]
    assert int(layer.weight.count_nonzero()) <= kept


def test_evaluation_moves_nothing() -> None:
    layer = nn.Conv2d(8, 8, 3)
    apply(CHOICES[0], layer, "conv")
    (part,) = stepping_parts(layer)
    assert isinstance(part, RegrownMask)
    part.begin_epoch()
    before = part.kept.clone()
    layer.eval()(_draw(0, 1, 8, 5, 5)).sum().backward()
    part.after_step()
    assert torch.equal(part.kept, before)


@pytest.mark.parametrize("choice", CHOICES, ids=repr)
def test_a_training_step_holds_the_dense_gradient_and_sparse_states(choice: Choice) -> None:
    model = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0)
    step = trace(
        model,
        (torch.zeros(4, 1, 8, 8),),
        loss="cross_entropy",
        optimizer=Optimizer.MOMENTUM,
        training=True,
    )
    weight = step.weight_of("stage2.conv1")
    after = rewrite(choice, step, "stage2.conv1")
    (state,) = after.structure.states[weight]
    assert after.density[after.structure.gradients[weight]] == 1
    assert after.density[weight] == after.density[state] < 1
    inference = trace(model, (torch.zeros(1, 1, 8, 8),), training=False)
    frozen = from_json({**to_json(choice), "data": {**dict(to_json(choice)["data"]), "masks": "FROZEN"}})  # type: ignore[arg-type]
    same = [rewrite(one, inference, "stage2.conv1").stored_bits.sum() for one in (choice, frozen)]
    assert same[0] == same[1]


def test_the_space_asks_where_masks_exist() -> None:
    class Last:
        def __init__(self, pattern: str) -> None:
            self.pattern, self.asked = pattern, list[str]()

        def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
            return values[-1]

        def categorical(self, name: str, values: tuple[str, ...]) -> str:
            self.asked.append(name)
            return self.pattern if name.endswith("sparsity") else values[-1]

    layer = LayerInfo(name="conv", kind="conv2d", weight_shape=(8, 8, 3, 3))
    space = SparsitySpace(
        patterns=("dense", "unstructured", "2:4", "row", "filter"), masks=("frozen", "regrown")
    )
    expected: dict[str, Choice] = {
        "dense": Dense(),
        "filter": FilterPruned(density=0.5),
        "unstructured": Unstructured(density=0.5, masks=REGROWN),
        "row": RowPruned(density=0.5, masks=REGROWN),
        "2:4": NM(n=2, m=4, masks=REGROWN),
    }
    for pattern, made in expected.items():
        ask = Last(pattern)
        assert space.suggest(ask, layer) == made
        assert ("conv.masks" in ask.asked) == (pattern not in ("dense", "filter"))
