"""Cost of constrained decoding per step, beside llguidance on the same grammar and the same logits.

A step is: masks for the batch, -inf applied to its logits, and the chosen tokens noted. Both sides
choose the same tokens, because their masks are equal (tests/decoding/test_lark_peer.py); our
`ordered` and `coords` rows have no counterpart there. Shown are medians and p99 over the second
half of the steps, the time to compile, and that of the first half (where masks are made), in
processor time of the one thread, which other work on the machine does not stretch.

    python benchmarks/bench_constraint.py [--steps 400]   (llguidance is optional)
"""

from __future__ import annotations

import random
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from rounds import median_ratio
from script import run_script
from tables import Table, show

from coordeval.coords import CoordVocabulary, coord_token
from coordeval.decoding.constraint import compile_constraint
from coordeval.decoding.lark import lark_grammar
from coordeval.decoding.masking import LogitMasker
from coordeval.decoding.settings import ConstraintSettings
from coordeval.decoding.token_table import TokenTable
from coordeval.parsers import DIALECTS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tables import Cell

DIALECT = DIALECTS["coordjson"]
QWEN_SIZE = 151_936
STRUCTURE = (
    '", "',
    '": [',
    '": "',
    "]}, {",
    ", ",
    '{"',
    '"}',
    "]}",
    "},",
    '",',
    "]}]}",
    ' "',
    "desc",
)
OURS, THEIRS = "grammar, unordered", "llguidance, the same"
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"


def tiny_table() -> TokenTable:
    """The vocabulary of the tiny checkpoints."""
    from coordeval.training.tiny.tokenizer import END_OF_TURN, build_tiny_tokenizer

    tokenizer = build_tiny_tokenizer(["red circle, blue square, green triangle, yellow diamond"])
    return TokenTable.from_tokenizer(
        tokenizer, end_ids=[tokenizer.convert_tokens_to_ids(END_OF_TURN)]
    )


def _made_up_piece(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.68:
        word = "".join(rng.choices(LETTERS, k=rng.randint(2, 11)))
        return (rng.choice(["", " "]) + word).encode()
    if kind < 0.86:
        return "".join(
            chr(rng.randrange(0x4E00, 0x9000)) for _ in range(rng.randint(1, 4))
        ).encode()
    if kind < 0.97:
        return "".join(
            rng.choices('"[]{},:.;()<>|/\\-_=+*&$#@!?\n\t ', k=rng.randint(1, 5))
        ).encode()
    return chr(rng.randrange(0x4E00, 0x9000)).encode()[: rng.randint(1, 2)]


def large_table(size: int = QWEN_SIZE) -> TokenTable:
    """A made-up byte-level vocabulary: words, CJK, punctuation, cut characters, added tokens."""
    rng = random.Random(0)
    pieces = dict.fromkeys([bytes([byte]) for byte in range(256)])
    pieces.update(dict.fromkeys(text.encode() for text in STRUCTURE))
    while len(pieces) < size - 1001:
        pieces[_made_up_piece(rng)] = None
    texts = (*pieces, b"<|im_end|>", *(coord_token(k).encode() for k in range(1000)))
    ids = tuple(range(size - 1000, size))
    return TokenTable(
        coords=CoordVocabulary(token_ids=ids),
        end_ids=frozenset([size - 1001]),
        vocab_size=size,
        texts=texts,
        ordinary=(True,) * (size - 1001) + (False,) * 1001,
        bins={token_id: k for k, token_id in enumerate(ids)},
    )


class Stepper(NamedTuple):
    """One side of the comparison: `mask` and `note` are timed, `restart` is not."""

    mask: Callable[[torch.Tensor], torch.Tensor]
    note: Callable[[list[int]], None]
    restart: Callable[[int], None]


def our_stepper(settings: ConstraintSettings, table: TokenTable, batch: int) -> Stepper:
    """The automaton and the logit masker of this project."""
    constraint = compile_constraint(settings, DIALECT, table)
    assert constraint is not None
    masker = LogitMasker(constraint, "cpu")
    states = [constraint.start() for _ in range(batch)]

    def note(token_ids: list[int]) -> None:
        for state, token_id in zip(states, token_ids, strict=True):
            state.advance(token_id)

    def restart(row: int) -> None:
        states[row] = constraint.start()

    return Stepper(lambda logits: masker(logits, states, inplace=True), note, restart)


class _PeerVocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, table: TokenTable) -> None:
        self.tokens = [
            table.text_bytes(i) or f"<|unused_{i}|>".encode() for i in range(table.vocab_size)
        ]
        self.special_token_ids = [i for i in range(table.vocab_size) if not table.ordinary_bytes(i)]
        self.eos_token_id = min(table.end_ids)
        self.bos_token_id = None

    def __call__(self, text: str | bytes) -> list[int]:
        """A tokenisation into single bytes; used for nothing that is measured."""
        return list(text.encode() if isinstance(text, str) else text)


