"""A process that has imported coordeval once and forks a child for every command line.

Starting Python and importing takes a second or two, a fork some milliseconds: only so can a
hundred commands be killed in a test. It reads one JSON request per line from stdin and answers
with one line: `start` forks (and answers with the pid at once), `wait` reaps a child.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from contextlib import suppress


def main(modules: list[str]) -> None:
    """Import, say so, and serve requests until stdin closes."""
    for name in modules:
        with suppress(ModuleNotFoundError):  # parts of other packages that only save time
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children share these pages
    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            answer({"pid": start(request)})
        else:
            _, status = os.waitpid(request["pid"], 0)
            answer({"code": os.waitstatus_to_exitcode(status)})


def answer(message: dict) -> None:
    """One line to whoever asked."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def start(request: dict) -> int:
    """Fork a child that runs one command line; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = become_command(request)
    except BaseException:  # noqa: BLE001 - a child ends here, whatever it met
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def become_command(request: dict) -> int:
    """Be `coordeval ARGS...` in this process, under the faults that were asked for; its code."""
    for number, name in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags, 0o644), number)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = open(number, "r" if number == 0 else "w", encoding="utf-8")  # noqa: SIM115, PTH123
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(request["cwd"])
    sys.argv = ["coordeval", *request["args"]]
    import child_faults

    for fault in request["faults"]:
        getattr(child_faults, fault["kind"])(
            **{key: value for key, value in fault.items() if key != "kind"}
        )
    from coordeval.cli.app import main as run

    try:
        run()
    except SystemExit as stop:
        code = stop.code
    else:
        code = 0
    for finish in child_faults.AT_THE_END:
        finish()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return 0 if code is None else int(code)


if __name__ == "__main__":
    main(sys.argv[1:])
