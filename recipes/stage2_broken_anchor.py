"""`coordeval train` with a mistake of the past in it, for study `anchor`.

In `em_detach`, iteration 0 of channel A once ran without gradients, so that the cross-entropy of
the text, which stands on it, taught nothing, while it was logged as if it did. No option of
coordeval brings that back; study `anchor` of recipes/stage2_studies.py does, to show what it costs.
It takes the arguments of `coordeval train`.
"""

from __future__ import annotations

import sys
from functools import partial

from coordeval.cli.app import main as coordeval
from coordeval.training.stage2 import channel_a


def main() -> None:
    """Train with iteration 0's gradient switched off."""
    broken = partial(channel_a.ChannelA, _anchor_without_gradient=True)
    channel_a.ChannelA = broken  # type: ignore[assignment, misc]
    sys.argv[1:1] = ["train"]
    coordeval()


if __name__ == "__main__":
    main()
