"""`python -m coordeval.training.rollout_eval.worker JOB`: one evaluation in a process of its own.

JOB is a JSON file that the training wrote. It does what `coordeval rollout` does, then scores; the
training reads the run directory when this process has ended.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from coordeval.errors import CoordevalError, RunLockedError, RunMismatchError
from coordeval.jsonl import dump_line, load_document

SECONDS_BETWEEN_TRIES = 2.0


def write_job(path: Path, **job: Any) -> None:
    """Store what `run_job` needs: see there."""
    path.write_bytes(dump_line(job))


def run_job(job: dict[str, Any]) -> int:
    """Roll out and score; 0 where every sample has a line, else 3.

    `data` are fields of `EvalData`; `checkpoint` and `out` are folders; `engine` is a name.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from dataclasses import replace

    from coordeval.data.prompts import Prompt
    from coordeval.engines.job import rollout_checkpoint
    from coordeval.training.rollout_eval.plan import EvalData
    from coordeval.training.rollout_eval.runs import score_folder, set_aside

    out, data = Path(job["out"]), dict(job["data"])
    if isinstance(data.get("prompt"), dict):
        data["prompt"] = Prompt(**data["prompt"])
    options = EvalData(**data).options(
        out.parent, checkpoint=job["checkpoint"], engine=job["engine"]
    )
    options = replace(options, out=out)
    while True:
        try:
            outcome = rollout_checkpoint(options, notify=_say, handle_signals=True)
            break
        except RunMismatchError as error:
            _say(f"{error}: kept as {set_aside(out).name}, and done anew")
        except RunLockedError as error:  # by the process of a training that was killed
            _say(f"{error}: waiting")
            time.sleep(SECONDS_BETWEEN_TRIES)
    score_folder(outcome.path)
    return outcome.exit_code(max_errors=outcome.counts["rollouts"])


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(arguments: list[str]) -> int:
    """Run one job file; the error's exit code where it cannot be done."""
    try:
        return run_job(load_document(Path(arguments[0])))
    except CoordevalError as error:
        _say(f"{type(error).__name__}: {error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

__all__ = ["main", "run_job", "write_job"]
