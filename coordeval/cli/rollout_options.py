"""The options of `coordeval rollout`, one alias each, grouped as its help shows them."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer


class EngineName(StrEnum):
    """What makes the text."""

    auto = "auto"
    hf = "hf"
    vllm = "vllm"
    server = "server"
    ray = "ray"
    replay = "replay"


class InnerName(StrEnum):
    """What makes the text inside a replica on a Ray cluster."""

    hf = "hf"
    vllm = "vllm"


class FieldOrderName(StrEnum):
    """Which field of a record is written first."""

    desc_first = "desc_first"
    geometry_first = "geometry_first"


class DtypeName(StrEnum):
    """Number format of weights and activations."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class AttentionName(StrEnum):
    """Implementation of attention."""

    auto = "auto"
    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"


class ConstrainName(StrEnum):
    """What the model is held to while it writes."""

    none = "none"
    coords = "coords"
    grammar = "grammar"


class GuardName(StrEnum):
    """What happens to endless lists."""

    off = "off"
    mark = "mark"
    stop = "stop"


class SeparatorsName(StrEnum):
    """Separators as trained."""

    spaced = "spaced"
    compact = "compact"


_data = partial(typer.Option, rich_help_panel="Data and prompt")
_select = partial(typer.Option, rich_help_panel="Which samples")
_decode = partial(typer.Option, rich_help_panel="Decoding")
_control = partial(typer.Option, rich_help_panel="Control of decoding")
_engine = partial(typer.Option, rich_help_panel="Engine")

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CKPT",
        help="Checkpoint folder or hub id (or a served model's name; a run to replay).",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Run directory.  [default: runs/<checkpoint>-<settings>]"),
]

Data = Annotated[Path | None, _data(metavar="FILE", help="Dataset: JSONL or COCO instances file.")]
ImageRoot = Annotated[
    Path | None,
    _data(metavar="DIR", help="Folder of the images.  [default: the dataset's folder]"),
]
PromptName = Annotated[
    str | None,
    _data(metavar="FILE.toml", help="Prompt file; or open, closed.  [default: open]"),
]
Pixels = Annotated[
    str | None, _data(metavar="none|MIN:MAX", help="Pixel limits.  [default: the checkpoint's]")
]
DialectName = Annotated[
    str | None,
    _data(metavar="NAME|FILE.toml", help="How objects are written.  [default: coordjson]"),
]
FieldOrder = Annotated[FieldOrderName | None, _data(help="Order of fields that is asked for.")]
FrameName = Annotated[
    str | None, _data(help="What a bin means.  [default: the dialect's, or coordexp]")
]

Limit = Annotated[int | None, _select(help="Only the first N samples.")]
Ids = Annotated[
    str | None, _select(metavar="FILE|a,b,c", help="Only these ids (a file: one per line).")
]
Shard = Annotated[
    str | None, _select(metavar="i/n", help="Every n-th sample; join with coordeval merge.")
]

Temperature = Annotated[float | None, _decode(help="0 is greedy.  [default: 0]")]
TopP = Annotated[float | None, _decode(help="Nucleus mass.  [default: 1]")]
TopK = Annotated[int | None, _decode(help="0: off.  [default: 0]")]
RepetitionPenalty = Annotated[float | None, _decode(help="1: off.  [default: 1]")]
MaxNewTokens = Annotated[
    int | None,
    _decode(help="Token limit.  [default: 1.5 x the longest ground truth, at least 256]"),
]
Samples = Annotated[
    int | None,
    _decode(
        help="Rollouts per image: the first is the headline, others feed oracle/*.  [default: 1]"
    ),
]
SampleTemperature = Annotated[
    float | None,
    _decode(help="Of the others.  [default: --temperature, or 0.7 where that is greedy]"),
]
Seed = Annotated[int | None, _decode(help="Seed of sampling.  [default: 0]")]

