"""The cache of a run and the folder that runs share: what is damaged, foreign or not ours to share."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluators import shared_cache
from evaluators.bench import Bench
from evaluators.data import load
from evaluators.data.splits import Split
from evaluators.dataset_spec import DatasetSpec
from evaluators.digests import digest
from evaluators.learning.recipe import Recipe
from evaluators.learning.stages import Stage
from evaluators.learning.training import DivergedError
from evaluators.provenance import code_digest, data_digest, network_digest
from evaluators.trained import TrainedHalf
from search_spaces.design import AlgorithmicHalf
from search_spaces.space import Space, assemble

RECIPE = Recipe(pretrain_epochs=1, epochs=2)
SPACE = Space.model_validate({"learning": {"batch_size": 32}, "accelerator": {"templates": "eyeriss_like"}})


def bench(cache: Path, shared: Path | None = None, **changes: object) -> Bench:
    spec = DatasetSpec(name="digits", train_examples=64, validation_examples=32)
    spec = dataclasses.replace(spec, **{key: value for key, value in changes.items() if key in ("name",)})
    seed, recipe = changes.get("seed", 0), changes.get("recipe", RECIPE)
    stages = changes.get("stages", ())
    return Bench(dataset=spec, recipe=recipe, seed=seed, cache=cache, shared=shared, stages=stages)  # type: ignore[arg-type]


def half_of(network: str = "small_cnn") -> AlgorithmicHalf:
    return assemble(SPACE, {}, network, bench(Path()).layers)[0].algorithm


HALF = half_of()


def folders(path: Path, kind: str) -> list[Path]:
    return [one for one in path.glob(f"{kind}-*") if one.is_dir()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, TrainedHalf]:
    """A run that shared what it trained."""
    root = tmp_path_factory.mktemp("made")
    answer = bench(root / "run", root / "shared").train(HALF)
    assert (answer.cached, answer.epochs) == (False, 2)
    return root / "run", root / "shared", answer


@pytest.fixture
def shared(made: tuple[Path, Path, TrainedHalf], tmp_path: Path) -> Path:
    """A copy of its shared folder."""
    return Path(shutil.copytree(made[1], tmp_path / "shared"))


def test_another_run_finds_what_was_trained(
    made: tuple[Path, Path, TrainedHalf], shared: Path, tmp_path: Path
) -> None:
    one = bench(tmp_path / "run", shared)
    assert one.train(HALF) == TrainedHalf(trained=made[2].trained, cached=True)
    home = one.half_path(HALF)
    assert home is not None
    [lent] = folders(shared, "half")
    assert (home / "weights.safetensors").samefile(lent / "weights.safetensors")  # no bytes were copied
    assert not folders(tmp_path / "run", "pretrained")  # nothing was trained, nothing was needed
    shutil.rmtree(shared)
    assert bench(tmp_path / "run", shared).train(HALF).cached  # what it has is its own


def test_another_half_finds_the_pretrained_network(shared: Path, tmp_path: Path) -> None:
    [home] = folders(shared, "half")
    shutil.rmtree(home)
    one = bench(tmp_path / "run", shared)
    assert not one.train(HALF).cached
    [mine], [theirs] = folders(tmp_path / "run", "pretrained"), folders(shared, "pretrained")
    assert (mine / "weights.safetensors").samefile(theirs / "weights.safetensors")
    assert folders(shared, "half") == [home]  # given back


def test_across_file_systems_it_is_copied(
    made: tuple[Path, Path, TrainedHalf], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*paths: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    one = bench(tmp_path / "run", shared)
    assert one.train(HALF) == TrainedHalf(trained=made[2].trained, cached=True)
    home = one.half_path(HALF)
    assert home is not None
    names = {path.name for path in home.iterdir()}
    assert names == {"weights.safetensors", "facts.json"}


def _emptied(home: Path) -> None:
    (home / "facts.json").write_text("")


def _half_written(home: Path) -> None:
    text = (home / "facts.json").read_text()
    (home / "facts.json").write_text(text[: len(text) // 2])


def _other_facts(home: Path) -> None:
    (home / "facts.json").write_text('{"version": 1}')


def _a_list(home: Path) -> None:
    (home / "facts.json").write_text("[]")


def _numbers_of_another_type(home: Path) -> None:
    data = json.loads((home / "facts.json").read_text())
    (home / "facts.json").unlink()
    (home / "facts.json").write_text(json.dumps(data | {"densities": 3, "validation_accuracy": None}))


def _no_facts(home: Path) -> None:
    (home / "facts.json").unlink()


def _no_weights(home: Path) -> None:
    (home / "weights.safetensors").unlink()


def _cut_weights(home: Path) -> None:
    whole = (home / "weights.safetensors").read_bytes()
    (home / "weights.safetensors").unlink()
    (home / "weights.safetensors").write_bytes(whole[:-7])


def _noise(home: Path) -> None:
    (home / "weights.safetensors").unlink()
    (home / "weights.safetensors").write_bytes(bytes(range(256)))


DAMAGE = [
    _emptied,
    _half_written,
    _other_facts,
    _a_list,
    _numbers_of_another_type,
    _no_facts,
    _no_weights,
    _cut_weights,
    _noise,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_half_is_made_again(
    damage: Callable[[Path], None],
    made: tuple[Path, Path, TrainedHalf],
    shared: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [lent] = folders(shared, "half")
    damage(lent)
    one = bench(tmp_path / "run", shared)
    answer = one.train(HALF)
    assert not answer.cached
    assert answer.trained == made[2].trained
    assert str(lent) in caplog.text
    other = bench(tmp_path / "other", shared)
    assert other.train(HALF).cached  # the shared one was replaced
    home = other.half_path(HALF)
    assert home is not None
    damage(home)
    assert other.kept(HALF) is None
    other = bench(tmp_path / "other")
    assert not other.train(HALF).cached
    assert other.kept(HALF) == made[2].trained


@pytest.mark.parametrize("damage", [_emptied, _no_facts, _no_weights, _cut_weights, _noise])
def test_a_damaged_pretrained_network_is_made_again(
    damage: Callable[[Path], None], made: tuple[Path, Path, TrainedHalf], shared: Path, tmp_path: Path
) -> None:
    shutil.rmtree(folders(shared, "half")[0])
    damage(folders(shared, "pretrained")[0])
    answer = bench(tmp_path / "run", shared).train(HALF)
    assert answer.trained == made[2].trained
    shutil.rmtree(folders(tmp_path / "run", "half")[0])
    damage(folders(tmp_path / "run", "pretrained")[0])
    assert bench(tmp_path / "run").train(HALF).trained == made[2].trained


def test_weights_of_another_network_are_not_loaded(
    made: tuple[Path, Path, TrainedHalf], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(made[0], tmp_path / "run"))
    shutil.rmtree(folders(run, "half")[0])
    [home] = folders(run, "pretrained")
    tensors = load_file(home / "weights.safetensors")
    (home / "weights.safetensors").unlink()
    save_file({name: tensor[..., None] for name, tensor in tensors.items()}, home / "weights.safetensors")
    assert bench(run).train(HALF).trained == made[2].trained
    assert "weights of another network" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_shared_folder_that_cannot_be_written_is_only_read(
    made: tuple[Path, Path, TrainedHalf], shared: Path, tmp_path: Path
) -> None:
    shutil.rmtree(folders(shared, "half")[0])
    shared.chmod(0o555)
    assert not bench(tmp_path / "run", shared).train(HALF).cached
    shared.chmod(0o755)


def test_a_shared_folder_that_is_a_file_costs_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shared").write_text("not a folder")
    assert not bench(tmp_path / "run", tmp_path / "shared").train(HALF).cached
    assert "could not be had" in caplog.text
    assert bench(tmp_path / "run", tmp_path / "shared").train(HALF).cached


def test_stages_find_each_other_through_the_shared_folder(shared: Path, tmp_path: Path) -> None:
    stages = (Stage(epochs=1), Stage(epochs=2))
    one = bench(tmp_path / "one", shared, stages=stages)
    first = one.train(HALF, 0)
    assert (first.cached, first.epochs) == (False, 1)  # the shared half has no facts of this stage
    assert one.train(HALF).cached
    other = bench(tmp_path / "other", shared, stages=stages)
    assert other.train(HALF, 0) == TrainedHalf(trained=first.trained, cached=True)
    assert other.train(HALF).cached


def test_what_is_in_the_making_is_not_shared(tmp_path: Path) -> None:
    stages = (Stage(epochs=1), Stage(epochs=2))
    bench(tmp_path / "run", tmp_path / "shared", stages=stages).train(HALF, 0)
    assert not folders(tmp_path / "shared", "half")
    assert not folders(tmp_path / "shared", "partial")


@pytest.mark.parametrize("what", ["code", "data", "network", "machine", "seed", "recipe"])
def test_what_decides_a_half_is_in_the_shared_key(
    what: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, object] = {}
    if what == "seed":
        changes["seed"] = 1
    elif what == "recipe":
        changes["recipe"] = Recipe(pretrain_epochs=1, epochs=2, weight_decay=0.0)
    elif what == "machine":
        monkeypatch.setattr(shared_cache, "machine_facts", lambda: {"torch": "0.1", "processor": "abacus"})
    else:
        monkeypatch.setattr(shared_cache, f"{what}_digest", lambda *arguments: "another")
    answer = bench(tmp_path / "run", shared, **changes).train(HALF)
    assert not answer.cached
    assert len(folders(shared, "half")) == 2


@pytest.mark.parametrize("named", ["data", "network"])
def test_what_the_user_wrote_is_never_shared(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "written_by_the_user.py").write_text(
        "from evaluators.data import load\nfrom torch import nn\n"
        "def data(root, download):\n    return load('digits')\n"
        "def network(*, width, depth, input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    changes = {"name": "written_by_the_user:data"} if named == "data" else {}
    half = half_of("written_by_the_user:network") if named == "network" else HALF
    one = bench(tmp_path / "run", tmp_path / "shared", **changes)
    assert not one.train(half).cached
    assert one.train(half).cached
    assert not (tmp_path / "shared").exists()


def test_a_failure_that_cannot_be_read_is_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hot = Recipe(pretrain_epochs=0, epochs=2, learning_rate=1e30)
    for text in ("", "{}", '{"epoch": "x"}'):
        with pytest.raises(DivergedError):
            bench(tmp_path, recipe=hot).train(HALF)
        [failure] = tmp_path.glob("partial-*/failure.json")
        failure.write_text(text)
    with pytest.raises(DivergedError):
        bench(tmp_path, recipe=hot).train(HALF)
    assert json.loads(failure.read_text())["epoch"] == 1  # trained, and kept again
    assert "does not hold a failure" in caplog.text


def test_what_a_killed_process_was_building_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    one = bench(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        patch.setattr(shutil, "rmtree", lambda *arguments, **options: None)  # a kill clears nothing away
        with pytest.raises(KeyboardInterrupt):
            one.train(HALF)
    assert len(list(tmp_path.glob(".*"))) == 1  # of the pretrained network, which comes first
    assert not one.train(HALF).cached
    assert not list(tmp_path.glob(".*"))


def test_a_digest_is_of_names_types_shapes_and_bits() -> None:
    values = torch.arange(6, dtype=torch.float32)
    variants = [
        {"a": values},
        {"b": values},
        {"a": values.reshape(2, 3)},
        {"a": values.double()},
        {"a": values.int()},
        {"a": -values},  # minus zero, too
        {"a": values, "b": torch.tensor(1.0)},
        {"a": values.bfloat16()},
    ]
    assert len({digest(None, tensors) for tensors in variants} | {digest(1), digest(None)}) == 10
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})
    assert digest(None, {"a": values.reshape(2, 3).T}) == digest(
        None, {"a": values.reshape(2, 3).T.contiguous()}
    )


def test_digests_of_data_and_networks_see_one_bit() -> None:
    splits = load("digits")
    labels = splits.test.labels.clone()
    labels[0] = (labels[0] + 1) % 10
    other = dataclasses.replace(splits, test=Split(images=splits.test.images, labels=labels))
    assert data_digest(splits) == data_digest(load("digits"))
    assert data_digest(splits) != data_digest(other)
    one = bench(Path())
    first, second = one.build(HALF.network), one.build(HALF.network)
    assert network_digest(first) == network_digest(second)
    with torch.no_grad():
        next(second.parameters()).view(-1)[0] *= 1.0000002
    assert network_digest(first) != network_digest(second)
    assert len(code_digest()) == 64
