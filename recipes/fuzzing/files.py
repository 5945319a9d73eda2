"""Targets that read single files: training logs, event files, TOML, YAML, images."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

from fuzzing.mutators import bend_bytes
from fuzzing.target import FIXTURES, ROOT, Target, try_each, written

if TYPE_CHECKING:
    from pathlib import Path

_BYTES_ALONE = (bend_bytes,)
_BETWEEN_EVENTS = b"\n--\n"


def _log_seeds() -> list[bytes]:
    jsonl = [path.read_bytes() for path in sorted((FIXTURES / "logs").rglob("*.jsonl"))]
    states = [path.read_bytes() for path in sorted((FIXTURES / "logs").rglob("*.json"))]
    return [b"\n".join(data.splitlines()[:20]) for data in jsonl] + [
        state for state in states if len(state) < 200_000
    ]


def _logs(data: bytes, folder: Path) -> None:
    """A trainer state and a log of JSON lines."""
    from coordeval.dynamics.discover import read_logs

    names = "trainer_state.json", "logging.jsonl"
    try_each(*(lambda name=name: read_logs([written(data, folder, name)]) for name in names))


def _event_seeds() -> list[bytes]:
    from importlib import import_module

    event: Any = import_module("tensorboard.compat.proto.event_pb2").Event
    tensor: Any = import_module("tensorboard.util.tensor_util").make_tensor_proto
    out = [event(file_version="brain.Event:2").SerializeToString()]
    for step in range(3):
        one = event(step=step, wall_time=1.0)
        one.summary.value.add(tag="train/loss", simple_value=0.5)
        other = one.summary.value.add(tag="eval/loss")
        other.tensor.CopyFrom(tensor(0.25))
        out.append(one.SerializeToString())
    return [_BETWEEN_EVENTS.join(out), *out]


def _events(data: bytes, folder: Path) -> None:
    """An event file as it is, and with the bytes as contents of sound records."""
    from importlib import import_module

    from coordeval.dynamics.log import LogFile
    from coordeval.dynamics.read_tensorboard import read_event_file

    stub: Any = import_module("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")

    def framed(payload: bytes) -> bytes:
        head = struct.pack("<Q", len(payload))
        sums = [struct.pack("<I", stub.masked_crc32c(part)) for part in (head, payload)]
        return head + sums[0] + payload + sums[1]

    whole = b"".join(map(framed, data.split(_BETWEEN_EVENTS)))

    def read(content: bytes) -> None:
        path = written(content, folder, "events.out.tfevents.1")
        read_event_file(LogFile(path=path, kind="tensorboard"))

    try_each(lambda: read(data), lambda: read(whole))


def _toml_seeds() -> list[bytes]:
    prompt = (
        b'user = "Find {classes}"\nsystem = "s"\norder = "text_image"\n[chat_template]\na = 1\n'
    )
    return [
        (FIXTURES / "coordeval.toml").read_bytes(),
        (ROOT / "coordeval.toml").read_bytes(),
        b'gates = ["coco/AP:-0.5pt"]\n',
        b'[gates]\n"f1/0.50/f1" = ">=0.8"\n"coco/AP" = [0.1, "-0.5pt"]\n',
        prompt,
    ]


def _toml(data: bytes, folder: Path) -> None:
    """Defaults, a prompt and gates, all from the same bytes."""
    from coordeval.config import load_defaults
    from coordeval.data.prompts import load_prompt
    from coordeval.stats.gates_files import gates_of, read_gates_file

    path = written(data, folder, "coordeval.toml")
    try_each(
        lambda: gates_of(load_defaults(folder).gates, "x"),
        lambda: load_prompt(path, class_names=["a"]).sha256,
        lambda: read_gates_file(path),
    )


def _yaml_seeds() -> list[bytes]:
    laughs = b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ntrainer: {x: *c}\n"
    files = sorted((ROOT / "recipes").glob("*.yaml"))
    return [*(path.read_bytes() for path in files), laughs, b"gates:\n- coco/AP:-0.5pt\n"]


def _yaml(data: bytes, folder: Path) -> None:
    """A training configuration with its hash and its printed form, and gates."""
    from coordeval.stats.gates_files import read_gates_file
    from coordeval.training.config_file import config_hash, config_yaml, load_config

    path = written(data, folder, "train.yaml")

    def train() -> None:
        config = load_config(path)
        config_hash(config)
        config_yaml(config)

    try_each(train, lambda: read_gates_file(path))


def _image_seeds() -> list[bytes]:
    from PIL import Image

    picture = Image.effect_noise((23, 17), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    out = []
    for form, mode in (
        *(("PNG", mode) for mode in ("RGB", "P", "I;16", "LA")),
        *(("JPEG", mode) for mode in ("RGB", "CMYK")),
        *((form, "RGB") for form in ("WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")),
        ("GIF", "P"),
    ):
        buffer = io.BytesIO()
        image = picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
        options: dict[str, Any] = {"exif": exif} if form in {"PNG", "JPEG", "WEBP", "TIFF"} else {}
        image.save(buffer, form, **options)
        out.append(buffer.getvalue())
    return out


def _image(data: bytes, folder: Path) -> None:
    """An image is loaded with the size that its header gave, or refused."""
    from coordeval.data.images import load_upright_rgb, upright_size

    path = written(data, folder, "image.png")
    size = upright_size(path)
    image = load_upright_rgb(path)
    assert image.mode == "RGB"
    assert image.size == size, (image.size, size)


TARGETS = (
    Target(name="logs", run=_logs, seeds=_log_seeds),
    Target(name="event file", run=_events, seeds=_event_seeds, mutators=_BYTES_ALONE),
    Target(name="toml", run=_toml, seeds=_toml_seeds, mutators=_BYTES_ALONE),
    Target(name="yaml", run=_yaml, seeds=_yaml_seeds, mutators=_BYTES_ALONE, weight=2),
    Target(
        name="image", run=_image, seeds=_image_seeds, mutators=_BYTES_ALONE, weight=2, pumped=False
    ),
)

__all__ = ["TARGETS"]
