"""Code blocks of a page, and running them in the order in which a reader would."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from forked_commands import run_forked

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE
)
FILE_NAME = re.compile(r"`(\w[\w.-]*\.(?:toml|jsonl|yaml))`")
EXIT_CODE = re.compile(r"# exit code (\d+)$")
QUOTED = re.compile(r"'[^']*'|\"[^\"$`]*\"|#.*")
FOR_THE_SHELL = re.compile(r"[|&;<>$`*?(){}\\~=]")


def docs_module(name):
    """A module of docs/, which import each other by their bare names as scripts do."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))
    return importlib.import_module(name)


class Block(NamedTuple):
    """One fenced block: its language ("" for none), its text, and the file that it shows, if any."""

    kind: str
    text: str
    file: str | None


def blocks_of(page):
    """All fenced blocks of a page; the file is the last one named before the block."""
    text = page.read_text(encoding="utf-8")
    out = []
    for match in BLOCK.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["body"].splitlines(keepends=True))
        names = FILE_NAME.findall(text[: match.start()])
        out.append(Block(match["kind"], body, names[-1] if names else None))
    return out


def run_page(page, folder):
    """Every block of a page, run in `folder`; what is run is returned, failures fail the test."""
    (folder / "fixtures").symlink_to(ROOT / "fixtures")
    ran, script = [], ""
    for block in blocks_of(page):
        if block.kind == "sh":
            script = _run_script(script, folder, ran)
            for line in block.text.splitlines():
                _run_line(line, folder)
                ran.append(line)
        elif block.kind == "python":
            script += block.text + "\n\n"
        elif block.kind in {"toml", "json", "yaml"}:
            assert block.file, f"{page}: nothing says which file this block is: {block.text}"
            (folder / block.file).write_text(block.text, encoding="utf-8")
    _run_script(script, folder, ran)
    return ran


def typed(line, folder):
    """How a line ends that is typed in a folder: by the shell, or what it would do in a fork."""
    words = shlex.split(line, comments=True)
    if words[0] != "coordeval" or FOR_THE_SHELL.search(QUOTED.sub("", line)):
        return _run(["bash", "-c", line], folder)
    model = words[1] == "train" or any((folder / word / "config.json").exists() for word in words)
    return run_forked(*words[1:], cwd=folder, env=_environment(), model=model)


def _run_line(line, folder):
    expected = EXIT_CODE.search(line)
    done = typed(line, folder)
    code = int(expected[1]) if expected else 0
    assert done.returncode == code, f"{line}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"


def _run_script(script, folder, ran):
    """The Python blocks so far as one file: with pytest where they are tests."""
    if script:
        tests = "def test_" in script
        path = folder / ("test_shown.py" if tests else "shown.py")
        path.write_text(script, encoding="utf-8")
        command = (
            [sys.executable, "-m", "pytest", "-q", path.name]
            if tests
            else [sys.executable, path.name]
        )
        done = _run(command, folder)
        assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        ran.append(path.name)
    return ""


def _environment():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def _run(command, folder):
    return subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
