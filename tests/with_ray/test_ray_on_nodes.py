"""Parts on a real cluster: images that another node cannot see, and vLLM inside a replica."""

from __future__ import annotations

import importlib.util

import pytest
from clustering import assert_same, roll

from coordeval.engines.base import Request
from coordeval.engines.ray_cluster import Cluster
from coordeval.engines.ray_desk import Desk, RayDesk
from coordeval.engines.ray_images import images_at_hand
from coordeval.errors import ConfigError
from coordeval.records import Sample

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def request_of(path):
    sample = Sample(id=path.name, image=path.name, width=8, height=8, objects=(), image_path=path)
    return Request(sample=sample, sample_index=0, seed=0)


def elsewhere():
    """A task that is sent by value: what a node sees that has none of the files."""

    def look(handle, requests):
        from coordeval.engines import ray_images

        ray_images.file_state = lambda _: None
        with images_at_hand(requests, RayDesk(handle)) as (ready, failed, origins):
            seen = [(item.id, item.image_path.read_bytes()) for item in ready]
            return seen, failed, [origins[str(item.image_path)] for item in ready]

    return look


def test_images_travel_to_a_node_that_lacks_them(cluster, tmp_path):
    """Through a real desk: the same bytes under a path there, which leads back to the one here."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    paths[0].write_bytes(bytes(range(256)) * 2000)
    paths[1].write_bytes(b"\0second")
    connection = Cluster(cluster.address)
    try:
        desk = ray.remote(Desk).options(num_cpus=0).remote()
        other = next(node.id for node in connection.nodes() if node.id != connection.here())
        place = NodeAffinitySchedulingStrategy(other, soft=False)
        task = ray.remote(elsewhere()).options(scheduling_strategy=place)
        seen, failed, origins = ray.get(task.remote(desk, [request_of(path) for path in paths]))
    finally:
        connection.close()
    assert seen == [(path.name, path.read_bytes()) for path in paths]
    assert failed == [] and origins == [str(path) for path in paths]
    assert not ray.is_initialized()


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM")
def test_vllm_in_a_replica_writes_what_it_writes_alone(cluster, tmp_path):
    """Many threads around one vLLM: in fp32, greedy, token for token what Hugging Face writes."""
    _, expected, _ = roll(tmp_path / "hf", limit=24)
    outcome, lines, _ = roll(
        tmp_path / "run", limit=24, address=cluster.address, replicas=1, inner="vllm"
    )
    assert outcome.exit_code() == 0
    assert_same(lines, expected)


def test_gpu_replicas_go_where_gpus_are(cluster, tmp_path):
    """A node that claims a GPU gets the replica; that there is none is the answer, not a wait."""
    node = cluster.add_node(**(cluster.node_arguments | {"num_gpus": 1}))
    try:
        with pytest.raises(ConfigError, match="no CUDA device"):
            roll(tmp_path / "gpu", address=cluster.address, replicas=1, device="cuda")
    finally:
        cluster.remove_node(node)
    with pytest.raises(ConfigError, match="no GPU"):
        roll(tmp_path / "none", address=cluster.address, device="cuda")
