"""The sections `sampler`, `fidelity`, `hardware_sweep` and `warm_start`: how to look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from codesign.sections.section import Section


class Sampler(Section):
    """Who proposes the next design."""

    name: Literal["auto", "nsga2", "nsga3", "tpe", "gp", "random"] = Field(
        default="auto", description="auto: tpe below 200 trials, nsga2 from there on."
    )
    population: int = Field(default=20, ge=2, description="NSGA-II's and NSGA-III's population size.")
    alike: int = Field(
        default=0,
        ge=0,
        description="Begin with so many designs that treat all layers alike, before the sampler is asked.",
    )
    candidates: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Draw this many proposals a trial and take the one that a predictor, fitted to the "
        "study's own trials, ranks first; 1: no predictor.",
    )
    window: int = Field(
        default=8,
        ge=1,
        description="Trials in flight: the next is drawn when the oldest is told. Part of the answer, so "
        "that one worker and many give the same trials; keep it above the number of workers.",
    )
    deterministic: bool = Field(
        default=True,
        description="Tell results in the order of the draws, so that the same seed gives the same trials "
        "with any number of workers and across kills; false keeps more workers busy where trials differ in "
        "length.",
    )


class Fidelity(Section):
    """Multi-objective successive halving: only the better part of each stage is trained on.

    At the end of a stage a trial goes on if it is among the best 1/eta of all that reached it, by
    non-domination rank of all objectives.
    """

    eta: int = Field(default=3, ge=2, description="One in this many goes on.")
    epochs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="Fine-tuning epochs after which a stage ends, rising, below training.epochs."
    )
    data: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        default=None,
        description="Share of the training examples used in each of these stages; 1 where absent.",
    )
    early: tuple[str, ...] = Field(
        default=(),
        description="Zero-cost scores (`cosearch list zero_cost`) as first stages, before training.",
    )

    @model_validator(mode="after")
    def _rising(self) -> Fidelity:
        if not self.epochs and not self.early:
            raise ValueError("fidelity needs `epochs` or `early` (or leave the section out)")
        if list(self.epochs) != sorted(set(self.epochs)):
            raise ValueError(f"epochs must rise, but got {list(self.epochs)}")
        if self.data is not None and len(self.data) != len(self.epochs):
            raise ValueError(
                f"data needs one share for each of the {len(self.epochs)} epochs, but got {len(self.data)}"
            )
        return self


class HardwareSweep(Section):
    """For every trained half, cost many accelerators of the space at once and keep their front."""

    designs: int = Field(
        ge=1, le=100_000, description="Accelerators a trial; all of the space where it has no more."
    )
    shortlist: int | None = Field(
        default=None,
        ge=1,
        description="Of these, how many every half is priced on: those that do best, untrained, for the "
        "reference design and a few others. All where absent.",
    )
    told: int = Field(default=4, ge=0, description="Of those kept, how many the sampler learns from.")

    @model_validator(mode="after")
    def _shorter(self) -> HardwareSweep:
        if self.shortlist is not None and self.shortlist >= self.designs:
            raise ValueError(
                f"`shortlist` must be below `designs`, but got shortlist={self.shortlist} and "
                f"designs={self.designs}; left out, every half is priced on all designs"
            )
        return self


class WarmStart(Section):
    """Begin with the best designs of an earlier run, whose space may differ."""

    run: Path = Field(description="The earlier run folder.")
    designs: int = Field(default=8, ge=1, description="Of its front, at most this many are drawn first.")
