"""Techniques: what each choice does to the torch model and to the workload, one module each."""

import importlib
import pkgutil

from evaluators.techniques.dispatch import (
    TechniqueError,
    apply,
    bake,
    finish,
    restore,
    rewrite,
    stored_density,
)
from evaluators.techniques.model import (
    Choices,
    LayerDensity,
    bake_model,
    compress_model,
    finish_model,
    measure_densities,
    observe,
    restore_model,
    stored_densities,
)

for _module in pkgutil.iter_modules(__path__):  # each technique registers on its choice's type
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Choices",
    "LayerDensity",
    "TechniqueError",
    "apply",
    "bake",
    "bake_model",
    "compress_model",
    "finish",
    "finish_model",
    "measure_densities",
    "observe",
    "restore",
    "restore_model",
    "rewrite",
    "stored_densities",
    "stored_density",
]
