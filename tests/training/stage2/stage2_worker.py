"""Train a stage-2 configuration file: one process of a spread training, or one that is killed.

`python stage2_worker.py CONFIG [stand_in|rollouts] [STEP PLACE]`: the process kills itself in
optimizer step STEP (from 1), in its `rollouts` or before its `update`.
"""

import os
import signal
import sys
from pathlib import Path

from stage2_setup import stand_in
from transformers import TrainerCallback

from coordeval.training.config_file import load_config
from coordeval.training.stage2 import entry


class Killed(TrainerCallback):
    """Kills the process after the gradient of a step, before its update."""

    def __init__(self, step):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_in_rollouts(make, at):
    """The channel that `make` makes; its rollouts of step `at` (from 1) kill the process."""

    def made(*args):
        channel = make(*args)
        prepare = channel.prepare

        def prepared(batches, step, **rest):
            made = prepare(batches, step, **rest)
            if step + 1 == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        channel.prepare = prepared
        return channel

    return made


def main(path, kind="stand_in", step="0", place="rollouts"):
    if kind == "stand_in":
        entry._channel_b = stand_in
    callbacks = []
    if place == "update":
        callbacks.append(Killed(int(step)))
    else:
        entry._channel_b = killed_in_rollouts(entry._channel_b, int(step))
    print(entry.train_stage2(load_config(Path(path)), callbacks=callbacks).to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
