"""What a run on Ray costs beside decoding: the driver's work per image, blocks, images, starts.

Starts a local Ray cluster with replicas that write nothing but a recorded answer, so that all that
is left is what the driver does: Ray Data's loop, the run directory, progress, the final order. Its
CPU time per image says how many images a second one driver can take, whatever the GPUs do. Then
images by bytes through the desk, and how long real replicas take to start.

    python benchmarks/bench_ray.py [--images 20000]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.engines.base import Request
    from coordeval.records import Rollout

ROOT = Path(__file__).parents[1]
BLOCK = 16
RECORDS = 20  # per answer: about 300 tokens


class Echo:
    """A replica without an engine: answers every request at once, with one text."""

    def __init__(self, **_: Any) -> None:
        pass

    def __call__(self, table: Any) -> Any:
        """One answer per block."""
        import pyarrow as pa

        from coordeval.engines.base import new_rollout
        from coordeval.engines.ray_wire import Answer, pack, unpack

        record = '{"desc": "traffic light", "bbox_2d": [<|coord_10|>, <|coord_20|>, <|coord_300|>, '
        text = '{"objects": [' + ", ".join([record + "<|coord_400|>]}"] * RECORDS) + "]}"
        out = []
        for raw in table.column("block").to_pylist():
            block = unpack(raw)
            rollouts = [
                new_rollout(
                    request,
                    text,
                    finish_reason="stop",
                    token_ids=list(range(15 * RECORDS)),
                    token_logprobs=[-0.0123456] * (15 * RECORDS),
                    prompt_tokens=300,
                    seconds=0.1,
                )
                for request in block.requests
            ]
            out.append(pack(Answer(block=block.name, node="n", node_id="i", rollouts=rollouts)))
        return pa.table({"answer": pa.array(out, pa.large_binary())})


class Inner:
    """Says what the replicas are."""

    def describe(self) -> dict[str, Any]:
        """Name and no more."""
        return {"identity": {"name": "echo"}, "environment": {}, "versions": {}}

    def vocabulary(self) -> None:
        """None at hand."""

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Never asked: the replicas are."""
        raise NotImplementedError(f"{len(requests)} requests")

    def close(self) -> None:
        """Nothing to close."""


def drive(images: int, folder: Path) -> None:
    """A whole run with echoing replicas; prints the driver's time per image."""
    from coordeval.data.dataset import open_dataset
    from coordeval.engines import ray_stream
    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.ray_cluster import Cluster
    from coordeval.engines.ray_engine import Pace, RayEngine
    from coordeval.engines.runner import run_rollouts
    from coordeval.parsers.dialects import dialect_named

    setattr(ray_stream, "Replica", Echo)  # noqa: B010 - it stands for the real one
    scenes = list(open_dataset(ROOT / "fixtures" / "scenes" / "heldout.jsonl"))
    samples = [replace(scenes[i % len(scenes)], id=f"{i:07d}") for i in range(images)]
    cluster = Cluster("local")
    stream = ray_stream.RayDataStream(
        cluster,
        None,  # type: ignore[arg-type]
        hashes=(None, None),
        need={"CPU": 0.5},
        replicas=2,
    )
    engine = RayEngine(
        Inner(),
        stream,
        pace=Pace(block=BLOCK, at_once=4, held=8),
        replicas=2,
        about={},
        versions={},
        notify=print,
    )
    marks: dict[str, tuple[float, float]] = {}

    def mark(name: str) -> None:
        marks[name] = time.perf_counter(), time.process_time()

    def watch(progress: Any) -> None:
        if progress.made and "first" not in marks:
            mark("first")
        if progress.done == images:
            mark("last")

    mark("start")
    outcome = run_rollouts(
        engine,
        samples,
        out=folder / "run",
        identity={"checkpoint": {"name": "echo", "hash": None}},
        extra={},
        decode=DecodeSettings(max_new_tokens=1),
        dialect=dialect_named("coordjson"),
        on_progress=watch,
    )
    mark("end")
    engine.close()
    assert outcome.counts["finished"] == images
    size = (folder / "run" / "rollouts.jsonl").stat().st_size
    blocks = -(-images // BLOCK)
    print(f"{images} images in {blocks} blocks of {BLOCK}, {size / images:.0f} bytes each")
    for name, since, until in (
        ("blocks handed to Ray, actors up", "start", "first"),
        ("answers taken and written", "first", "last"),
        ("counted and put in order", "last", "end"),
    ):
        wall, cpu = (marks[until][i] - marks[since][i] for i in (0, 1))
        print(
            f"  {name:32} {wall:6.1f} s wall {cpu:6.1f} s CPU of the driver, "
            f"{1000 * cpu / images:.3f} ms per image"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"  memory of the driver at most {peak:.2f} GB")


def send_images(folder: Path, count: int = 200, size: int = 150_000) -> None:
    """Images of a usual size from the desk to a worker, in blocks, as bytes."""
    import ray

    from coordeval.engines.ray_cluster import Cluster
    from coordeval.engines.ray_desk import Desk, RayDesk

    paths = []
    for index in range(count):
        path = folder / f"{index}.jpg"
        path.write_bytes(os.urandom(size))
        paths.append(str(path))
    cluster = Cluster("local")
    desk = ray.remote(Desk).options(num_cpus=0, max_concurrency=8).remote()

    def fetch(handle: Any, names: list[str]) -> tuple[int, float, float]:
        asked = RayDesk(handle)
        asked.states(names[:1])
        started = time.perf_counter()
        for start in range(0, len(names), BLOCK):
            asked.states(names[start : start + BLOCK])
        looked = time.perf_counter() - started
        started = time.perf_counter()
        blocks = range(0, len(names), BLOCK)
        got = sum(len(item) for i in blocks for item in asked.read(names[i : i + BLOCK]))
        return got, looked, time.perf_counter() - started

    got, looked, seconds = ray.get(ray.remote(fetch).remote(desk, paths))
    print(f"states of {count} files: {1000 * looked / count:.2f} ms per image")
    rate = got / seconds / 1e6
    print(f"{count} images of {size / 1e3:.0f} kB as bytes: {rate:.0f} MB/s, one replica")
    cluster.close()


def start_replicas(folder: Path) -> None:
    """One real replica on a fixture checkpoint: how long until the first answer."""
    from coordeval.engines.job import rollout_checkpoint
    from coordeval.engines.options import RolloutOptions

    for engine in ("hf", "ray"):
        times: list[float] = []
        started = time.perf_counter()

        def watch(progress: Any, times: list[float] = times, started: float = started) -> None:
            if progress.made:
                times.append(time.perf_counter() - started)

        options = RolloutOptions(
            checkpoint=str(ROOT / "fixtures" / "ckpt-2400"),
            data=ROOT / "fixtures" / "scenes" / "heldout.jsonl",
            runs_dir=folder,
            out=folder / engine,
            engine=engine,
            ray_address="local" if engine == "ray" else None,
            replicas=1 if engine == "ray" else None,
        )
        rollout_checkpoint(options, on_progress=watch)
        print(f"{engine}: first answer after {times[0]:.1f} s, all 64 after {times[-1]:.1f} s")


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--images", type=int, default=20_000)
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drive(given.images, folder)
        send_images(folder)
        start_replicas(folder)


if __name__ == "__main__":
    main()
