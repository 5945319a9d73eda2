"""Command lines run in children of a warmed process: cheap, to be killed, or put under faults.

A child is a process of its own: streams, exit code, environment and folder are as for the shell's.
What a command imports is not seen here (the warmed process has imported it); tests of that start
Python themselves.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Fault = dict[str, Any]

# As it is before any test changes it.
ENVIRONMENT = dict(os.environ)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIXTURES = ROOT / "fixtures"
SCENES = FIXTURES / "scenes" / "heldout.jsonl"
# What the commands of these tests import, beyond what these import themselves.
MODULES = (
    "pandas",
    "pandas.io.parquet",
    "pyarrow.parquet",
    "hotcoco",
    "pydantic.main",
    "pydantic.type_adapter",
    "pydantic.types",
    "rich.progress",
    "typer._adapters",
    "coordeval.cli.app",
    "coordeval.cli.check",
    "coordeval.cli.compare",
    "coordeval.cli.export",
    "coordeval.cli.import_run",
    "coordeval.cli.inspect",
    "coordeval.cli.merge",
    "coordeval.cli.report",
    "coordeval.cli.rollout",
    "coordeval.cli.rollout_progress",
    "coordeval.cli.score",
    "coordeval.engines.job",
    "coordeval.engines.options",
    "coordeval.engines.replay_source",
    "coordeval.exchange.importing",
    "coordeval.metrics.score",
    "coordeval.metrics.write",
    "coordeval.reports.comparison",
    "coordeval.reports.console",
    "coordeval.reports.html.report",
    "coordeval.reports.terminal",
    "coordeval.run_damage",
    "coordeval.stats.comparison",
    "coordeval.stats.gates_check",
)
MODEL_MODULES = (
    "torch",
    "transformers",
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
    "coordeval.engines.hf_source",
    "coordeval.engines.hf",
    "transformers.trainer",
    "coordeval.cli.train",
    "coordeval.training.stage1",
    "coordeval.training.stage2.entry",
    "coordeval.training.training_run",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code (negative: the signal) and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The last line on stderr; a traceback is never what a user should see."""
        assert "Traceback" not in self.stderr, self.stderr
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else ""


@dataclass(frozen=True, slots=True)
class Started:
    """A command that runs."""

    pid: int
    stdout: Path
    stderr: Path


class Commands:
    """Commands of one warmed process: `start` and `wait`, or `run` for both."""

    def __init__(self, folder: Path, modules: tuple[str, ...]) -> None:
        self.folder = folder
        self._count = 0
        environment = ENVIRONMENT | {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "NO_COLOR": "1",
            "COLUMNS": "160",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-B", str(HERE / "zygote.py"), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        assert self._read() == {"ready": True}

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the warmed process died"
        return dict(json.loads(line))

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def start(
        self,
        *args: object,
        cwd: Path = ROOT,
        faults: Sequence[Fault] = (),
        stdout: Path | None = None,
        env: Mapping[str, str] | None = None,
        script: Path | None = None,
    ) -> Started:
        """Fork a child that is `coordeval ARGS`, under faults: functions of child_faults.py.

        `env` is its whole environment; without it, it has that of the warmed process. With
        `script` the child is `python SCRIPT ARGS`.
        """
        self._count += 1
        out, err = (self.folder / f"{self._count}.{name}" for name in ("out", "err"))
        pid = self._ask(
            do="start",
            args=[str(arg) for arg in args],
            cwd=str(cwd),
            faults=list(faults),
            env=None if env is None else dict(env),
            script=None if script is None else str(script),
            stdout=str(stdout or out),
            stderr=str(err),
        )["pid"]
        return Started(pid, out, err)

    def wait(self, child: Started) -> Ended:
        """Wait for a child's end."""
        code = self._ask(do="wait", pid=child.pid)["code"]
        return Ended(code, _text(child.stdout), _text(child.stderr))

    def poll(self, child: Started) -> int | None:
        """The exit code of a child that has ended (asked for once), None while it runs."""
        code = self._ask(do="poll", pid=child.pid)["code"]
        return None if code is None else int(code)

    def run(self, *args: object, **options: Any) -> Ended:
        """Run a command to its end."""
        return self.wait(self.start(*args, **options))

    def number_of_changes(self, *args: object, under: Path, cwd: Path = ROOT) -> int:
        """How often an undisturbed command changes files below a folder; it must end well."""
        to = self.folder / "changes"
        fault = {"kind": "count_changes", "under": str(under), "to": str(to)}
        ended = self.run(*args, cwd=cwd, faults=[fault])
        assert ended.code == 0, ended.stderr
        return int(to.read_text())

    def close(self) -> None:
        """End the warmed process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


_SHARED: dict[bool, Commands] = {}


def shared_commands(*, model: bool = False) -> Commands:
    """The commands of this test process, warmed when first asked for.

    `model`: of a process that has imported what decodes and trains as well.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("needs fork and /proc")
    if model not in _SHARED:
        folder = Path(tempfile.mkdtemp(prefix="coordeval-streams-"))
        _SHARED[model] = Commands(folder, (*MODULES, *(MODEL_MODULES if model else ())))
    return _SHARED[model]


def close_shared() -> None:
    """End the shared processes that were warmed, and remove what their commands wrote."""
    for commands in _SHARED.values():
        commands.close()
        shutil.rmtree(commands.folder)
    _SHARED.clear()


def run_forked(
    *args: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: bool = True,
    model: bool = False,
) -> subprocess.CompletedProcess[Any]:
    """`coordeval ARGS` in a fork, as `subprocess.run` with captured output tells of it.

    `model`: the command decodes or trains, which a process with torch in it does sooner.
    """
    commands = shared_commands(model=model)
    child = commands.start(*args, cwd=cwd or Path.cwd(), env=os.environ if env is None else env)
    code = commands.wait(child).code
    streams = [path.read_bytes() for path in (child.stdout, child.stderr)]
    shown = [io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read() for data in streams]
    return subprocess.CompletedProcess(args, code, *(shown if text else streams))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def killed_at(number: int, under: Path) -> Fault:
    """SIGKILL right before the n-th change of a file below a folder."""
    return {"kind": "kill_at_change", "under": str(under), "number": number}


def files_of(folder: Path) -> dict[str, Any]:
    """Every file below a folder by its relative path; JSON documents without their dates."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name == ".lock":
            continue
        content: Any = path.read_bytes()
        if path.name == "run.json":
            content = json.loads(content)
            for key in ("created", "updated"):
                content.pop(key)
        found[str(path.relative_to(folder))] = content
    return found
