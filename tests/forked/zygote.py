"""A process that has imported coordeval once and forks a child for every command line.

Starting Python and importing takes a second or two (with torch five), a fork some milliseconds:
only so can a hundred commands be killed in a test. It reads one JSON request per line from stdin
and answers with one line: `start` forks (and answers with the pid at once), `wait` reaps a child,
`poll` reaps it if it has ended.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import runpy
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
            how = os.WNOHANG if request["do"] == "poll" else 0
            pid, status = os.waitpid(request["pid"], how)
            answer({"code": os.waitstatus_to_exitcode(status) if pid else None})


def answer(message: dict) -> None:
    """One line to whoever asked."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


@functools.cache
def know_chart_library() -> None:
    """Have the scripts of a page beforehand: each child would spend a second on asking for them.

    A child asks and tells: what it starts for that has threads, which no fork would survive.
    """
    from coordeval.reports.html import page

    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with open(writing, "w", encoding="utf-8") as handle:  # noqa: PTH123
                handle.write(page.chart_library())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as handle:  # noqa: PTH123
        text = handle.read()
    os.waitpid(pid, 0)
    if text:
        page.chart_library = lambda: text


def start(request: dict) -> int:
    """Fork a child that runs one command line, or a Python file; its pid."""
    if request["args"][:1] == ["report"]:
        know_chart_library()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = become_child(request)
    except BaseException:  # noqa: BLE001 - a child ends here, whatever it met
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def become_child(request: dict) -> int:
    """Be `coordeval ARGS...` or `python SCRIPT ARGS...` in this process, under faults; its code."""
    for number, name in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags, 0o644), number)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = open(number, "r" if number == 0 else "w", encoding="utf-8")  # noqa: SIM115, PTH123
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if request["env"] is not None:
        os.environ.clear()
        os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = [request["script"] or "coordeval", *request["args"]]
    import child_faults

    for fault in request["faults"]:
        getattr(child_faults, fault["kind"])(
            **{key: value for key, value in fault.items() if key != "kind"}
        )
    try:
        if request["script"]:
            run_script(request["script"])
        else:
            from coordeval.cli.app import main as run

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


def run_script(path: str) -> None:
    """Run a file as Python would that is started on it: with its folder and PYTHONPATH to import."""
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [os.path.dirname(path), *filter(None, folders)]  # noqa: PTH120
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
