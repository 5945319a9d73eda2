"""Images of noise with nothing to find: the hardest case for a model that only knows scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from coordeval.errors import ConfigError, DataError
from coordeval.jsonl import dump_line


def write_noise_images(
    out_dir: Path, *, count: int = 32, seed: int = 0, side_px: int = 64, name: str = "noise"
) -> Path:
    """Write `count` square images of uniform RGB noise without ground truth, and return the JSONL.

    `<name>.jsonl` and `images/<name>-0000.png`, ids `0000`, `0001`, ... Image i depends on `seed`,
    `side_px` and i alone. `count` 0 writes an empty file. Raises ConfigError for sizes and counts
    that make no sense, DataError where the folder cannot be written.
    """
    if count < 0 or seed < 0 or side_px < 1:
        raise ConfigError("noise images need count >= 0, seed >= 0 and a side of 1 pixel or more")
    out_dir = Path(out_dir)
    path = out_dir / f"{name}.jsonl"
    lines: list[bytes] = []
    try:
        (out_dir / "images").mkdir(parents=True, exist_ok=True)
        for index in range(count):
            relative = f"images/{name}-{index:04d}.png"
            draw = np.random.default_rng((seed, index))
            pixels = draw.integers(0, 256, size=(side_px, side_px, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(out_dir / relative, format="PNG", optimize=False)
            lines.append(
                dump_line(
                    {
                        "id": f"{index:04d}",
                        "image": relative,
                        "image_id": index + 1,
                        "width": side_px,
                        "height": side_px,
                        "objects": [],
                        "metadata": {"scene": "noise", "seed": seed},
                    }
                )
            )
        path.write_bytes(b"".join(lines))
    except OSError as error:
        raise DataError(f"{out_dir}: cannot be written: {error.strerror or error}") from None
    return path


__all__ = ["write_noise_images"]
