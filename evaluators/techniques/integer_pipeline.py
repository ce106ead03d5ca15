"""Which activations of an inference share the bits of a layer's input, because one pass makes them all."""

from __future__ import annotations

from functools import lru_cache

from evaluators.workload.graph import Op, Phase, Role, Structure

_ACTIVATIONS = (Role.INPUT, Role.ACTIVATION, Role.SAVED, Role.OUTPUT)


@lru_cache(maxsize=1024)  # one entry a layer of a traced network; a search asks for them in every trial
def requantized_with(structure: Structure, layer: str) -> tuple[int, ...]:
    """Return a layer's inputs and every activation between them and the contractions that made them.

    In an integer pipeline the accumulators of a contraction are normalised, activated and requantized
    before they are written: no tensor in between is stored any wider than the layer's input. Where several
    tensors meet (a residual sum), this goes on with the one that was made last; the others have been
    written before, at the bits of their own readers, or as wide as they were made.

    Args:
        structure: of an inference.
        layer: a layer with a contraction.
    """
    order = {id(op): position for position, op in enumerate(structure.ops)}
    makers: dict[int, list[Op]] = {}
    for op in structure.ops:
        if op.phase is Phase.FORWARD:
            for index in op.outputs:
                makers.setdefault(index, []).append(op)
    found: dict[int, None] = {}
    waiting = [index for op in structure.by_layer[layer] for index in _data(structure, op)]
    while waiting:
        index = waiting.pop()
        if index in found:
            continue
        found[index] = None
        for maker in makers.get(index, []):
            if maker.contraction is None:
                waiting.extend(_last_made(_data(structure, maker), makers, order))
    return tuple(found)


def _last_made(indices: list[int], makers: dict[int, list[Op]], order: dict[int, int]) -> list[int]:
    """Return the one of an op's operands that was finished last; none of them where there is none."""
    finished = {index: max((order[id(op)] for op in makers.get(index, [])), default=-1) for index in indices}
    return sorted(finished, key=lambda index: finished[index])[-1:]


def _data(structure: Structure, op: Op) -> list[int]:
    """Return the activations among an op's inputs: no weights, no running statistics."""
    return [index for index in op.inputs if structure.tensors[index].role in _ACTIVATIONS]
