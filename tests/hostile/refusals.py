"""How the hostile tests look at a refusal, and at the memory that reading takes."""

import subprocess
import sys
import textwrap

from coordeval.errors import CoordevalError

_MEASURED = """
import resource, sys
from pathlib import Path
from coordeval.errors import CoordevalError
path = Path(sys.argv[1])
{prepare}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {call}
except CoordevalError as error:
    print(error, file=sys.stderr)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def refusal_of(call):
    """The text of the refusal that a call ends with; None where it is not refused."""
    try:
        call()
    except CoordevalError as error:
        text = str(error)
        assert "\n" not in text, text
        assert 0 < len(text) < 1500, text[:300]
        return text
    return None


def peak_mb(prepare, call, path):
    """Megabytes that `call` adds to the peak of a fresh process, and what it was refused with.

    `prepare` are the imports; both are code in which `path` is a Path.
    """
    code = _MEASURED.format(prepare=textwrap.dedent(prepare), call=call)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr
