"""Distillation: the loss in closed form, and a student that comes nearer to its teacher."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evaluators.data.splits import DataSplits, Split
from evaluators.learning.backprop import fine_tune
from evaluators.learning.recipe import Recipe
from evaluators.learning.training import distillation_loss
from search_spaces.learning import Backpropagation


def test_the_loss_in_closed_form() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0 * math.log(3), 0.0]])
    labels = torch.tensor([1])
    found = distillation_loss(student, teacher, labels, Recipe(distillation=0.25, temperature=2.0))
    # At temperature 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2.
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(found) == pytest.approx(0.75 * math.log(2) + 0.25 * 4 * divergence, rel=1e-5)


def test_without_a_share_it_is_the_labels_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(8, 3, generator=draw), torch.randn(8, 3, generator=draw)
    labels = torch.arange(8) % 3
    found = distillation_loss(student, teacher, labels, Recipe(label_smoothing=0.1))
    torch.testing.assert_close(found, F.cross_entropy(student, labels, label_smoothing=0.1))


def test_a_student_learns_what_labels_do_not_say() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(256, 1, 4, 4, generator=draw)
    labels = torch.randint(0, 4, (256,), generator=draw)  # noise: only the teacher knows anything
    split = Split(images=images, labels=labels)
    splits = DataSplits(train=split, validation=split, test=split, num_classes=4)

    def network(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))

    teacher = network(1).eval()

    def agreement(recipe: Recipe) -> float:
        student = network(2)
        fine_tune(student, splits, recipe, Backpropagation(batch_size=32), seed=0, teacher=teacher)
        with torch.no_grad():
            return float((student(images).argmax(dim=1) == teacher(images).argmax(dim=1)).float().mean())

    assert agreement(Recipe(epochs=4, distillation=1.0)) > agreement(Recipe(epochs=4)) + 0.2
