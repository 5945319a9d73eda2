"""Whether records follow where a container is broken, or where a token stands among them."""

from __future__ import annotations

import re

_ANSWER_ENDS = r"<\|(?:im_(?:start|end)|end(?:oftext|_of_text)?|eo[st](?:_id)?)\|>"


class RecordsAhead:
    """Finds the next record of a text before another container or the end of the answer.

    The last find is remembered: places that move forward search every part of the text once.
    """

    def __init__(self, text: str, *, container: str, record: str) -> None:
        self._text = text
        self._container = container
        self._pattern = f"{container}|{_ANSWER_ENDS}|(?P<record>{record})"
        self._found: re.Match[str] | None = None
        self._searched = False

    def find(self, place: int) -> int | None:
        """Where the next record begins, at `place` or behind it; None where there is none."""
        found = self._found
        if not self._searched or (found is not None and found.start() < place):
            found = self._found = re.compile(self._pattern).search(self._text, place)
            self._searched = True
        return found.start() if found is not None and found.lastgroup == "record" else None

    def containers(self, place: int) -> int:
        """How many containers open at `place` or behind it."""
        return sum(1 for _ in re.compile(self._container).finditer(self._text, place))


__all__ = ["RecordsAhead"]