Constrain = Annotated[
    ConstrainName | None,
    _control(
        help="coords: only coordinates and separators inside geometry lists; "
        "grammar: the whole answer.  [default: none]"
    ),
]
Classes = Annotated[
    str | None,
    _control(metavar="dataset|FILE", help="Grammar: only these class names (one per line)."),
]
Geometry = Annotated[
    str | None,
    _control(metavar="KIND,...", help="Kinds that may occur.  [default: bbox_2d,poly,line]"),
]
MaxObjects = Annotated[int | None, _control(help="Grammar: at most so many records.")]
MaxPoints = Annotated[int | None, _control(help="At most so many points in a poly or line.")]
Separators = Annotated[
    SeparatorsName | None, _control(help="Grammar: as trained.  [default: spaced]")
]
Ordered = Annotated[
    bool | None,
    _control(
        "--ordered/--no-ordered",
        help="Keep x2 > x1, y2 > y1, polygons with an area.  [default: on under grammar]",
    ),
]
SortedObjects = Annotated[
    bool, _control("--sorted-objects", help="Grammar: records sorted by y1, then x1.")
]
LoopGuard = Annotated[
    GuardName | None,
    _control(help="mark: note endless lists; stop: end the rollout there.  [default: off]"),
]
GuardExact = Annotated[int | None, _control(help="Writings of one record.  [default: 4]")]
GuardBlock = Annotated[int | None, _control(help="Copies of a block of records.  [default: 3]")]
GuardNear = Annotated[
    int | None, _control(help="Near repeats in a row (same description, high IoU).  [default: 4]")
]
GuardNearIou = Annotated[float | None, _control(help="IoU of a near repeat.  [default: 0.95]")]
GuardCycle = Annotated[
    int | None,
    _control(help="Copies of a cycle of tokens outside records, at least 3.  [default: 8]"),
]
Telemetry = Annotated[
    bool | None,
    _control("--telemetry", help="Record the distribution at every coordinate slot."),
]

Engine = Annotated[
    EngineName | None,
    _engine(help="auto: vLLM on CUDA where it is installed, else hf.  [default: auto]"),
]
Adapter = Annotated[
    Path | None, _engine(metavar="DIR", help="PEFT adapter on top of the checkpoint.")
]
BatchSize = Annotated[int | None, _engine(help="hf: images at once.  [default: 8]")]
Dtype = Annotated[
    DtypeName | None, _engine(help="auto: bf16 on CUDA, fp32 on the CPU.  [default: auto]")
]
Device = Annotated[
    str | None, _engine(metavar="auto|cpu|cuda", help="hf: where to run.  [default: auto]")
]
Attention = Annotated[AttentionName, _engine(help="hf: attention.")]
TensorParallel = Annotated[int, _engine(min=1, help="vllm: GPUs per engine.")]
DataParallel = Annotated[int, _engine(min=1, help="hf, vllm: engines side by side on this node.")]
GpuMemory = Annotated[
    float | None,
    _engine(metavar="SHARE", help="vllm: share of the GPU's memory.  [default: vLLM's]"),
]
MaxModelLen = Annotated[
    int | None, _engine(help="vllm: longest prompt and answer.  [default: the checkpoint's]")
]
EngineArg = Annotated[
    list[str] | None,
    _engine(metavar="KEY=VALUE", help="vllm: handed on to the engine; may be repeated."),
]
ServerUrl = Annotated[
    str | None,
    _engine(
        metavar="URL",
        help="server: such as http://host:8000/v1; the API key comes from COORDEVAL_API_KEY, "
        "else OPENAI_API_KEY.",
    ),
]
ServerModel = Annotated[
    str | None, _engine(metavar="NAME", help="server: model.  [default: the one it serves]")
]
Concurrency = Annotated[int, _engine(min=1, help="server: requests at once.")]
Timeout = Annotated[float, _engine(metavar="SECONDS", help="server: per request.")]
Retries = Annotated[int, _engine(min=0, help="server: per request, with growing pauses.")]
RayAddress = Annotated[
    str | None,
    _engine(
        metavar="HOST:PORT",
        help="ray: the cluster; auto is the one that this machine belongs to, local starts one "
        "here.  [default: RAY_ADDRESS, else auto]",
    ),
]
Replicas = Annotated[
    int | None,
    _engine(min=1, help="ray: engines on the cluster.  [default: one per GPU, else per node]"),
]
Inner = Annotated[
    InnerName | None,
    _engine(help="ray: engine of a replica.  [default: vllm on GPUs where installed, else hf]"),
]
TrustRemoteCode = Annotated[
    bool, _engine("--trust-remote-code", help="Run code that the checkpoint brings.")
]

MaxErrors = Annotated[int, typer.Option(min=0, help="Error lines that are accepted.")]
RetryErrors = Annotated[bool, typer.Option("--retry-errors", help="Redo error lines.")]
NoScore = Annotated[bool, typer.Option("--no-score", help="Only roll out.")]
JsonOutput = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
