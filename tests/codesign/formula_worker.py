"""A worker process whose evaluations are a formula and a nap: the protocol of `codesign.worker`, no torch."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from codesign.jobs import Answer, deliver, job_from_json
from codesign.run_folder import open_run
from tests.codesign.conftest import formula_result

NAP_S = 0.2


def main(path: str) -> None:
    """Serve jobs until the input ends."""
    folder = open_run(Path(path))
    stages = folder.study().stages
    for line in sys.stdin:
        job = job_from_json(json.loads(line)["job"])
        print(json.dumps({"began": job.number}), flush=True)
        time.sleep(NAP_S * (0.5 + job.number % 7 / 6))
        deliver(folder, Answer(result=formula_result(job, stages=stages, chips=2)))
        print(json.dumps({"finished": job.number}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
