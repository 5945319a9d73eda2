"""One teacher-forced pass of a checkpoint over the texts of a run: what `coordeval probe` does."""

from __future__ import annotations

import copy
import gc
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from coordeval.data.images import load_sample_image
from coordeval.decoding.token_table import TokenTable
from coordeval.engines.adapter_folder import check_adapter
from coordeval.engines.checkpoint import resolve_checkpoint, text_setting
from coordeval.engines.hf_inputs import apply_pixel_limits, encode_sample, render_prompt
from coordeval.engines.hf_loading import (
    load_model,
    load_reader,
    resolve_device,
    resolve_dtype,
)
from coordeval.engines.interrupts import Interrupted, interrupt_guard
from coordeval.errors import CheckpointError, DataError
from coordeval.training.diagnostics.totals import Totals, totals_of
from coordeval.training.probe.forward import ForcedText, TeacherForcing
from coordeval.training.probe.inputs import read_inputs
from coordeval.training.probe.matching import (
    label_ground_truth,
    label_rollout,
    matched_boxes,
    shared_objects,
)
from coordeval.training.probe.rows import SlotRows, slot_rows
from coordeval.training.probe.texts import TextMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.engines.checkpoint import Checkpoint
    from coordeval.engines.hf_inputs import EncodedSample
    from coordeval.engines.hf_loading import Reader
    from coordeval.training.probe.forward import TextDiagnosis
    from coordeval.training.probe.inputs import ProbeInputs, ProbeItem
    from coordeval.training.probe.matching import MatchedBox
    from coordeval.training.probe.options import ProbeOptions
    from coordeval.training.probe.result import ProbeResult
    from coordeval.training.probe.rows import Context
    from coordeval.training.probe.texts import ProbeText

CONTEXTS: dict[str, tuple[Context, ...]] = {
    "gt": ("ground_truth",),
    "rollouts": ("own_rollout",),
    "both": ("ground_truth", "own_rollout"),
}


@dataclass(slots=True, kw_only=True)
class ImageFindings:
    """What was found out about one image; a context without a text is missing.

    `same_boxes` are totals over the boxes that are labelled with the ground truth in both contexts
    (in the own rollout alone, where the ground truth was not probed).
    """

    id: str
    totals: dict[Context, Totals] = field(default_factory=dict)
    same_boxes: dict[Context, Totals] = field(default_factory=dict)
    num_boxes: int = 0
    origins: dict[Context, str] = field(default_factory=dict)
    rows: list[SlotRows] = field(default_factory=list)


class _Task(NamedTuple):
    place: int
    context: Context
    forced: ForcedText


def probe_checkpoint(
    options: ProbeOptions,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    notify: Callable[[str], None] = lambda _: None,
    handle_signals: bool = False,
) -> ProbeResult:
    """Probe a checkpoint over the texts of a run.

    Everything that can be wrong is checked before weights are read. `on_progress` hears of images
    done and in all, `notify` of warnings. With `handle_signals` a signal stops the pass, and the
    result holds what was done until then (`stopped_by` is the exit code to end with). Raises the
    errors of its parts: CheckpointError where the tokenizer lacks coordinate tokens, DataError for
    runs and images, ConfigError for settings.
    """
    from transformers.utils import logging as transformers_logging

    from coordeval.training.probe.summary import summarise

    transformers_logging.disable_progress_bar()
    inputs = read_inputs(options)
    checkpoint = resolve_checkpoint(options.checkpoint)
    if options.adapter is not None:
        check_adapter(options.adapter)
    device = resolve_device(options.device)
    dtype_name, dtype = resolve_dtype(options.dtype, device)
    reader = load_reader(checkpoint, trust_remote_code=options.trust_remote_code)
    prober = Prober(inputs, checkpoint, reader, CONTEXTS[options.texts], notify=notify)
    model = load_model(
        checkpoint,
        device=device,
        dtype=dtype,
        attention=options.attention,
        adapter=options.adapter,
        trust_remote_code=options.trust_remote_code,
    )
    stopped_by = None
    with interrupt_guard(enabled=handle_signals):
        try:
            prober.run(model, batch_size=options.batch_size, on_progress=on_progress)
        except Interrupted as stop:
            stopped_by = stop.exit_code
    return summarise(
        options,
        inputs,
        checkpoint,
        prober.findings,
        environment={"device": str(device), "dtype": dtype_name, "attention": options.attention},
        errors=prober.errors,
        skipped=prober.skipped,
        contexts=CONTEXTS[options.texts],
        stopped_by=stopped_by,
    )


