"""One process of a training that FSDP shards on the CPU, as accelerate does it on GPUs."""

import os
import sys
from pathlib import Path

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from coordeval.training.config_file import load_config
from coordeval.training.stage1 import train_stage1

_made = AcceleratorState.__init__


def _sharding(self, *args, **named):
    """Accelerate shards where there are accelerators alone; gloo does for two tiny processes."""
    _made(self, *args, **named)
    plugin = named.get("fsdp_plugin") or vars(self).get("fsdp_plugin")
    if plugin is not None and self.distributed_type is DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = plugin


if __name__ == "__main__":
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    AcceleratorState.__init__ = _sharding
    print(train_stage1(load_config(Path(sys.argv[1]))).to_json())
