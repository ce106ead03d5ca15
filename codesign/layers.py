"""`layers.json`: the layers of every network of a space, so that the driver needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from codesign.files import read_json
from search_spaces.ask import LayerInfo
from search_spaces.choice import JsonValue, to_json
from search_spaces.network import NetworkChoice
from search_spaces.space import Describe


def layers_to_json(layers: Mapping[NetworkChoice, tuple[LayerInfo, ...]]) -> JsonValue:
    """Return the layers by network as JSON data, in a stable order."""
    rows: list[JsonValue] = [
        {
            "network": to_json(network),
            "layers": [
                {
                    "name": info.name,
                    "kind": info.kind,
                    "weight_shape": list(info.weight_shape),
                    "is_edge": info.is_edge,
                    "groups": info.groups,
                }
                for info in infos
            ],
        }
        for network, infos in layers.items()
    ]
    return sorted(rows, key=str)


def read_layers(path: Path) -> Describe:
    """Return a function from a network choice to its layers."""
    rows = cast("list[dict[str, list[dict[str, str | list[int]]]]]", read_json(path))
    table = {
        str(row["network"]): tuple(
            LayerInfo(
                name=str(info["name"]),
                kind=str(info["kind"]),
                weight_shape=tuple(int(size) for size in info["weight_shape"]),
                is_edge=bool(info.get("is_edge", False)),  # folders of older versions do not say it
                groups=int(str(info.get("groups", 1))),
            )
            for info in row["layers"]
        )
        for row in rows
    }
    return lambda network: table[str(to_json(network))]
