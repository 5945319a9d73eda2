"""Options of every command that scores: which names stand for which class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coordeval.metrics.names.mapper import NameMapper
    from coordeval.metrics.names.matching import NameMatching
    from coordeval.metrics.protocols import Protocol
    from coordeval.metrics.result import ScoreResult

SynonymsOption = Annotated[
    Path | None,
    typer.Option(
        "--synonyms",
        metavar="FILE",
        help="Names that stand for a class, as TOML or lines 'couch: sofa, settee'.  "
        "[default: synonyms of coordeval.toml]",
    ),
]
SemanticOption = Annotated[
    str | None,
    typer.Option(
        "--semantic",
        metavar="MODEL",
        help="A sentence-transformers model (folder, or name in the cache) that finds the class of "
        "other names.",
    ),
]
SemanticThresholdOption = Annotated[
    float | None,
    typer.Option(
        metavar="COSINE",
        help="--semantic: how similar a name must be to its class.  [default: 0.6]",
    ),
]


def name_matching(
    near: Path | None,
    synonyms: Path | None,
    semantic: str | None,
    semantic_threshold: float | None,
) -> NameMatching | None:
    """What the options and coordeval.toml ask for; None where names have to be equal.

    `near` is a run or checkpoint whose parents may hold the coordeval.toml. Raises ConfigError for
    a threshold without a model, and what reading the files and loading the model raise.
    """
    from coordeval.config import load_defaults
    from coordeval.errors import ConfigError
    from coordeval.metrics.names.matching import NameMatching

    mappers: list[NameMapper] = []
    path = synonyms or load_defaults(Path.cwd(), near=near).synonyms
    if path is not None:
        from coordeval.data.synonym_lines import synonym_lines
        from coordeval.data.synonyms_file import read_synonyms
        from coordeval.metrics.names.synonyms import SynonymNames

        groups = read_synonyms(path)
        lines = synonym_lines(path, groups)
        mappers.append(SynonymNames(groups, source=str(path), lines=lines))
    if semantic is not None:
        from coordeval.metrics.names.embedding import DEFAULT_THRESHOLD
        from coordeval.metrics.names.sentence_model import load_sentence_model

        threshold = DEFAULT_THRESHOLD if semantic_threshold is None else semantic_threshold
        mappers.append(load_sentence_model(semantic, threshold=threshold))
    elif semantic_threshold is not None:
        raise ConfigError("--semantic-threshold needs --semantic MODEL")
    return NameMatching(tuple(mappers)) if mappers else None


def scoring_protocol(
    near: Path | None,
    synonyms: Path | None,
    semantic: str | None,
    semantic_threshold: float | None,
    *,
    name: str = "coordeval",
) -> Protocol:
    """The protocol of that name with the way of matching names that `name_matching` gives.

    Raises ConfigError for an unknown protocol too.
    """
    from dataclasses import replace

    from coordeval.metrics.protocols import protocol_named

    rules = protocol_named(name)
    return replace(rules, names=name_matching(near, synonyms, semantic, semantic_threshold))


def warn_of_idle_synonyms(result: ScoreResult) -> None:
    """Say on stderr which groups of synonyms hold no class of the data set, in one line."""
    from coordeval.metrics.names.idle import idle_groups
    from coordeval.reports.printable import printable

    for sentence in idle_groups(result.rules, result.columns.universe):
        typer.echo(f"warning: {printable(sentence)}", err=True)


__all__ = [
    "SemanticOption",
    "SemanticThresholdOption",
    "SynonymsOption",
    "name_matching",
    "scoring_protocol",
    "warn_of_idle_synonyms",
]
