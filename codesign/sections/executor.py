"""The section `executor`: where trials are evaluated, and what one may take."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from codesign.sections.section import Section
from hw_templates.names import nearest

# A host, which may be an IPv6 address in brackets, and its port.
RAY_PLACE = re.compile(r"(?:ray://)?\[?([^\[\]/\s]+?)\]?:(\d{1,5})")


class Limits(Section):
    """What one trial may take; one that takes more is a failed trial, with the reason."""

    trial_minutes: float | None = Field(
        default=None, gt=0, description="Wall time of one job of a trial, pretraining included."
    )
    trial_memory_bytes: int | None = Field(
        default=None, ge=2**20, description="Resident memory of the process that evaluates it."
    )


class LocalProcesses(Limits):
    """Worker processes on this machine."""

    workers: int | None = Field(default=None, ge=1, le=1024, description="One per core where absent.")


class RayCluster(Limits):
    """Workers on a Ray cluster, which shares no disk with the driver."""

    address: str = Field(
        default="auto",
        description="auto (a cluster on this machine, or RAY_ADDRESS), HOST:PORT, ray://HOST:PORT, or local: "
        "a private one, for trying it out.",
    )
    workers: int | None = Field(default=None, ge=1, description="As many as fit the cluster where absent.")
    cpus_per_trial: float = Field(default=1.0, gt=0, description="Cores that Ray keeps for one worker.")
    gpus_per_trial: float = Field(default=0.0, ge=0, description="GPUs that Ray keeps for one worker.")

    @field_validator("address")
    @classmethod
    def _has_a_form(cls, value: str) -> str:
        if value not in ("auto", "local") and RAY_PLACE.fullmatch(value) is None:
            raise ValueError(
                f"a Ray address is auto, local, HOST:PORT or ray://HOST:PORT, but got {value!r} (ports by "
                "default: 6379, and 10001 with ray://)"
            )
        return value


class Executor(Section):
    """Where trials are evaluated: `local` (worker processes), `ray` (a cluster) or `in_process`."""

    local: LocalProcesses | None = None
    ray: RayCluster | None = None
    in_process: bool = False

    @model_validator(mode="after")
    def _one(self) -> Executor:
        named = [name for name in ("local", "ray", "in_process") if getattr(self, name)]
        if len(named) > 1:
            raise ValueError(
                f"one executor evaluates a run, but got {' and '.join(named)}; name the other away, e.g. "
                "-o 'executor={ray: {address: auto}}'"
            )
        return self


def read_executor(value: object) -> object:
    """Take a bare name for an executor of which nothing else is said."""
    if not isinstance(value, str):
        return value
    known = {"local": {"local": {}}, "ray": {"ray": {}}, "in_process": {"in_process": True}}
    if value not in known:
        raise ValueError(f"no executor is named {value!r}.{nearest(value, known)} Known: {', '.join(known)}")
    return known[value]
