"""The section `budget`: how long to look."""

from __future__ import annotations

from pydantic import Field, model_validator

from codesign.sections.section import Section


class Plateau(Section):
    """Stop when the front has stopped growing."""

    trials: int = Field(default=50, ge=1, description="Over this many finished trials ...")
    tolerance: float = Field(
        default=0.001, gt=0, lt=1, description="... the hypervolume grew by less than this share."
    )


class Budget(Section):
    """When to stop drawing: at the first of these that is reached."""

    trials: int | None = Field(
        default=None, ge=1, description="Trials in all, the reference design included."
    )
    training_minutes: float | None = Field(
        default=None, gt=0, description="Training of all workers together."
    )
    trainings: int | None = Field(
        default=None,
        ge=1,
        description="Whole trainings: a trial that was stopped early counts by its share of the epochs, one "
        "that was gated, or whose half was trained before, not at all.",
    )
    wall_minutes: float | None = Field(default=None, gt=0, description="Wall time over all sessions.")
    plateau: Plateau | None = Field(default=None, description="Stop when the front has stopped growing.")

    @model_validator(mode="after")
    def _some(self) -> Budget:
        if not self.text:
            raise ValueError(
                "a budget needs at least one of trials, training_minutes, trainings, wall_minutes"
            )
        return self

    @property
    def text(self) -> str:
        """The budget in words."""
        parts = [
            None if self.trials is None else f"{self.trials} trials",
            None if self.training_minutes is None else f"{self.training_minutes:g} minutes of training",
            None if self.trainings is None else f"{self.trainings} trainings",
            None if self.wall_minutes is None else f"{self.wall_minutes:g} minutes",
            None
            if self.plateau is None
            else f"{self.plateau.trials} trials in which the front does not grow",
        ]
        return " or ".join(part for part in parts if part)
