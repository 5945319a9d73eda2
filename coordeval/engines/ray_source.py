"""A checkpoint for engines on a Ray cluster."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.engines.extras import MODULES, has_extra
from coordeval.engines.opening import open_source, refuse_options_of_others
from coordeval.engines.parallel import WorkerSettings
from coordeval.engines.ray_address import check_address
from coordeval.engines.ray_cluster import Cluster, require_ray
from coordeval.engines.ray_engine import Pace, RayEngine
from coordeval.engines.vllm_settings import (
    CPU_MAX_SEQUENCES,
    GPU_MAX_SEQUENCES,
    read_engine_args,
)
from coordeval.errors import ConfigError
from coordeval.foreign_paths import expand_home, is_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.options import RolloutOptions
    from coordeval.parsers.dialects import Dialect

INNER = ("hf", "vllm")
_BLOCKS_AT_ONCE = 10  # of an eighth of what vLLM runs at once each: it never runs empty


class RaySource:
    """The source of `--engine ray`: read once here, opened by every replica on the cluster.

    Where the replicas run (GPUs or CPUs) and in which dtype is settled by what the cluster has,
    not by what this machine has.
    """

    def __init__(self, options: RolloutOptions) -> None:
        _check_options(options)
        require_ray()
        self._cluster = Cluster(options.ray_address)
        # Where no engine is started after all, the cluster is left with this source.
        self._leaving = weakref.finalize(self, self._cluster.close)
        try:
            self._open(options)
        except BaseException:
            self._leaving()
            raise

    def _open(self, options: RolloutOptions) -> None:
        gpus = sum(node.resources.get("GPU", 0.0) for node in self._cluster.nodes())
        self._on_gpu = _on_gpu(options.device, gpus)
        inner = options.inner or choose_inner(on_gpu=self._on_gpu)
        self._name = inner
        refuse_options_of_others(
            replace(options, ray_address=None, replicas=None, inner=None),
            inner,
            f"replicas of {inner}",
            switch="--inner",
        )
        dtype = options.dtype
        if dtype == "auto":
            dtype = "bf16" if self._on_gpu else "fp32"
        self._options = replace(
            options,
            engine=inner,
            dtype=dtype,
            ray_address=None,
            replicas=None,
            inner=None,
            checkpoint=_absolute(options.checkpoint),
            adapter=None if options.adapter is None else expand_home(options.adapter).resolve(),
        )
        # Here nothing is decoded, and there may be no GPU.
        self._source = open_source(replace(self._options, device="cpu"))
        self.checkpoint = self._source.checkpoint
        self.adapter = self._source.adapter
        self.tokenizer = self._source.tokenizer
        self._need: dict[str, float] = {"CPU": 1.0}
        if self._on_gpu:
            self._need["GPU"] = float(options.tensor_parallel)
        self._replicas = options.replicas

    def start(
        self,
        *,
        prompt: Prompt,
        pixels: PixelLimits | None,
        decode: DecodeSettings,
        dialect: Dialect,
        notify: Callable[[str], None],
    ) -> Engine:
        """Make the engine, as `Source.start`; every node is asked whether it has what it needs.

        Raises ConfigError for a node that has not, and where no node has room for a replica.
        """
        self._leaving.detach()  # from here on it is the engine that leaves
        try:
            return self._start(
                WorkerSettings(
                    options=replace(self._options, device="cuda" if self._on_gpu else "cpu"),
                    prompt=prompt,
                    pixels=pixels,
                    decode=decode,
                    dialect=dialect,
                ),
                notify,
            )
        except BaseException:
            self._cluster.close()
            raise

    def _start(self, settings: WorkerSettings, notify: Callable[[str], None]) -> Engine:
        import ray

        from coordeval.engines.ray_stream import RayDataStream

        inner = self._source.start(
            prompt=settings.prompt,
            pixels=settings.pixels,
            decode=settings.decode,
            dialect=settings.dialect,
            notify=notify,
        )
        replicas = self._take_room(notify)
        self._check_nodes(notify)
        stream = RayDataStream(
            self._cluster,
            settings,
            hashes=(
                self.checkpoint["hash"],
                None if self.adapter is None else self.adapter["hash"],
            ),
            need=self._need,
            replicas=replicas,
        )
        device = "cuda" if self._on_gpu else "cpu"
        about = {"device": device, "replicas": replicas, "nodes": len(self._cluster.nodes())}
        return RayEngine(
            inner,
            stream,
            pace=pace_of(settings.options, on_gpu=self._on_gpu),
            replicas=replicas,
            about=about,
            versions={"ray": ray.__version__},
            notify=notify,
        )

    def _take_room(self, notify: Callable[[str], None]) -> int:
        """How many replicas to run; a warning where the cluster cannot hold all at present."""
        need = " and ".join(f"{amount:.0f} {name}" for name, amount in self._need.items())
        nodes = self._cluster.nodes()
        room = self._cluster.room(self._need)
        if room == 0:
            raise ConfigError(
                f"no node of the cluster ({len(nodes)} there) has room for a replica, which takes "
                f"{need}: add nodes, or choose another --device or --tensor-parallel"
            )
        if self._replicas is None:
            return room if self._on_gpu else sum(1 for node in nodes if node.room(self._need))
        if room < self._replicas:
            notify(
                f"the cluster has room for {room} of {self._replicas} replicas ({need} each): the "
                "others start as nodes join"
            )
        return self._replicas

    def _check_nodes(self, notify: Callable[[str], None]) -> None:
        """Refuse a node that lacks something; warnings about other versions go to `notify`."""
        from coordeval.engines.ray_nodes import check_nodes

        folders = [
            str(path)
            for path in (Path(self._options.checkpoint), self._options.adapter)
            if path is not None and path.is_dir()
        ]
        able = [node for node in self._cluster.nodes() if node.room(self._need)]
        for warning in check_nodes(able, folders, MODULES[self._name]):
            notify(warning)


def choose_inner(*, on_gpu: bool) -> str:
    """The engine of a replica where none is asked for: vLLM on GPUs where it is installed here."""
    return "vllm" if on_gpu and has_extra("vllm") else "hf"


def pace_of(options: RolloutOptions, *, on_gpu: bool) -> Pace:
    """How work is cut for the engine that `options` name.

    Hugging Face answers one batch after the other, cut as on one machine; the next one waits at
    hand. vLLM gets small blocks and many of them, so that it always has enough under way.
    """
    if options.engine == "hf":
        return Pace(block=options.batch_size, at_once=1, held=2)
    given = read_engine_args(options.engine_args).get("max_num_seqs")
    default = GPU_MAX_SEQUENCES if on_gpu else CPU_MAX_SEQUENCES
    most = given if isinstance(given, int) and given > 0 else default
    return Pace(block=max(1, most // 8), at_once=_BLOCKS_AT_ONCE, held=_BLOCKS_AT_ONCE)


def _on_gpu(device: str, gpus: float) -> bool:
    if device not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"--device {device}: Ray chooses which GPUs; give auto, cpu or cuda")
    if device == "cuda" and not gpus:
        raise ConfigError("--device cuda: the cluster has no GPU")
    return device == "cuda" or (device == "auto" and gpus > 0)


def _absolute(checkpoint: str) -> str:
    """A folder by its whole path, which is the same wherever a replica starts; else a hub id."""
    folder = expand_home(checkpoint)
    return str(folder.resolve()) if is_folder(folder) else checkpoint


def _check_options(options: RolloutOptions) -> None:
    if options.inner is not None and options.inner not in INNER:
        raise ConfigError(f"--inner {options.inner!r}: use one of {', '.join(INNER)}")
    if options.replicas is not None and options.replicas < 1:
        raise ConfigError("--replicas must be at least 1")
    if options.ray_address is not None:
        check_address(options.ray_address)


__all__ = ["RaySource", "choose_inner", "pace_of"]
