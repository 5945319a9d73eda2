"""What libraries log and warn of, made safe to print: they repeat a checkpoint's names verbatim."""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import suppress
from typing import Any

from coordeval.reports.printable import printable

_STYLE = re.compile("\x1b\\[[0-9;]*m")  # bold and colours, which libraries set themselves


def make_library_words_printable() -> None:
    """From now on no log record and no warning of this process holds control characters."""
    make_record, format_warning = logging.getLogRecordFactory(), warnings.formatwarning

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make_record(*args, **kwargs)
        # A wrong format string is told by the logging module itself.
        with suppress(TypeError, ValueError, KeyError):
            made.msg, made.args = _lines(made.getMessage()), ()
        return made

    def formatted(*args: Any, **kwargs: Any) -> str:
        return _lines(format_warning(*args, **kwargs))

    logging.setLogRecordFactory(record)
    warnings.formatwarning = formatted


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in _STYLE.sub("", text).split("\n"))


__all__ = ["make_library_words_printable"]
