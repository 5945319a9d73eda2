"""The tokenizer of the tiny checkpoints: Qwen's, with a small vocabulary and coordinate tokens.

Byte-level BPE, so that every text can be written; the words of the prompt, of JSON and of the
given texts become single tokens. The special tokens are those of Qwen3-VL, followed by
`<|coord_0|>` ... `<|coord_999|>`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from coordeval.coords import NUM_BINS, coord_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
IMAGE_PLACEHOLDER = "<|image_pad|>"
VIDEO_PLACEHOLDER = "<|video_pad|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"

SPECIAL_TOKENS = (
    PADDING,
    "<|im_start|>",
    END_OF_TURN,
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    VISION_START,
    VISION_END,
    "<|vision_pad|>",
    IMAGE_PLACEHOLDER,
    VIDEO_PLACEHOLDER,
)

# What surrounds coordinates and descriptions in every dialect; coordinate tokens split the text,
# so pieces that stand next to one are listed as they are cut there.
STRUCTURE_TEXTS = (
    '{"objects": [{"desc": "',
    '", "bbox_2d": [',
    '", "poly": [',
    '", "line": [',
    ", ",
    ']}, {"desc": "',
    "]}]}",
    '{"objects": []}',
    '{"objects": [{"bbox_2d": [',
    '], "desc": "',
    '"}, {"bbox_2d": [',
    '"}]}',
    '{"object_1": {"desc": "',
    "system\n",
    "user\n",
    "assistant\n",
    "```json\n",
    # Seen where models drift: other keys, Chinese ordinals in a coordinate's place, digits.
    '", "bbox_3d": [',
    '", "bbox_d": [',
    "第九",
    "第一",
    "0 1 2 3 4 5 6 7 8 9",
)


def _corpus(texts: Sequence[str]) -> Iterator[str]:
    for _ in range(4):  # a pair must occur at least twice to be merged
        yield from STRUCTURE_TEXTS
        yield from texts


def _bpe_model(texts: Sequence[str], max_vocab: int) -> tuple[dict[str, int], list[Any]]:
    """Vocabulary and merges of a BPE model trained on the texts; the same texts, the same model."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=max_vocab,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(texts), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def build_tiny_tokenizer(
    texts: Sequence[str] = (), *, max_vocab: int = 900, coordinates: bool = True
) -> Any:
    """A `Qwen2Tokenizer` whose words come from `texts` (prompts, class names) and from JSON.

    At most `max_vocab` ordinary tokens (256 of them bytes), then 14 special and 1000 coordinate
    tokens (none without `coordinates`: the state before a vocabulary is expanded). Ends turns with
    `<|im_end|>`, pads on the left with `<|endoftext|>`. Deterministic.
    """
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer

    vocab, merges = _bpe_model(texts, max_vocab)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=None,
        bos_token=None,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        model_max_length=4096,
        padding_side="left",
    )
    added = list(SPECIAL_TOKENS)
    if coordinates:
        added += [coord_token(k) for k in range(NUM_BINS)]
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in added])
    return tokenizer


__all__ = [
    "END_OF_TURN",
    "IMAGE_PLACEHOLDER",
    "PADDING",
    "SPECIAL_TOKENS",
    "VIDEO_PLACEHOLDER",
    "VISION_END",
    "VISION_START",
    "build_tiny_tokenizer",
]
