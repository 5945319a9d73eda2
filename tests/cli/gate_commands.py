"""Runs the command line in a fresh process, for the tests of attribute and check."""

import subprocess
import sys

_MAIN = """
from coordeval.cli import verbs
for name in ("attribute", "check"):
    verbs.VERBS.setdefault(name, verbs.Verb(name, name, name))
from coordeval.cli.app import main
main()
"""


def run(*arguments, env=None, cwd=None):
    """The finished process of `coordeval ARGUMENTS`."""
    return subprocess.run(
        [sys.executable, "-c", _MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        cwd=cwd,
    )
