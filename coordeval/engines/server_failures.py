"""What can go wrong between us and a server, told apart by what may be done about it."""

from __future__ import annotations


class ServerFailure(Exception):  # noqa: N818 - the base of what follows
    """One request did not come to an answer; the text says why, on one line.

    `retryable`: the same request may well succeed later. `blames_server`: many of these in a row
    mean that the server is gone, and that asking on is pointless.
    """

    retryable = True
    blames_server = True


class ServerAway(ServerFailure):
    """No connection, a connection that broke, or no answer in time."""


class ServerBusy(ServerFailure):
    """HTTP 429 or 503; `retry_after_s` is how long the server asks us to wait, if it does."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerBroken(ServerFailure):
    """HTTP 5xx."""


class GarbageAnswer(ServerFailure):
    """An answer that is no chat completion: not JSON, fields missing or of the wrong type."""


class HugeAnswer(GarbageAnswer):
    """An answer larger than any that was asked for could be; asking again would bring it again."""

    retryable = False


class RequestRefused(ServerFailure):
    """HTTP 4xx (or a redirect): the server is well, and does not want this request."""

    retryable = False
    blames_server = False

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class GrammarFailed(ServerFailure):
    """The server's structured outputs cannot work with the grammar."""

    retryable = False
    blames_server = False


__all__ = [
    "GarbageAnswer",
    "GrammarFailed",
    "HugeAnswer",
    "RequestRefused",
    "ServerAway",
    "ServerBroken",
    "ServerBusy",
    "ServerFailure",
]
