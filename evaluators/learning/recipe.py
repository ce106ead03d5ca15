"""How a proxy is trained: everything about training that a study fixes and a design does not choose."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Recipe(BaseModel):
    """Pretraining of the dense network, then fine-tuning of the compressed one.

    The optimizer and the batch size are the design's (`search_spaces.learning`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pretrain_epochs: int = Field(
        default=15, ge=0, description="Epochs of the dense network, once per network."
    )
    epochs: int = Field(default=8, ge=1, description="Epochs of every compressed design, from those weights.")
    pretrain_learning_rate: float = Field(default=0.1, gt=0, description="Peak rate of pretraining.")
    learning_rate: float = Field(
        default=0.05, gt=0, description="Peak rate of fine-tuning: momentum SGD's at batch 64, others scale."
    )
    weight_decay: float = Field(default=1e-4, ge=0, description="L2 penalty of the weights.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share of the label spread evenly.")
    distillation: float = Field(
        default=0.0, ge=0, le=1, description="Share of the fine-tuning loss that follows the dense network."
    )
    temperature: float = Field(default=4.0, gt=0, description="Softens the answers in distillation.")
