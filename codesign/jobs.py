"""What crosses between the driver and whoever evaluates: a job one way, its answer the other.

Both are plain data. A worker needs nothing but the study file and the job, and no disk that it shares with
the driver.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from codesign.files import publish, write_json
from codesign.results import TrialResult, TrialState, result_from_json
from codesign.run_folder import RunFolder
from search_spaces.choice import JsonValue


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Take one trial to the end of one stage.

    Args:
        number: the trial.
        stage: from 0; studies without fidelity have the one stage.
        design: the design as JSON data.
    """

    number: int
    stage: int
    design: JsonValue

    def to_json(self) -> dict[str, JsonValue]:
        """Return the job as JSON data."""
        return {"number": self.number, "stage": self.stage, "design": self.design}


def job_from_json(data: Mapping[str, JsonValue]) -> Job:
    """Return the job that `Job.to_json` wrote."""
    return Job(
        number=int(cast(int, data["number"])), stage=int(cast(int, data["stage"])), design=data["design"]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of a job: the result, and where the energy goes where the trial is over."""

    result: TrialResult
    ledger: Mapping[str, object] | None = None

    def to_text(self) -> str:
        """Return the answer as JSON text."""
        return json.dumps({"result": self.result.to_json(), "ledger": self.ledger}, allow_nan=False)


def answer_from_text(text: str) -> Answer:
    """Return the answer that `Answer.to_text` wrote."""
    data = json.loads(text)
    return Answer(result=result_from_json(data["result"]), ledger=data["ledger"])


def deliver(folder: RunFolder, answer: Answer) -> None:
    """Publish an answer in the run folder; of two answers to one job the first stays."""
    result = answer.result
    if answer.ledger is not None:
        write_json(folder.ledger_path(result.label), answer.ledger)
    if result.state is TrialState.PARTIAL:
        publish(folder.stage_path(result.trial, result.stage), result.to_json())
    else:
        publish(folder.result_path(result.trial), result.to_json())
