"""Train a configuration file: one process of a spread training."""

import sys
from pathlib import Path

from coordeval.training.config_file import load_config
from coordeval.training.stage1 import train_stage1

if __name__ == "__main__":
    print(train_stage1(load_config(Path(sys.argv[1]))).to_json())
