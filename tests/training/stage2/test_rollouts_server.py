"""Training rollouts by a server: how it gets the weights, and what it is refused for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from rollout_setup import parts_of, rollouts_of
from safetensors.torch import load_file
from stage1_setup import tiny_base

from coordeval.data.images import load_upright_rgb
from coordeval.engines.hf_inputs import encode_sample
from coordeval.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[2] / "engines"))

from server_double import ServerDouble, completion

TEXT = '{"objects": []}'
CALLS = ["collective_rpc", "reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint with random weights."""
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny")


class Server:
    """Answers like vLLM for one training: same prompts, same tokens, weights from a folder."""

    def __init__(self, parts):
        self.parts, self.read = parts, []
        self.prompt_ids = self._prompt(parts.train.samples[0])
        self.statuses = {}
        self.with_ids = True

    def _prompt(self, sample):
        reader, source = self.parts.reader, self.parts.train._source
        image = load_upright_rgb(sample.image_path)
        encoded = encode_sample(source.prompt_ids, image, source.images, reader.image_token_id)
        return encoded.prompt_ids

    def __call__(self, handler, body, number):
        name = handler.path.rsplit("/", maxsplit=1)[-1]
        if name in self.statuses:
            handler.send('{"error": {"message": "no"}}', self.statuses[name])
            return None
        if name == "collective_rpc":
            assert body["method"] == "reload_weights"
            folder = Path(body["kwargs"]["weights_path"])
            assert (folder / "config.json").exists()
            self.read.append(load_file(folder / "model.safetensors"))
            return {"results": [None]}
        if name in CALLS:
            handler.send("")
            return None
        assert name == "completions"
        return self._answer()

    def _answer(self):
        reader = self.parts.reader
        ids = [*reader.tokenizer(TEXT, add_special_tokens=False)["input_ids"], reader.end_id]
        document = completion(TEXT, token_ids=ids, logprobs=None)
        document["prompt_token_ids"] = self.prompt_ids
        document["usage"] = {"prompt_tokens": len(self.prompt_ids)}
        if not self.with_ids:
            document.pop("prompt_token_ids")
            document["choices"][0].pop("token_ids")
        return document


@pytest.fixture
def serve(base, tmp_path):
    """(Parts, server double, what it answers) of a training with rollouts by a server."""
    with ServerDouble() as double:

        def make(**rollout):
            parts = parts_of(
                base,
                tmp_path / "run",
                rollout={"engine": "server", "server": double.url, "decode": {"retries": 0}}
                | rollout,
            )
            double.reply = Server(parts)
            return parts, double, double.reply

        yield make


def _calls(double):
    return [path.rsplit("/", maxsplit=1)[-1] for path in double.paths if "v1/models" not in path]


def test_the_server_reads_the_present_weights_before_every_rollout(serve):
    """One folder, written and read anew in each step, with all caches dropped; gone at the end."""
    parts, double, server = serve()
    rollouts = rollouts_of(parts)
    samples = parts.train.samples[:2]
    double.paths.clear()
    for step in range(2):
        with torch.no_grad():
            parts.model.get_output_embeddings().weight.add_(0.25)
        parts.model.train()
        found = rollouts.roll(parts.model, samples, step=step)
        assert parts.model.training
        assert [views[0].text for views in found] == [TEXT, TEXT]
        assert found[0][0].token_ids[-1] == parts.reader.end_id
        state = parts.model.state_dict()
        assert server.read[-1]
        for name, tensor in server.read[-1].items():
            assert torch.equal(tensor, state[name]), name
    assert len(server.read) == 2
    assert _calls(double) == 2 * [*CALLS, "completions", "completions"]
    folder = parts.folder / ".rollout_weights"
    assert folder.is_dir()
    rollouts.close()
    rollouts.close()
    assert not folder.exists()


