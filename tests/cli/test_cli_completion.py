"""The tab key: what a shell is offered while a command is typed."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("coordeval ro", ["rollout"]),
        ("coordeval roll --da", []),
        ("coordeval rollout --da", ["--data", "--data-parallel"]),
        ("coordeval data v", ["validate"]),
    ],
)
def test_a_shell_completes_commands_and_options(typed, offered):
    """The tab key offers verbs and options, and says nothing where there is nothing to offer."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    main = "import sys; sys.argv[:] = ['coordeval']; from coordeval.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", main],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | words | {"_COORDEVAL_COMPLETE": "complete_bash"},
    )
    assert (done.stdout.split(), done.stderr) == (offered, "")
