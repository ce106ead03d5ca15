"""A design leaves the tool: a folder that says what it is, and can be scored again.

design.yaml          the design, and the question it answers (network, data, training, seed)
accelerator.yaml     the chip with every number in it
scores.json          its scores, and the measured facts that the cost was taken from
weights.safetensors  the trained weights, as the chip stores them
README.md            what it is, and how to evaluate it again
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, ValidationError
from safetensors import SafetensorError
from torch import nn

from codesign.describe import design_summary
from codesign.errors import ExportError
from codesign.problem import bench_of, dataset_spec
from codesign.report.quantities import format_quantity
from codesign.results import TrialResult
from codesign.run_folder import RunFolder
from codesign.sections.data import Dataset
from codesign.study_file import StudyFile
from evaluators.bench import Bench
from evaluators.evaluate import compress, measure, price
from evaluators.half_choices import replacements_of
from evaluators.learning.recipe import Recipe
from evaluators.scores import Accuracy, derive, score_kinds
from evaluators.shapes import ImageShape, ShapesOnly
from evaluators.trained import Trained, trained_from_json, trained_to_json
from hw_templates.accelerator import Accelerator
from hw_templates.chip_file import accelerator_from_yaml
from search_spaces.design import Design, design_from_json, design_to_json

VERSION = 1


class _DesignFile(BaseModel):
    """The form of `design.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    study: str
    trial: int
    dataset: Dataset
    training: Recipe
    seed: int
    design: Annotated[InstanceOf[Design], BeforeValidator(design_from_json)]


def export_design(folder: RunFolder, study: StudyFile, result: TrialResult, out: Path) -> Path:
    """Write one trained design as a folder of its own.

    Raises:
        ExportError: the folder exists, the trained weights are no longer in the cache, or never were there.
    """
    if study.dataset.shapes is not None:
        raise ExportError(
            f"the data set {study.dataset.name!r} has no examples, so trial {result.trial} has no "
            f"trained weights to export; its design and scores are in {folder.trial_path(result.trial)}"
        )
    variant = "" if result.variant is None else f".{result.variant}"
    path = out / f"{study.name}-{result.trial:05d}{variant}"
    if path.exists():
        raise ExportError(f"{path} exists already; remove it, or name another place with --out")
    design = design_from_json(result.design)
    bench = bench_of(study, folder.cache_path)
    home, trained = bench.half_path(design.algorithm), bench.kept(design.algorithm)
    if home is None or trained is None:
        raise ExportError(
            f"the trained weights of trial {result.trial} are not in {folder.cache_path} any more, or are "
            "damaged; a new run of the same study trains them again"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{out} cannot be made: {error.strerror}") from None
    building = Path(tempfile.mkdtemp(dir=out, prefix=f".{path.name}."))
    try:
        building.chmod(0o755)
        shutil.copyfile(home / "weights.safetensors", building / "weights.safetensors")
        _write(building, trained, study, result, design)
        building.rename(path)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return path


def _write(building: Path, trained: Trained, study: StudyFile, result: TrialResult, design: Design) -> None:
    dataset = study.dataset.model_copy(update={"data_root": None})
    data = {
        "version": VERSION,
        "study": study.name,
        "trial": result.trial,
        "dataset": dataset.model_dump(mode="json"),
        "training": study.model_dump(mode="json")["training"],
        "seed": study.seed,
        "design": design_to_json(design),
    }
    (building / "design.yaml").write_text(yaml.safe_dump(data, sort_keys=False, width=110), encoding="utf-8")
    (building / "accelerator.yaml").write_text(design.accelerator.build().to_yaml(), encoding="utf-8")
    scores = {"version": VERSION, "scores": dict(result.scores), "facts": trained_to_json(trained)}
    (building / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    (building / "README.md").write_text(_readme(study, result, design), encoding="utf-8")


def _readme(study: StudyFile, result: TrialResult, design: Design) -> str:
    kinds = score_kinds()
    scores = "\n".join(
        f"| {name} | {format_quantity(value, kinds[name].unit)} | {kinds[name].description} |"
        for name, value in result.scores.items()
    )
    parts = "\n".join(f"| {label} | {value} |" for label, value in design_summary(design))
    return f"""# Trial {result.label} of the study `{study.name}`

{study.description}

| part | choice |
|---|---|
{parts}

| score | value | meaning |
|---|---|---|
{scores}

Files: `design.yaml` (the design and the question it answers), `accelerator.yaml` (the chip, every number in
it), `scores.json` (these scores in full precision), `weights.safetensors` (weights as the chip stores them:
quantized values, pruned ones zero, pruned filters gone where the network allows it). In Python,
`codesign.load_network(".")` is the network.

Evaluate it again, from this folder (add `--data-root DIR` where the data set needs files):

    cosearch evaluate .

The cost scores come out exactly as here; the accuracy is that of the saved weights.
"""


def load_network(
    path: str | Path,
    *,
    data_root: Path | None = None,
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
) -> nn.Module:
    """Return the network of an exported design with its weights, in evaluation mode.

    It is the compressed one: replaced layers are their parts, filters that were pruned are gone, weights are
    on their levels, and activations are quantized on the way.

    Args:
        path: the exported folder.
        data_root: folder of the data files, which say the shape of an image and the number of classes.
        input_shape: channels, height and width; given with `num_classes`, no data are needed.
        num_classes: of the data set.

    Raises:
        ExportError: the folder is incomplete, or a file of it is wrong or of another version.
        TechniqueError: the weights are not those of this network and design.
    """
    file = _read_design(Path(path) / "design.yaml")
    spec = dataset_spec(file.dataset.model_copy(update={"data_root": data_root}))
    if input_shape is not None and num_classes is not None:
        shape = ImageShape(input_shape=input_shape, num_classes=num_classes)
        spec = replace(spec, shapes=ShapesOnly(default=shape))
    bench = Bench(dataset=spec, recipe=file.training, seed=file.seed, cache=None)
    return bench.network_of(file.design.algorithm, _weights_of(Path(path)))


def _weights_of(path: Path) -> Path:
    weights = path / "weights.safetensors"
    if not weights.is_file():
        raise ExportError(f"{weights} is missing: an exported design has its weights beside it")
    return weights


def evaluate_exported(path: Path, data_root: Path | None) -> dict[str, float]:
    """Return the scores of an exported design: cost from its files, accuracy from its weights.

    Raises:
        ExportError: the folder is incomplete, or a file of it is wrong or of another version.
    """
    file = _read_design(path / "design.yaml")
    chip = _read_chip(path / "accelerator.yaml")
    facts = _read_facts(path / "scores.json")
    dataset = file.dataset.model_copy(update={"data_root": data_root})
    bench = Bench(dataset=dataset_spec(dataset), recipe=file.training, seed=file.seed, cache=None)
    half = file.design.algorithm
    traced = bench.trace(file.design.network, file.design.learning, replacements_of(half))
    weights = _weights_of(path)
    try:
        accuracy: Accuracy = bench.accuracy(file.design.algorithm, weights)
    except SafetensorError as error:
        raise ExportError(f"{weights} is not readable as safetensors: {error}") from None
    measured = measure(compress(traced, file.design.algorithm), facts)
    return derive(price(measured, chip, accuracy=accuracy).facts).as_dict()


def _read_design(path: Path) -> _DesignFile:
    try:
        return _DesignFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}; name the folder of a design") from None
    except yaml.YAMLError as error:
        raise ExportError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()
        )
        raise ExportError(f"{path}: {problems}") from None


def _read_chip(path: Path) -> Accelerator:
    try:
        return accelerator_from_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from None


def _read_facts(path: Path) -> Trained:
    try:
        return trained_from_json(json.loads(path.read_text(encoding="utf-8"))["facts"])
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path} does not hold the facts of a design: {error!r}") from None
