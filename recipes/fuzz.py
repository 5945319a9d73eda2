"""Fuzz every reader of foreign bytes for some time, and say what was found.

    python recipes/fuzz.py --minutes 60 --seed 0

Every target runs in a process of its own, one after the other: its share of the time by its
weight, a fifth of that to look for inputs whose cost grows faster than their size. With atheris
installed (`pip install 'coordeval[fuzz]'`) inputs are chosen by the coverage they reach. Findings
are inputs that raise what they may not, hang, or take more than 3 GiB; each is kept as a file.
Ends with 1 where there are findings, else with 0. A target is read in `recipes/fuzzing/`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fuzzing.growth import SUSPECT_EXPONENT
from fuzzing.session import HANG_SECONDS, run_session
from fuzzing.table import TARGETS

GRACE_SECONDS = 60
SLICE_SECONDS = 60.0
"""With atheris a target's process is replaced this often: that engine's own memory grows with its
executions, up to the limit after some minutes. What it has found out is handed on."""
SEED_STEP = 1000
HEADERS = ("target", "executions", "read", "findings", "us/byte", "at bytes", "growth", "peak MB")


def main() -> int:
    """Parse the arguments, run the targets, print the table; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="time for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", choices=sorted(TARGETS), metavar="NAME")
    parser.add_argument("--engine", choices=("auto", "atheris", "random"), default="auto")
    parser.add_argument("--artifacts", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_session(
            options.child,
            seconds=options.seconds,
            seed=options.seed,
            engine=options.engine,
            out=options.out,
            artifacts=options.artifacts,
        )
        return 0
    engine = options.engine
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "random"
    started = time.monotonic()
    ledgers = run_all(
        options.targets or list(TARGETS),
        seconds=60 * options.minutes,
        seed=options.seed,
        engine=engine,
        artifacts=options.artifacts,
    )
    print(render(ledgers, engine, options.seed, time.monotonic() - started))
    if options.json:
        options.json.write_text(json.dumps(ledgers, indent=1) + "\n", encoding="utf-8")
    return int(any(ledger["findings"] for ledger in ledgers))


def run_all(
    names: list[str], *, seconds: float, seed: int, engine: str, artifacts: Path
) -> list[dict[str, Any]]:
    """Run the targets one after the other; their ledgers as plain data."""
    weights = {name: TARGETS[name].weight for name in names}
    ledgers = []
    for name in names:
        share = seconds * weights[name] / sum(weights.values())
        ledger = run_one(name, share, seed=seed, engine=engine, artifacts=artifacts)
        ledgers.append(ledger)
        print(" | ".join(cells(ledger)), file=sys.stderr, flush=True)
    return ledgers


def run_one(
    name: str, seconds: float, *, seed: int, engine: str, artifacts: Path
) -> dict[str, Any]:
    """One target, in one process or in several after each other that share their inputs."""
    slices = max(1, round(seconds / SLICE_SECONDS)) if engine == "atheris" else 1
    folder = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    ledgers = [
        _run_slice(
            name,
            seconds / slices,
            seed=seed + SEED_STEP * number,
            engine=engine,
            artifacts=artifacts,
            folder=folder,
        )
        for number in range(slices)
    ]
    shutil.rmtree(folder, ignore_errors=True)
    return merged(ledgers)


def merged(ledgers: list[dict[str, Any]]) -> dict[str, Any]:
    """One ledger of those of a target's processes: sums, worst cases, every finding once."""
    slowest = max(ledgers, key=lambda ledger: ledger["slowest_us_per_byte"])
    steepest = max(ledgers, key=lambda ledger: ledger["growth"].get("exponent", 0.0))
    findings = {(f["error"], f["place"]): f for ledger in ledgers for f in ledger["findings"]}
    return {
        **slowest,
        "executions": sum(ledger["executions"] for ledger in ledgers),
        "read": sum(ledger["read"] for ledger in ledgers),
        "seconds": round(sum(ledger["seconds"] for ledger in ledgers), 1),
        "peak_mb": max(ledger["peak_mb"] for ledger in ledgers),
        "findings": list(findings.values()),
        "growth": steepest["growth"],
        "finished": all(ledger["finished"] for ledger in ledgers),
    }


def _run_slice(
    name: str, seconds: float, *, seed: int, engine: str, artifacts: Path, folder: Path
) -> dict[str, Any]:
    """A process of its own; one that dies is a finding of its own."""
    out = folder / "ledger.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--child", name, "--seconds", str(seconds)]
    command += ["--seed", str(seed), "--engine", engine, "--out", str(out)]
    command += ["--artifacts", str(artifacts.resolve())]
    artifacts.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("wb") as sink:
        try:
            # TMPDIR: what the process leaves behind goes with the folder.
            done = subprocess.run(  # noqa: S603 - ourselves
                command,
                stdout=sink,
                stderr=subprocess.STDOUT,
                timeout=seconds + GRACE_SECONDS + 12 * HANG_SECONDS,
                env={**_environment(), "TMPDIR": str(folder)},
                check=False,
            )
            code: int | str = done.returncode
        except subprocess.TimeoutExpired:
            code = "killed: it would not end"
    ledger = _read(out, name, engine)
    if code != 0:
        tail = " ".join(log.read_text("utf-8", "replace").split())[-300:]
        ledger["findings"].append(
            {
                "error": "process died",
                "place": f"exit {code}",
                "text": tail,
                "input": "",
                "bytes": 0,
            }
        )
    return ledger


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def _read(path: Path, name: str, engine: str) -> dict[str, Any]:
    from dataclasses import asdict

    from fuzzing.session import Ledger

    if not path.exists():
        return asdict(Ledger(name=name, engine=engine))
    ledger: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return ledger


def cells(ledger: dict[str, Any]) -> list[str]:
    """One row of the table."""
    growth = ledger["growth"].get("exponent") if ledger["growth"] else None
    return [
        ledger["name"],
        f"{ledger['executions']:,}",
        f"{ledger['read']:,}",
        str(len(ledger["findings"])),
        f"{ledger['slowest_us_per_byte']:.1f}",
        f"{ledger['slowest_bytes']:,}",
        "-" if not growth else f"n^{growth:.2f}",
        f"{ledger['peak_mb']:.0f}",
    ]


def render(ledgers: list[dict[str, Any]], engine: str, seed: int, seconds: float) -> str:
    """The table, the findings, and pumps whose cost grows faster than they do, as Markdown."""
    rows = [list(HEADERS), *map(cells, ledgers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADERS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    executions = sum(ledger["executions"] for ledger in ledgers)
    findings = [(ledger["name"], found) for ledger in ledgers for found in ledger["findings"]]
    how = f"in {seconds / 60:.1f} minutes (engine {engine}, seed {seed})"
    lines.append("")
    lines.append(
        f"{executions:,} executions of {len(ledgers)} targets {how}: {len(findings)} findings"
    )
    lines.extend(
        f"- {name}: {found['error']} at {found['place']}: {found['text']} ({found['input']})"
        for name, found in findings
    )
    lines.extend(
        f"- steep: {ledger['name']}: {ledger['growth']['pump']}"
        for ledger in ledgers
        if ledger["growth"].get("exponent", 0) > SUSPECT_EXPONENT
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
