"""One of two processes: channel A under DistributedDataParallel against one process alone."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from channel_a_setup import Material, gradients, same, stage2, step, tiny_model

from coordeval.training.data.batches import blanked


def main(folder):
    # Before the group is there: only its first process would write files.
    material = Material(Path(folder) / os.environ["RANK"])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    for mode, checkpointing in (("unroll", False), ("em_detach", False), ("unroll", True)):
        model = tiny_model()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        channel = material.channel(model, stage2("gumbel_softmax", mode=mode))
        whole = material.batch(1, 3)
        counts = channel.counts(whole)
        _, theirs = step(channel, model, whole, counts)
        spread = torch.nn.parallel.DistributedDataParallel(model)
        for shares in (((1,), (3,)), ((1, 3), None)):
            mine = shares[rank]
            batch = blanked(material.batch(0)) if mine is None else material.batch(*mine)
            model.zero_grad()
            computed = channel(spread, batch, channel.divisors(counts))
            # The wrapper takes the mean of both processes' gradients.
            (computed.loss * dist.get_world_size()).backward()
            same(gradients(model), theirs)
    if rank == 0:
        print("both processes agree", flush=True)
    dist.barrier()
    # Taking gloo's group down may wait for a thread that waits for this one.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
