"""Names by meaning: the class whose sentence embedding is nearest, where it is near enough.

similarity = cosine of the two vectors, in float64, rounded to six decimals so that the order of
additions inside a library decides nothing. The first class wins a tie. Ground truth stays as it
is: guessing what an annotator meant would change the question, not the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.errors import ConfigError
from coordeval.metrics.names.mapper import NameMatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from coordeval.metrics.names.mapper import MatchedBy

DEFAULT_THRESHOLD = 0.6
DECIMALS = 6
_ROWS_AT_ONCE = 2048


class EmbeddingNames:
    """Nearest class by cosine similarity, at least `threshold`.

    `embed` takes texts and gives one vector each, (N, D). `model` and `sha256` say what it is; they
    are stored with the scores. Raises ConfigError for a threshold outside (0, 1].
    """

    by: MatchedBy = "embedding"

    def __init__(
        self,
        embed: Callable[[list[str]], ArrayLike],
        *,
        model: str,
        sha256: str | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        backend: str | None = None,
    ) -> None:
        if not 0.0 < threshold <= 1.0:
            raise ConfigError(
                f"--semantic-threshold {threshold:g}: must be above 0 and at most 1 (a cosine)"
            )
        self._embed = embed
        self.model, self.sha256 = model, sha256
        self.threshold, self.backend = float(threshold), backend

    def to_json(self) -> dict[str, Any]:
        """The model and the threshold."""
        return {
            "model": self.model,
            "sha256": self.sha256,
            "threshold": self.threshold,
            "backend": self.backend,
        }

    def truth_names(
        self,
        names: Sequence[str],  # noqa: ARG002 - the interface's
        listed: Mapping[str, str] | None,  # noqa: ARG002
        normalise: Callable[[str], str],  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Nothing: ground truth is not guessed at."""
        return {}

    def match(
        self,
        names: Sequence[str],
        classes: Sequence[str],
        normalise: Callable[[str], str],  # noqa: ARG002 - the interface's
    ) -> Mapping[str, NameMatch]:
        """The nearest class of each name that reaches the threshold; {} without names or classes.

        Raises ConfigError where `embed` gives something other than one finite vector per text.
        """
        if not names or not classes:
            return {}
        vectors = self._vectors([*classes, *names])
        of_classes, of_names = vectors[: len(classes)], vectors[len(classes) :]
        out: dict[str, NameMatch] = {}
        for first in range(0, len(names), _ROWS_AT_ONCE):
            similar = np.round(of_names[first : first + _ROWS_AT_ONCE] @ of_classes.T, DECIMALS)
            best = similar.argmax(axis=1)
            for row, place in enumerate(best.tolist()):
                value = float(similar[row, place])
                if value >= self.threshold:
                    out[names[first + row]] = NameMatch(classes[place], value)
        return out

    def _vectors(self, texts: list[str]) -> NDArray[np.float64]:
        """Unit vectors; a zero vector stays one, and is like nothing."""
        try:
            vectors = np.asarray(self._embed(texts), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.model}: gives no vectors for names: {error}") from None
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise ConfigError(
                f"{self.model}: gives an array of shape {vectors.shape} for {len(texts)} names; "
                "one vector of finite numbers each is needed"
            )
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
        return np.asarray(unit, dtype=np.float64)


__all__ = ["DEFAULT_THRESHOLD", "EmbeddingNames"]
