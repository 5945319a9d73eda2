"""Puts the demo's recorded runs and scenes into the wheel, as `coordeval/demo_data`.

They stand once in the repository, under fixtures/, and keep their places relative to each other.
An editable install takes them from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RUNS = ("shapes-final", "ckpt-300", "ckpt-2400")
SCENES = "heldout"


def demo_files(fixtures: Path) -> list[Path]:
    """Every file of the demo, relative to the fixtures folder; FileNotFoundError for a lost one."""
    files = [Path("runs", run, name) for run in RUNS for name in ("run.json", "rollouts.jsonl")]
    files.append(Path("scenes", f"{SCENES}.jsonl"))
    images = sorted((fixtures / "scenes" / "images").glob(f"{SCENES}-*.png"))
    files += [image.relative_to(fixtures) for image in images]
    for file in files:
        if not (fixtures / file).is_file():
            raise FileNotFoundError(fixtures / file)
    return files


class DemoData(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook: adds the files to a standard wheel, not to an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds `version` (`standard` or `editable`)."""
        if version != "standard":
            return
        fixtures = Path(self.root, "fixtures")
        for file in demo_files(fixtures):
            build_data["force_include"][str(fixtures / file)] = f"coordeval/demo_data/{file}"
