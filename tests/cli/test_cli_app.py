"""The command line as a whole: light start, help everywhere, exit codes, plain output."""

import json
import signal
import subprocess
import sys

import pytest
from forked_commands import run_forked

from coordeval.cli.verbs import VERBS

HEAVY = (
    "torch",
    "transformers",
    "vllm",
    "pandas",
    "pyarrow",
    "pycocotools",
    "numpy",
    "scipy",
    "ray",
)
COMMANDS = (
    [[verb] for verb in VERBS]
    + [["data", name] for name in ("convert", "validate", "stats")]
    + [["vocab", "expand"]]
)


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "coordeval", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_imports_nothing_heavy(command):
    """Every --help works and imports no model or table library."""
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['coordeval', *{command!r}, '--help']\n"
        "try:\n    runpy.run_module('coordeval', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout
    assert "--help" in done.stdout


def test_importing_the_package_is_light():
    """`import coordeval` loads nothing beyond the standard library."""
    code = f"import sys, coordeval; assert not [n for n in {HEAVY!r} if n in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_verb_of_the_table_has_a_first_line_of_help():
    """The list of commands names every verb with its line."""
    listing = run_forked("--help").stdout
    for name, verb in VERBS.items():
        assert name in listing
        assert verb.help in " ".join(listing.split())


def test_version_is_printed():
    """--version prints name and number, and nothing else."""
    from coordeval import __version__

    assert run("--version").stdout == f"coordeval {__version__}\n"


def test_an_unknown_verb_is_exit_2_with_the_nearest_one():
    """A typing mistake is answered with the verb that was probably meant."""
    done = run_forked("scroe", "x")
    assert done.returncode == 2
    assert "coordeval score" in done.stderr
    assert done.stdout == ""


def test_a_fault_of_the_user_is_one_line_and_exit_2(tmp_path):
    """No traceback for a missing run: one line that says what and where."""
    done = run_forked("score", tmp_path / "absent")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'absent'}: no such run directory or rollout file\n"
    assert done.stdout == ""


def test_an_internal_error_is_exit_70_with_its_traceback(tmp_path):
    """Whatever no one foresaw says that it is a bug, and ends with 70."""
    code = (
        "import coordeval.cli.app as app, coordeval.runs as runs, sys\n"
        "def broken(path):\n    raise RuntimeError('boom')\n"
        "runs.open_run = broken\n"
        "sys.argv = ['coordeval', 'score', 'x']\n"
        "app.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "internal error: RuntimeError: boom" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_their_exit_code(number, code):
    """Ctrl-C is 130 and SIGTERM is 143, with one line, also where nothing has begun yet."""
    script = (
        "import sys, time, coordeval.cli.app as app, coordeval.runs as runs\n"
        "def endless(path):\n    print('up', file=sys.stderr, flush=True)\n    time.sleep(60)\n"
        "runs.open_run = endless\n"
        "sys.argv = ['coordeval', 'score', 'x']\n"
        "app.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "up\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert errors == f"stopped by {number.name} before the command was done\n"


def test_a_reader_that_leaves_is_no_error(tmp_path):
    """`coordeval ... | head -1` ends quietly."""
    lines = [
        json.dumps({"id": f"s{n}", "width": 9, "height": 9, "gt": [], "text": "x" * 50})
        for n in range(3000)
    ]
    dump = tmp_path / "d.jsonl"
    dump.write_text("\n".join(lines) + "\n")
    command = f"{sys.executable} -m coordeval inspect {dump} --limit 3000 --json | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("group", ["data", "vocab"])
def test_the_lines_of_a_group_are_whole(group):
    """In a list of commands no line is cut, also not at the dots of a sentence."""
    assert "..." not in run_forked(group, "--help").stdout.partition("Commands:")[2]


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c[0] not in {"data", "vocab", "demo"} or len(c) > 1],
    ids=" ".join,
)
def test_help_shows_an_example(command):
    """Whoever asks a command for help is shown how it is called."""
    said = " ".join(run_forked(*command, "--help").stdout.split())
    shown = said.partition("xample")[2]
    assert f"coordeval {' '.join(command)} " in shown