def peer_stepper(settings: ConstraintSettings, table: TokenTable, batch: int) -> Stepper:
    """The same language in llguidance; ImportError where it is not installed."""
    import llguidance
    from llguidance.torch import (
        allocate_token_bitmask,
        apply_token_bitmask_inplace,
        fill_next_token_bitmask,
    )

    wrapper: Any = llguidance.TokenizerWrapper(_PeerVocabulary(table))
    vocabulary = llguidance.LLTokenizer(wrapper, n_vocab=table.vocab_size)
    grammar = llguidance.LLMatcher.grammar_from_lark(lark_grammar(settings, DIALECT, table))
    matchers = [llguidance.LLMatcher(vocabulary, grammar) for _ in range(batch)]
    bitmask = allocate_token_bitmask(batch, table.vocab_size)

    def mask(logits: torch.Tensor) -> torch.Tensor:
        for row, matcher in enumerate(matchers):
            fill_next_token_bitmask(matcher, bitmask, row)
        apply_token_bitmask_inplace(logits, bitmask)
        return logits

    def note(token_ids: list[int]) -> None:
        for matcher, token_id in zip(matchers, token_ids, strict=True):
            matcher.consume_token(token_id)

    def restart(row: int) -> None:
        matchers[row] = llguidance.LLMatcher(vocabulary, grammar)

    return Stepper(mask, note, restart)


def logits_pool(table: TokenTable, batch: int, seed: int) -> list[torch.Tensor]:
    """Random logits in which closing a description or a list is likely."""
    generator = torch.Generator().manual_seed(seed)
    closing = torch.zeros(table.vocab_size)
    for token_id in range(table.vocab_size):
        if table.text_bytes(token_id)[:1] in (b'"', b"]", b",", b"{", b"}"):
            closing[token_id] = 6.0
    return [
        torch.randn(batch, table.vocab_size, generator=generator) * 2 + closing for _ in range(5)
    ]


def run(steppers: list[Stepper], table: TokenTable, batch: int, steps: int) -> list[list[float]]:
    """Seconds per step of each side, step by step in turn, on equal logits."""
    end = min(table.end_ids)
    pool = logits_pool(table, batch, seed=batch)
    seconds: list[list[float]] = [[] for _ in steppers]
    for step in range(steps):
        for stepper, taken in zip(steppers, seconds, strict=True):
            logits = pool[step % len(pool)].clone()
            begun = time.thread_time()
            masked = stepper.mask(logits)
            between = time.thread_time()
            chosen = masked.argmax(dim=-1).tolist()
            resumed = time.thread_time()
            stepper.note(chosen)
            taken.append(time.thread_time() - resumed + between - begun)
            for row, token_id in enumerate(chosen):
                if token_id == end:
                    stepper.restart(row)
    return seconds


def row(label: str, seconds: list[float], batch: int, compile_s: float) -> tuple[Cell, ...]:
    """One line: the steady half of the steps, and what came before it."""
    steady = np.array(seconds[len(seconds) // 2 :]) * 1e6
    warming = sum(seconds[: len(seconds) // 2]) * 1e3
    median = float(np.median(steady))
    p99 = float(np.percentile(steady, 99))
    return label, median, p99, median / batch, compile_s * 1e3, warming


def compare(table: TokenTable, batch: int, steps: int) -> Table:
    """All modes at one vocabulary and batch size; the plain grammar beside llguidance."""
    plain = ConstraintSettings(mode="grammar", ordered=False)
    builders: dict[str, Callable[[], Stepper]] = {
        OURS: lambda: our_stepper(plain, table, batch),
        THEIRS: lambda: peer_stepper(plain, table, batch),
    }
    steppers: dict[str, tuple[Stepper, float]] = {}
    notes = ["Processor time of the one thread."]
    for label, build in builders.items():
        begun = time.perf_counter()
        try:
            stepper = build()
        except ImportError:
            notes.append("llguidance is not installed.")
            continue
        steppers[label] = (stepper, time.perf_counter() - begun)
    seconds = run([stepper for stepper, _ in steppers.values()], table, batch, steps)
    timed = dict(zip(steppers, seconds, strict=True))
    rows = [row(label, timed[label], batch, took) for label, (_, took) in steppers.items()]
    if THEIRS in timed:
        half = steps // 2
        ratio = median_ratio(
            [b / a for a, b in zip(timed[OURS][half:], timed[THEIRS][half:], strict=True)]
        )
        notes.append(f"llguidance takes {show(ratio, '.2f')} times as long, step by step.")
    for label, settings in (
        ("grammar, ordered", ConstraintSettings(mode="grammar")),
        ("coords", ConstraintSettings(mode="coords")),
    ):
        begun = time.perf_counter()
        stepper = our_stepper(settings, table, batch)
        took = time.perf_counter() - begun
        rows.append(row(label, run([stepper], table, batch, steps)[0], batch, took))
    return Table(
        title=f"Constrained decoding: vocabulary {table.vocab_size:,}, batch {batch}",
        columns=(
            ("constraint", ""),
            ("us per step", ".1f"),
            ("p99", ".1f"),
            ("us per sequence", ".2f"),
            ("compile ms", ".0f"),
            ("first half of the steps, ms", ".0f"),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def measure(options: argparse.Namespace) -> list[Table]:
    """Both vocabularies, batches of 1 and 16."""
    torch.set_num_threads(1)
    tables = (tiny_table(), large_table(options.vocabulary))
    return [compare(table, batch, options.steps) for table in tables for batch in (1, 16)]


def arguments(parser: argparse.ArgumentParser) -> None:
    """How many steps, and how large the large vocabulary is."""
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--vocabulary", type=int, default=QWEN_SIZE)


if __name__ == "__main__":
    sys.exit(
        run_script(__doc__, measure, arguments=arguments, quick={"steps": 40, "vocabulary": 20_000})
    )
