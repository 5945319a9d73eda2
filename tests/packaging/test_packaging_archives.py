"""What lies in the wheel and in the sdist."""

import importlib.util
import shutil
import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import coordeval
from coordeval.cli.demo import CHECKPOINTS, PACKAGED

ROOT = Path(__file__).parents[2]


def build_hook():
    """hatch_build.py, as a module."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_hook_packages_the_runs_that_the_demo_shows():
    """The names in hatch_build.py and in the command are the same; nobody packages half a demo."""
    hook = build_hook()
    assert hook.RUNS == CHECKPOINTS
    files = hook.demo_files(ROOT / "fixtures")
    assert sum(file.suffix == ".png" for file in files) == 64
    assert Path(coordeval.__file__).parent / "demo_data" == PACKAGED


def test_a_lost_fixture_stops_the_build(tmp_path):
    """A wheel is not built without one of the recorded runs."""
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        build_hook().demo_files(tmp_path)


def test_an_editable_install_gets_no_copy():
    """The hook leaves editable installs alone: they find the fixtures in the checkout."""
    build_data = {"force_include": {}}
    hook = build_hook().DemoData(str(ROOT), {}, None, None, "", "wheel")
    hook.initialize("editable", build_data)
    assert not build_data["force_include"]
    hook.initialize("standard", build_data)
    assert len(build_data["force_include"]) == 2 * 3 + 1 + 64


@pytest.mark.wheel
def test_the_wheel_holds_the_package_and_nothing_else(built):
    """No tests, caches or fixtures at the top level; py.typed, page assets and licence are in."""
    names = zipfile.ZipFile(built.wheel).namelist()
    info = f"coordeval-{coordeval.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"coordeval", info}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".safetensors")]
    assert {"coordeval/py.typed", f"{info}/licenses/LICENSE"} <= set(names)
    package = ROOT / "coordeval"
    tracked = {
        f"coordeval/{path.relative_to(package)}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked <= set(names)
    assert built.wheel.stat().st_size < 3_000_000


@pytest.mark.wheel
def test_the_packaged_demo_is_the_fixtures_byte_for_byte(built):
    """Texts, settings and images in the wheel are those that the tests judge."""
    archive = zipfile.ZipFile(built.wheel)
    demo = "coordeval/demo_data/"
    packaged = [name for name in archive.namelist() if name.startswith(demo)]
    assert len(packaged) == 2 * 3 + 1 + 64
    for name in packaged:
        assert archive.read(name) == (ROOT / "fixtures" / name.removeprefix(demo)).read_bytes()


@pytest.mark.wheel
def test_the_metadata_says_version_pythons_and_extras(built):
    """The wheel's metadata has the package's version and every extra; the base has no torch."""
    archive = zipfile.ZipFile(built.wheel)
    info = f"coordeval-{coordeval.__version__}.dist-info"
    metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
    assert metadata["Version"] == coordeval.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    extras = set(metadata.get_all("Provides-Extra"))
    assert {"browser", "dev", "docs", "hf", "peft", "server", "tb", "train", "vllm"} <= extras
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert not [line for line in base if line.split(">")[0] in {"torch", "transformers", "vllm"}]
    assert b"coordeval = coordeval.cli.app:main" in archive.read(f"{info}/entry_points.txt")


@pytest.mark.wheel
def test_the_sdist_holds_every_file_of_the_repository(built):
    """Whoever has the sdist has the tests and all that they need, as in a checkout."""
    git = shutil.which("git") or "false"
    listed = subprocess.run(
        [git, "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if listed.returncode:
        pytest.skip("not a git checkout: there is no list to compare with")
    with tarfile.open(built.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    there = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    assert there - names == set()
