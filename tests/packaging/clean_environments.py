"""Running commands of clean environments, and finding the interpreters that can be had."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command, cwd=None, env=None, timeout=240):
    """A finished process; a failing one fails the test with what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=timeout,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(env or {})},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def interpreter(version):
    """A working `pythonX.Y` of this machine, else None.

    Looked for under COORDEVAL_PYTHON_X_Y, as this very interpreter, on the PATH and with pyenv.
    """
    named = os.environ.get(f"COORDEVAL_PYTHON_{version.replace('.', '_')}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        named,
        sys.executable,
        *sorted(pyenv.glob(f"{version}.*/bin/python")),
        f"python{version}",
    ]
    for candidate in filter(None, candidates):
        try:
            told = subprocess.run(
                [str(candidate), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            continue
        if told.returncode == 0 and told.stdout.strip() == version:
            return str(candidate)
    return None
