"""Keys and tokens: never in a run, a log or an error line; prompts expand nothing."""

import json
import os
import subprocess
import sys

import pytest
from forked_commands import run_forked

from coordeval.addresses import without_secrets
from coordeval.data.prompts import load_prompt
from coordeval.engines.ray_address import check_address
from coordeval.engines.server_address import parse_address
from coordeval.errors import ConfigError
from coordeval.training.loop.arguments import check_names

SECRETS = {
    "HF_TOKEN": "hf_SecretSecretSecret123",
    "HUGGING_FACE_HUB_TOKEN": "hf_OtherSecretSecret456",
    "OPENAI_API_KEY": "sk-SecretSecretSecret789",
    "COORDEVAL_API_KEY": "ck-SecretSecretSecret012",
    "AWS_SECRET_ACCESS_KEY": "aws-SecretSecret345",
    "WANDB_API_KEY": "wb-SecretSecretSecret678",
    "HTTPS_PROXY": "http://user:ProxySecret901@proxy.example:3128",
}
LINE = {"id": "a", "width": 10, "height": 10, "gt": [], "text": '{"objects": []}'}


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "coordeval", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **SECRETS, "HF_HUB_OFFLINE": "1"},
    )


def assert_nowhere(folder, *outputs):
    """No secret, nor a good part of one, in any file or output."""
    parts = [value.rpartition(":")[2].partition("@")[0] for value in SECRETS.values()]
    parts = [part for part in parts if not part.isdecimal()] + ["ProxySecret901", *SECRETS.values()]
    for part in parts:
        for output in outputs:
            assert part not in output
        for path in folder.rglob("*"):
            assert not path.is_file() or part.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_secrets_of_the_environment_stay_there(tmp_path):
    """A rollout, its score, its report and its refusals hold no token of the environment."""
    record = {"id": "a", "image": "a.png", "width": 10, "height": 10, "objects": []}
    (tmp_path / "data.jsonl").write_text(json.dumps(record) + "\n")
    (tmp_path / "recorded.jsonl").write_text(json.dumps(LINE) + "\n")
    common = ["--engine", "replay", "--data", "data.jsonl", "--out", "run"]
    done = run("rollout", "recorded.jsonl", *common, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    more = [
        run("score", "run", cwd=tmp_path),
        run("report", "run", "-o", "report.html", cwd=tmp_path),
        run("rollout", "owner/not-there", "--data", "data.jsonl", "--out", "b", cwd=tmp_path),
        run("rollout", "x", "--engine", "server", "--data", "data.jsonl", cwd=tmp_path),
    ]
    outputs = [text for one in (done, *more) for text in (one.stdout, one.stderr)]
    assert_nowhere(tmp_path, *outputs)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:ServerSecret1@host:8000",
        "http://ServerSecret1@host:8000/v1",
        "http://host:8000/v1?api_key=ServerSecret1",
        "http://host:8000/v1#ServerSecret1",
        "ftp://user:ServerSecret1@host",
        "user:ServerSecret1@host",
        "http://[ServerSecret1@host",
        "http://user:ServerSecret1@host:99999999",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(tmp_path, url):
    """Whatever is wrong with an address, what looks like a secret in it is told to nobody."""
    with pytest.raises(ConfigError) as caught:
        parse_address(url)
    assert "ServerSecret1" not in str(caught.value)
    record = {"id": "a", "image": "a.png", "width": 10, "height": 10, "objects": []}
    (tmp_path / "data.jsonl").write_text(json.dumps(record) + "\n")
    arguments = ["--engine", "server", "--server-url", url, "--data", "data.jsonl", "--out", "run"]
    done = run_forked("rollout", "served", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "ServerSecret1" not in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


URL = "https://user:UrlSecret12@host.example/a/b?sig=UrlSecret34#UrlSecret56"


@pytest.mark.parametrize(
    "words",
    [
        ("score", URL),
        ("rollout", URL, "--data", "data.jsonl"),
        ("rollout", "data.jsonl", "--engine", "replay", "--data", URL),
        ("rollout", "data.jsonl", "--engine", "replay", "--data", "data.jsonl"),
        ("rollout", "data.jsonl", "--data", "data.jsonl", "--image-root", URL),
        ("data", "validate", "data.jsonl"),
        ("report", URL, "-o", "x.html"),
    ],
)
def test_secrets_of_a_url_are_in_no_error_line(tmp_path, words):
    """A URL with user, password or query, wherever it is given instead of a path, is shown bare."""
    record = {"id": "a", "image": URL, "width": 10, "height": 10, "objects": []}
    (tmp_path / "data.jsonl").write_text(json.dumps(record) + "\n")
    done = run_forked(*words, cwd=tmp_path)
    assert done.returncode in {1, 2}
    assert "host.example" in done.stdout + done.stderr
    assert "UrlSecret" not in done.stdout + done.stderr


@pytest.mark.parametrize("address", ["redis://:RaySecret1@h:6379", "u:RaySecret1@h:6379"])
def test_a_ray_address_with_a_password_is_refused_and_not_repeated(address):
    """Ray's address, be it of RAY_ADDRESS, is told to nobody where it holds a password."""
    with pytest.raises(ConfigError, match="HOST:PORT") as caught:
        check_address(address)
    assert "RaySecret1" not in str(caught.value)


def test_a_training_takes_no_token():
    """A configuration is stored in output_dir, so a hub token does not stand in it."""
    with pytest.raises(ConfigError, match="HF_TOKEN") as caught:
        check_names({"hub_token": "hf_TrainSecret1"})
    assert "TrainSecret1" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@h/x: no such file", "https://***@h/x: no such file"),
        ("https:/u:p@s@h/x", "https:/***@h/x"),
        ("'s3://k@b/x?sig=1&t=2' is a URL", "'s3://***@b/x?***' is a URL"),
        ("http://h/x#secret", "http://h/x#***"),
        ("http://h:80/x and a@b.c?x=1", "http://h:80/x and a@b.c?x=1"),
        ("runs/a@b?c=d", "runs/a@b?c=d"),
    ],
)
def test_urls_are_shown_without_what_may_be_secret(text, shown):
    """User, password, query and fragment become stars; all else stays as it is."""
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "{0}",
        "{0.__class__}",
        "%s %(x)s",
        "${HOME}",
        "$HOME",
        "{{ 7*7 }}",
        "{% raw %}",
        "\\x41",
        "{x}",
    ],
)
def test_prompts_expand_nothing_but_the_class_list(tmp_path, text):
    """A prompt is text: the one placeholder is `{classes}`, and what it brings is not read again."""
    path = tmp_path / "p.toml"
    path.write_text(f"user = '''find {{classes}} {text}'''")
    prompt = load_prompt(path, class_names=["{classes}", text])
    assert prompt.user == f'find "{{classes}}", {json.dumps(text)} {text}'
