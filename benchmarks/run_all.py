"""Every benchmark in turn, each in a process of its own: `make bench`.

    python benchmarks/run_all.py [--quick] [--only scoring] [--out runs/bench]

Writes one JSON file per benchmark into --out and prints the tables as they come. What cannot run
here is named with the reason, and the others go on. `write_docs.py` makes docs/benchmarks.md of the
files. The vLLM row runs in the environment beside this one, where it is (`make vllm-tests`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from script import FORMAT

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
THIS, VLLM = "this environment", "vllm"


class Step(NamedTuple):
    """One benchmark: its file in --out, its script and arguments, and the environment it needs."""

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    environment: str = THIS


STEPS: tuple[Step, ...] = (
    Step("parsing", "bench_parsing.py"),
    Step("cli_start", "bench_cli_start.py"),
    Step("scoring", "bench_scoring.py"),
    Step("memory", "bench_memory.py"),
    Step("growth", "bench_growth.py"),
    Step("compare", "bench_compare.py"),
    Step("attribution", "bench_attribution.py"),
    Step("report", "bench_report.py"),
    Step("overhead_hf", "bench_engine_overhead.py", ("--engine", "hf")),
    Step("overhead_vllm", "bench_engine_overhead.py", ("--engine", "vllm"), VLLM),
    Step("constraint", "bench_constraint.py"),
    Step("guard", "bench_guard.py"),
    Step("guard_saving", "bench_guard_saving.py"),
    Step("training", "bench_training.py"),
    Step("stage2", "bench_stage2.py"),
)
"""In the order of the page."""


def vllm_python() -> Path:
    """The interpreter of the environment with vLLM, as the Makefile makes it."""
    given = os.environ.get("COORDEVAL_VLLM_PYTHON")
    return Path(given) if given else Path(f"{sys.prefix}-vllm") / "bin" / "python"


def run_step(step: Step, out: Path, *, quick: bool) -> str | None:
    """Run one; None, or why there is no result. An older result of it never stays."""
    result = out / f"{step.name}.json"
    result.unlink(missing_ok=True)
    python = Path(sys.executable)
    if step.environment == VLLM:
        python = vllm_python()
        if not python.exists():
            return _without(step, result, "vLLM is not installed (make vllm-tests installs it)")
    command = [str(python), str(HERE / step.script), "--json", str(result), *step.arguments]
    done = subprocess.run([*command, *(["--quick"] if quick else [])], cwd=ROOT, check=False)
    if done.returncode:
        return _without(step, result, f"{step.script} ended with exit code {done.returncode}")
    return None


def _without(step: Step, result: Path, reason: str) -> str:
    missing = {"format": FORMAT, "script": step.script, "missing": reason}
    result.write_text(json.dumps(missing, indent=1) + "\n", encoding="utf-8")
    return reason


def main() -> int:
    """Run them; 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, not figures")
    parser.add_argument("--only", action="append", choices=[step.name for step in STEPS])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    begun = time.perf_counter()
    for step in STEPS:
        if options.only and step.name not in options.only:
            continue
        print(f"\n== {step.name}", flush=True)
        start = time.perf_counter()
        reason = run_step(step, out, quick=options.quick)
        if reason is not None:
            print(f"no result: {reason}", flush=True)
            if step.environment == THIS:
                failed.append(step.name)
        print(f"== {step.name} took {time.perf_counter() - start:.0f} s", flush=True)
    print(f"\n== in all {(time.perf_counter() - begun) / 60:.1f} min; results in {options.out}")
    if failed:
        print(f"without a result: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
