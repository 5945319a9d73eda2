"""Whether a server reads our prompts as we do: its prompt token ids against those made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from coordeval.data.prompts import Prompt
    from coordeval.engines.hf_loading import Reader


class PromptCheck:
    """Compares prompts, image tokens included, with what the checkpoint's own files give.

    Raises ConfigError for a prompt that the chat template or the image token forbids.
    """

    def __init__(self, reader: Reader, image_processor: Any, prompt: Prompt) -> None:
        from coordeval.engines.hf_inputs import render_prompt

        self._processor = image_processor
        self._image_token_id = reader.image_token_id
        self._ids: list[int] | None
        try:
            self._ids = render_prompt(reader.tokenizer, prompt, reader.image_token_id)
        except CheckpointError:
            self._ids = None  # the server may have a chat template that the folder lacks

    def complaint(self, server_ids: Sequence[int], fitted: Image.Image) -> str | None:
        """What differs, in one line; None where nothing does. The image is in its final size."""
        from coordeval.engines.image_fit import image_token_count

        if self._ids is None:
            return "the checkpoint folder has no chat template to check the server's prompts with"
        place = self._ids.index(self._image_token_id)
        images = [self._image_token_id] * image_token_count(fitted, self._processor)
        ours = [*self._ids[:place], *images, *self._ids[place + 1 :]]
        theirs = list(server_ids)
        if ours == theirs:
            return None
        ours_images = ours.count(self._image_token_id)
        theirs_images = theirs.count(self._image_token_id)
        if ours_images != theirs_images:
            return (
                f"the server cuts images differently: {theirs_images} image tokens there, "
                f"{ours_images} by the checkpoint here; check pixel limits and image processor"
            )
        place = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
            min(len(ours), len(theirs)),
        )
        return (
            f"the server reads another prompt: {len(theirs)} tokens there, {len(ours)} by the "
            f"checkpoint here, different from token {place}; check its chat template and model"
        )


__all__ = ["PromptCheck"]
