"""Write a dataset of noise images: `python recipes/noise_images.py OUT`.

Uniform RGB noise with empty ground truth, seeded. A model that was never shown such images leaves
its format there first: a quick test of what a constraint is worth.

    python recipes/noise_images.py runs/noise
    coordeval rollout fixtures/shapes-final --data runs/noise/noise.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path

from coordeval.data.noise import write_noise_images


def main() -> None:
    """Write the images and print where the JSONL is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for noise.jsonl and images/")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=64, help="width and height in pixels")
    given = parser.parse_args()
    print(write_noise_images(given.out, count=given.count, seed=given.seed, side_px=given.side))


if __name__ == "__main__":
    main()
