"""Adding the 1,000 coordinate tokens to a checkpoint: tokenizer, embeddings, head, and all files.

Shape legend: K coordinate bins, H hidden width, V vocabulary.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from coordeval.coords import NUM_BINS, CoordVocabulary, coord_token
from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import check_model_type, load_reader
from coordeval.errors import CheckpointError, ConfigError
from coordeval.training.vocabulary.rows import ROW_INITS, digit_rows, fourier_rows, mean_row_norm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from coordeval.engines.checkpoint import Checkpoint
    from coordeval.training.vocabulary.rows import RowInit

# Weights and their index are written anew; states of a training have no meaning for a new table.
_NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".index.json")
_COPY_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What was done: how many tokens were new, and the ids and table sizes that resulted."""

    out: Path
    added: int
    first_id: int
    last_id: int
    rows_before: int
    rows_after: int
    tied: bool


def expand_vocabulary(
    base: str,
    out: Path,
    *,
    init: RowInit = "fourier",
    seed: int = 0,
    notify: Callable[[str], None] = lambda _: None,
) -> Expansion:
    """Write `base` to `out` with coordinate tokens in tokenizer, embeddings and head.

    Tokens that are there already keep their ids and rows, so a second expansion changes nothing.
    Rows that the tables already hold beyond the tokenizer (padding of the vocabulary) are used
    before the tables grow. The head of an untied model gets rows of its own by the same rule.
    Number formats of the weights stay. The result is reloaded and checked; where something fails,
    `out` is removed again. `base` is never written to.
    Raises CheckpointError for what is no Qwen-VL checkpoint or has tokens of another meaning,
    ConfigError for an unknown `init` and an `out` that is taken or cannot be written.
    """
    from safetensors import SafetensorError

    if init not in ROW_INITS:
        raise ConfigError(f"unknown init {init!r}: use one of {', '.join(ROW_INITS)}")
    checkpoint = resolve_checkpoint(base)
    check_model_type(checkpoint.config(), checkpoint.source)
    _check_out(checkpoint, out)
    tokenizer = load_reader(checkpoint).tokenizer
    known = len(tokenizer)
    added = add_coord_tokens(tokenizer)
    vocabulary = CoordVocabulary.from_tokenizer(tokenizer)
    notify(f"{added} tokens to add; reading the weights")
    model = _load_as_stored(checkpoint)
    rows_before = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows_before:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tied = _is_tied(model)
    old = min(known, rows_before)
    new_bins = [k for k, token_id in enumerate(vocabulary.token_ids) if token_id >= old]
    if new_bins:
        _fill_rows(model, tokenizer, vocabulary, new_bins, old, init=init, seed=seed)
    notify(f"writing {out}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made: {error.strerror or error}") from None
    try:
        _copy_rest(checkpoint.path, out)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        tables = {name: table.cpu().clone() for name, table in _tables(model).items()}
        del model  # only one model at a time need fit into memory
        rows_after = _check_reload(out, vocabulary, tables)
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"{out}: cannot be written, nothing is left: {reason}") from None
        raise
    return Expansion(
        out=out,
        added=added,
        first_id=min(vocabulary.token_ids),
        last_id=max(vocabulary.token_ids),
        rows_before=rows_before,
        rows_after=rows_after,
        tied=tied,
    )


def add_coord_tokens(tokenizer: Any) -> int:
    """Add those of the 1,000 tokens that the tokenizer lacks; how many these were.

    They are ordinary added tokens, not special ones, so that other tools' `skip_special_tokens`
    leaves them in the text.
    """
    from tokenizers import AddedToken

    vocabulary = tokenizer.get_vocab()
    lacking = [coord_token(k) for k in range(NUM_BINS) if coord_token(k) not in vocabulary]
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in lacking])
    return len(lacking)


def _check_out(checkpoint: Checkpoint, out: Path) -> None:
    resolved = out.resolve()
    if resolved == checkpoint.path or checkpoint.path in resolved.parents:
        raise ConfigError(f"{out}: lies in the base checkpoint, which is never written to")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists already; name a new folder, or remove it")


def _load_as_stored(checkpoint: Checkpoint) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            checkpoint.path,
            dtype="auto",
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{checkpoint.source}: cannot be loaded: {reason}") from None
    # The library draws what is missing at random, and the result would look whole.
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(
            f"{checkpoint.source}: its weights lack {len(missing)} tensors, such as {missing[0]}"
        )
    return model


def _is_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is None or head.weight is model.get_input_embeddings().weight


@torch.no_grad()
def _fill_rows(
    model: Any,
    tokenizer: Any,
    vocabulary: CoordVocabulary,
    new_bins: list[int],
    old: int,
    *,
    init: RowInit,
    seed: int,
) -> None:
    ids = torch.tensor([vocabulary.token_ids[k] for k in new_bins])
    for table_VH in _tables(model).values():
        rows_KH = _first_rows(table_VH, tokenizer, old, init=init, seed=seed)
        table_VH[ids] = rows_KH[new_bins].to(table_VH.dtype)


def _first_rows(table_VH: Tensor, tokenizer: Any, old: int, *, init: RowInit, seed: int) -> Tensor:
    if init == "fourier":
        norm = mean_row_norm(table_VH, old)
        return fourier_rows(table_VH.shape[1], row_norm=norm, seed=seed)
    digit_ids = [tokenizer(str(d), add_special_tokens=False)["input_ids"] for d in range(10)]
    if any(len(ids) != 1 for ids in digit_ids):
        raise CheckpointError(
            "the tokenizer has no single tokens for the digits: use --init fourier"
        )
    return digit_rows(table_VH, [ids[0] for ids in digit_ids])


def _copy_rest(source: Path, out: Path) -> None:
    """All small files that are not weights: processor configs, chat template, licence, notes."""
    for path in sorted(source.iterdir()):
        wanted = not path.name.endswith(_NOT_COPIED) and not path.name.startswith(".")
        if path.is_file() and wanted and path.stat().st_size <= _COPY_LIMIT_BYTES:
            shutil.copyfile(path, out / path.name)


def _tables(model: Any) -> dict[str, Tensor]:
    """The embedding table, and the head's where it is another one."""
    tables = {"embeddings": model.get_input_embeddings().weight}
    if not _is_tied(model):
        tables["head"] = model.get_output_embeddings().weight
    return tables


def _check_reload(out: Path, vocabulary: CoordVocabulary, written: dict[str, Tensor]) -> int:
    """Read the folder back: the same ids, tables that hold them, values as written; the rows."""
    reread = resolve_checkpoint(str(out))
    if CoordVocabulary.from_tokenizer(load_reader(reread).tokenizer) != vocabulary:
        raise CheckpointError(f"{out}: the reloaded tokenizer has other coordinate ids")
    read = _tables(_load_as_stored(reread))
    if read.keys() != written.keys() or not all(
        torch.equal(written[name], read[name].cpu()) for name in written
    ):
        raise CheckpointError(f"{out}: the reloaded tables differ from those written")
    rows = int(read["embeddings"].shape[0])
    if rows <= max(vocabulary.token_ids):
        raise CheckpointError(f"{out}: the reloaded table has only {rows} rows")
    return rows


__all__ = ["Expansion", "add_coord_tokens", "expand_vocabulary"]
