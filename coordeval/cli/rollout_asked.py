"""Options of a rollout that coordeval.toml or a run may give too, as the command line has them."""

from __future__ import annotations

from typing import TypedDict

from coordeval.cli import rollout_options as opt


class Asked(TypedDict):
    """Each by its name on the command line; None (or False, for a switch) where it was not given.

    What [decode] in coordeval.toml may set, what goes into the settings of control, and what says
    which data are read and how.
    """

    data: opt.Data
    image_root: opt.ImageRoot
    prompt: opt.PromptName
    pixels: opt.Pixels
    dialect: opt.DialectName
    field_order: opt.FieldOrder
    frame: opt.FrameName
    limit: opt.Limit
    temperature: opt.Temperature
    top_p: opt.TopP
    top_k: opt.TopK
    repetition_penalty: opt.RepetitionPenalty
    max_new_tokens: opt.MaxNewTokens
    samples: opt.Samples
    sample_temperature: opt.SampleTemperature
    seed: opt.Seed
    constrain: opt.Constrain
    classes: opt.Classes
    geometry: opt.Geometry
    max_objects: opt.MaxObjects
    max_points: opt.MaxPoints
    separators: opt.Separators
    ordered: opt.Ordered
    sorted_objects: opt.SortedObjects
    loop_guard: opt.LoopGuard
    guard_exact: opt.GuardExact
    guard_block: opt.GuardBlock
    guard_near: opt.GuardNear
    guard_near_iou: opt.GuardNearIou
    guard_cycle: opt.GuardCycle
    telemetry: opt.Telemetry
    engine: opt.Engine
    batch_size: opt.BatchSize
    dtype: opt.Dtype
    device: opt.Device


__all__ = ["Asked"]