class Prober:
    """Makes texts and runs them through a model, image after image.

    `findings` grow image by image, in the order of the inputs. `errors` lists (id, context,
    message) of texts that failed, `skipped` counts texts in which there is nothing to probe, by
    reason. What is wrong with one text costs only that text.
    """

    def __init__(
        self,
        inputs: ProbeInputs,
        checkpoint: Checkpoint,
        reader: Reader,
        contexts: Sequence[Context],
        *,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        # The image processor may be shared with others: limits are set on a copy.
        self._reader = replace(reader, image_processor=copy.deepcopy(reader.image_processor))
        apply_pixel_limits(self._reader.image_processor, inputs.pixels)
        self._inputs, self._contexts, self._notify = inputs, tuple(contexts), notify
        self._table = _token_table(reader, checkpoint)
        self._texts = TextMaker(reader, self._table, inputs.dialect, inputs.frame)
        self._prompt_ids = render_prompt(reader.tokenizer, inputs.prompt, reader.image_token_id)
        self._max_positions = text_setting(checkpoint.config(), "max_position_embeddings")
        self.findings: list[ImageFindings] = []
        self.errors: list[tuple[str, Context, str]] = []
        self.skipped: Counter[str] = Counter()

    def run(
        self,
        model: Any,
        *,
        batch_size: int,
        on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Probe every image of the inputs, in order; `batch_size` texts at a time."""
        inputs = self._inputs
        boxes: list[list[MatchedBox]] = [[] for _ in inputs.items]
        if "own_rollout" in self._contexts:
            boxes = matched_boxes(inputs.run, inputs.items, inputs.dialect, inputs.frame)
        forcing = TeacherForcing(model, self._reader, self._table.coords.token_ids)
        total = len(inputs.items)
        on_progress(0, total)
        for start in range(0, total, batch_size):
            chosen = slice(start, start + batch_size)
            self.findings += self._probe(forcing, inputs.items[chosen], boxes[chosen])
            on_progress(len(self.findings), total)

    def _probe(
        self,
        forcing: TeacherForcing,
        items: Sequence[ProbeItem],
        boxes: Sequence[Sequence[MatchedBox]],
    ) -> list[ImageFindings]:
        tasks: dict[Context, list[_Task]] = {context: [] for context in self._contexts}
        for place, item in enumerate(items):
            for task in self._tasks(place, item, boxes[place]):
                tasks[task.context].append(task)
        diagnosed: list[dict[Context, tuple[ProbeText, TextDiagnosis]]] = [{} for _ in items]
        for context, wanted in tasks.items():
            for task, found in self._forced(forcing, wanted, items):
                diagnosed[task.place][context] = (task.forced.text, found)
        return [_findings(item, texts) for item, texts in zip(items, diagnosed, strict=True)]

    def _tasks(self, place: int, item: ProbeItem, boxes: Sequence[MatchedBox]) -> list[_Task]:
        try:
            prompt = self._encode(item)
        except (DataError, ValueError) as error:
            for context in self._contexts:
                self._fail(item, context, str(error))
            return []
        out = []
        for context in self._contexts:
            try:
                text = self._text(item, context, boxes)
            except ValueError as error:
                self._fail(item, context, str(error))
                continue
            if text is None:
                continue
            forced = ForcedText(prompt, text)
            if self._max_positions is not None and forced.num_tokens > self._max_positions:
                self._fail(
                    item,
                    context,
                    f"prompt and text are {forced.num_tokens} tokens, "
                    f"the model has {self._max_positions} positions",
                )
                continue
            out.append(_Task(place, context, forced))
        return out

    def _text(
        self, item: ProbeItem, context: Context, boxes: Sequence[MatchedBox]
    ) -> ProbeText | None:
        if context == "ground_truth":
            text = self._texts.ground_truth(item.sample)
            return label_ground_truth(text, item.sample, boxes)
        if item.rollout.error is not None or item.rollout.finish_reason == "error":
            self.skipped["engine_error"] += 1
            return None
        own = self._texts.own_rollout(item.rollout)
        if own is None:
            self.skipped["empty_text"] += 1
            return None
        return label_rollout(own, boxes)

    def _encode(self, item: ProbeItem) -> EncodedSample:
        image = load_sample_image(item.sample)
        reader = self._reader
        return encode_sample(self._prompt_ids, image, reader.image_processor, reader.image_token_id)

    def _forced(
        self, forcing: TeacherForcing, tasks: Sequence[_Task], items: Sequence[ProbeItem]
    ) -> list[tuple[_Task, TextDiagnosis]]:
        """Run tasks together; where that fails, in halves, so that one text costs only itself."""
        if not tasks:
            return []
        try:
            found = forcing.diagnose([task.forced for task in tasks])
        except torch.OutOfMemoryError:
            message = "out of memory, even alone in its batch"
        except (RuntimeError, ValueError, IndexError) as error:
            message = f"the forward pass failed: {type(error).__name__}: {error}"
        else:
            return self._finite(tasks, found, items)
        # Outside the handler, whose traceback holds the batch's tensors.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(tasks) == 1:
            self._fail(items[tasks[0].place], tasks[0].context, message)
            return []
        self._notify(f"a batch of {len(tasks)} failed, going on with halves: {message[:200]}")
        half = len(tasks) // 2
        return [
            *self._forced(forcing, tasks[:half], items),
            *self._forced(forcing, tasks[half:], items),
        ]

    def _finite(
        self,
        tasks: Sequence[_Task],
        found: Sequence[TextDiagnosis],
        items: Sequence[ProbeItem],
    ) -> list[tuple[_Task, TextDiagnosis]]:
        out = []
        for task, diagnosis in zip(tasks, found, strict=True):
            if diagnosis.finite:
                out.append((task, diagnosis))
            else:
                self._fail(items[task.place], task.context, "the model's logits are not finite")
        return out

    def _fail(self, item: ProbeItem, context: Context, message: str) -> None:
        self.errors.append((item.sample.id, context, " ".join(message.split())[:1000]))


def _token_table(reader: Reader, checkpoint: Checkpoint) -> TokenTable:
    try:
        return TokenTable.from_tokenizer(
            reader.tokenizer, end_ids=reader.end_ids, vocab_size=reader.vocab_size
        )
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.source}: {error}") from None


def _findings(
    item: ProbeItem, texts: dict[Context, tuple[ProbeText, TextDiagnosis]]
) -> ImageFindings:
    out = ImageFindings(id=item.sample.id)
    for context, (text, diagnosis) in texts.items():
        out.totals[context] = totals_of(diagnosis.written)
        out.origins[context] = text.origin
        out.rows += slot_rows(item.rollout, context, text, diagnosis)
    own = texts.get("own_rollout")
    truth = texts.get("ground_truth")
    if own is None:
        return out
    shared = own[0].objects[own[0].objects >= 0]
    if truth is not None:
        shared = shared_objects(truth[0], own[0])
    for context, (text, diagnosis) in texts.items():
        labelled = text.objects[text.objects >= 0]
        chosen = torch.from_numpy((labelled[:, None] == shared[None, :]).any(axis=1))
        out.same_boxes[context] = totals_of(diagnosis.true.only_slots(chosen))
    out.num_boxes = len(set(shared.tolist()))
    return out


__all__ = ["CONTEXTS", "ImageFindings", "Prober", "probe_checkpoint"]
