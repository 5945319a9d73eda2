"""The commands of the README, typed one after the other in a folder that has what they name."""

import json
import shutil

import pytest
from page_blocks import ROOT, blocks_of, typed

FIXTURES = ROOT / "fixtures"
ELSEWHERE = {
    "coordeval rollout Qwen/": "weights that are on the hub",
    "coordeval import monitor_dumps": "another trainer's dumps: tests/exchange",
    "coordeval data convert instances_val2017.json": "COCO: tests/data",
    "coordeval train stage1.yaml": "a training: tests/training",
}
CODES = {  # besides 0: verdicts on the checkpoints, and what --fail-on makes of them
    "coordeval compare ckpt-300 ckpt-2400 --fail-on worse": (0, 1),
    "coordeval check runs/b --baseline base.json --gate": (0, 1),
}


def commands():
    """The lines of all blocks that call coordeval."""
    lines = [line for block in blocks_of(ROOT / "README.md") for line in block.text.splitlines()]
    return [line for line in lines if line.startswith("coordeval ")]


def prepare(folder):
    """Data, images, checkpoints, a dump, logs and settings under the names that the README uses."""
    lines = (FIXTURES / "scenes" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[10:18]
    records = [json.loads(line) for line in lines]
    (folder / "images").mkdir()
    with (folder / "val.jsonl").open("w", encoding="utf-8") as out:
        for record in records:
            image = FIXTURES / "scenes" / record["image"]
            shutil.copy(image, folder / "images")
            out.write(json.dumps(record | {"image": image.name}) + "\n")
    (folder / "path" / "to").mkdir(parents=True)
    for name, source in (
        ("path/to/checkpoint", "ckpt-300"),
        ("ckpt-300", "ckpt-300"),
        ("ckpt-2400", "ckpt-2400"),
        ("output/run-1", "logs/ablation-4b"),
        ("output/run-2", "logs/ablation-4b-hf"),
    ):
        shutil.copytree(FIXTURES / source, folder / name)
    shutil.copy(FIXTURES / "dumps" / "conforming.jsonl", folder / "dump.jsonl")
    (folder / "synonyms.toml").write_text('"red circle" = ["red disc"]\n', encoding="utf-8")
    (folder / "coordeval.toml").write_text(
        'data = "val.jsonl"\nimage_root = "images"\n[decode]\nmax_new_tokens = 160\n',
        encoding="utf-8",
    )


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_their_order(tmp_path):
    """Each ends with 0 (or a verdict), none with a refusal, after all those before it."""
    prepare(tmp_path)
    ran = []
    for line in commands():
        if line.startswith(tuple(ELSEWHERE)):
            continue
        if "runs/b" in line and not (tmp_path / "runs" / "b").exists():
            other = "coordeval rollout ckpt-2400 --data val.jsonl --image-root images --out runs/b"
            assert typed(other, tmp_path).returncode == 0
        done = typed(line, tmp_path)
        allowed = next((codes for head, codes in CODES.items() if line.startswith(head)), (0,))
        assert done.returncode in allowed, f"{line}\n{done.stdout[-800:]}\n{done.stderr[-2000:]}"
        ran.append(line.split()[1])
    assert set(ran) >= {"rollout", "score", "inspect", "compare", "attribute", "probe", "report"}
    assert set(ran) >= {"overlay", "check", "dynamics", "export", "data"}


def test_what_is_not_run_here_is_still_in_the_readme():
    """No exception outlives its command."""
    for head in (*ELSEWHERE, *CODES):
        assert any(line.startswith(head) for line in commands()), head