@pytest.mark.parametrize(("name", "value"), [("concurrency", 0), ("retries", -1), ("timeout_s", 0)])
def test_numbers_that_no_request_could_be_sent_with_are_refused(base, tmp_path, name, value):
    """A training that would wait for ever says so before it starts."""
    server = {"engine": "server", "server": "http://127.0.0.1:9", "decode": {name: value}}
    parts = parts_of(base, tmp_path / "run", rollout=server)
    with pytest.raises(ConfigError, match=rf"stage2\.channel_b\.rollout\.decode: {name} "):
        rollouts_of(parts)


def test_a_process_without_samples_still_hands_the_weights_over(serve):
    """Process 0 may have nothing to roll out while others wait for the server to be ready."""
    parts, double, _ = serve()
    rollouts = rollouts_of(parts)
    double.paths.clear()
    assert rollouts.roll(parts.model, [], step=0) == []
    assert _calls(double) == CALLS


def test_a_server_may_keep_its_own_weights_and_this_is_said(serve):
    """`server_weights: own`: no call but for rollouts, and a warning."""
    parts, double, _ = serve(server_weights="own")
    notes = []
    rollouts = rollouts_of(parts, notify=notes.append)
    double.paths.clear()
    rollouts.roll(parts.model, parts.train.samples[:1], step=0)
    assert _calls(double) == ["completions"]
    assert len(notes) == 1
    assert "do not follow the training" in notes[0]


def test_a_server_that_takes_no_weights_is_refused_before_training(serve):
    """The error says how to start it, and what to set otherwise."""
    parts, _, server = serve()
    server.statuses = dict.fromkeys(CALLS, 404)
    with pytest.raises(ConfigError, match=r"VLLM_SERVER_DEV_MODE=1.*server_weights: own"):
        rollouts_of(parts)


def test_weights_that_the_server_does_not_read_stop_the_training(serve):
    """Rollouts of other weights than those of now are none."""
    parts, _, server = serve()
    rollouts = rollouts_of(parts)
    server.statuses = {"collective_rpc": 500}
    with pytest.raises(ConfigError, match="did not read the weights"):
        rollouts.roll(parts.model, parts.train.samples[:1], step=0)


def test_a_server_that_reads_other_prompts_is_refused(serve):
    """Token ids of the prompt must be the learner's."""
    parts, _, server = serve()
    server.prompt_ids = [*server.prompt_ids[:-1], 5]
    with pytest.raises(ConfigError, match="another prompt"):
        rollouts_of(parts).roll(parts.model, parts.train.samples[:1], step=0)


def test_a_server_without_token_ids_is_refused(serve):
    """Text alone does not say which tokens were written."""
    parts, _, server = serve()
    server.with_ids = False
    with pytest.raises(ConfigError, match="does not give the token ids"):
        rollouts_of(parts).roll(parts.model, parts.train.samples[:1], step=0)


def test_requests_go_with_their_seeds_and_views(serve):
    """Views beyond the first are sampled by the server, each with the request's own seed."""
    parts, double, _ = serve(views=2, view_temperature=0.9)
    rollouts = rollouts_of(parts)
    double.bodies.clear()
    rollouts.roll(parts.model, parts.train.samples[:1], step=3)
    bodies = [body for body in double.bodies if "messages" in body]
    assert sorted(body["temperature"] for body in bodies) == [0.0, 0.9]
    (sampled,) = (body for body in bodies if body["temperature"])
    again = json.dumps(sampled["seed"])
    rollouts.roll(parts.model, parts.train.samples[:1], step=4)
    other = [b for b in double.bodies if "messages" in b and b["temperature"]][-1]
    assert json.dumps(other["seed"]) != again


@pytest.mark.parametrize(
    "address", ["nonsense", "ftp://host:1", "http://host:99999999", " ", "http://u:p@localhost:1"]
)
def test_a_malformed_address_is_refused_under_the_key_that_it_stands_at(base, tmp_path, address):
    """Who writes YAML is told of a key of it, not of an option of another command."""
    parts = parts_of(base, tmp_path / "run", rollout={"engine": "server", "server": address})
    with pytest.raises(ConfigError, match=r"stage2\.channel_b\.rollout\.server") as error:
        rollouts_of(parts)
    assert "--" not in str(error.value)
    assert str(error.value).count("rollout.server") == 1
