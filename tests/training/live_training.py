"""A tiny model in a real Trainer, with and without the evaluator; shared by several test files."""

from __future__ import annotations

from pathlib import Path

import torch

from coordeval.data.dataset import open_dataset
from coordeval.data.images import load_upright_rgb
from coordeval.data.prompts import default_prompt
from coordeval.engines.hf_inputs import encode_sample, render_prompt
from coordeval.engines.hf_loading import make_reader
from coordeval.parsers.dialects import dialect_named
from coordeval.training.tiny.model import TinyConfig, build_model, tiny_tokenizer
from coordeval.training.tiny.processor import CHAT_TEMPLATE, image_processor

SCENES = Path(__file__).parents[2] / "fixtures" / "scenes" / "heldout.jsonl"
TINY = TinyConfig(
    hidden=32,
    layers=1,
    heads=2,
    head_dim=16,
    feed_forward=32,
    vision_depth=1,
    vision_hidden=32,
    vision_heads=2,
    vision_feed_forward=32,
    init_std=0.2,
)


def tokenizer():
    made = tiny_tokenizer(["red circle", "green square"])
    made.chat_template = CHAT_TEMPLATE
    return made


def tiny_model(*, dropout=0.1, seed=0, **config):
    """A model with attention dropout, so that its training draws from torch's generator."""
    from dataclasses import replace

    model = build_model(replace(TINY, **config), tokenizer(), seed=seed)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = dropout
    return model.train()


def reader_of(model):
    return make_reader(
        tokenizer=tokenizer(),
        image_processor=image_processor(TINY.vision),
        config=model.config.to_dict(),
        generation=model.generation_config.to_dict(),
        source="tiny",
    )


class Scenes(torch.utils.data.Dataset):
    """A few scenes as training examples of one row each."""

    def __init__(self, reader, count=8):
        prompt = render_prompt(
            reader.tokenizer,
            default_prompt(dialect=dialect_named("coordjson")),
            reader.image_token_id,
        )
        self.items = []
        for sample in list(open_dataset(SCENES))[:count]:
            image = load_upright_rgb(sample.image_path)
            encoded = encode_sample(prompt, image, reader.image_processor, reader.image_token_id)
            answer = reader.tokenizer('{"objects": []}', add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[*encoded.prompt_ids, *answer, reader.end_id]])
            labels = ids.clone()
            labels[:, : len(encoded.prompt_ids)] = -100
            self.items.append(
                {
                    "input_ids": ids,
                    "attention_mask": torch.ones_like(ids),
                    "labels": labels,
                    "mm_token_type_ids": (ids == reader.image_token_id).int(),
                    "pixel_values": encoded.pixel_values,
                    "image_grid_thw": encoded.grid_thw[None],
                }
            )

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def make_trainer(folder, model, callbacks, *, kind=None, eval_count=0, **args):
    """A Trainer over eight scenes; `eval_count` of them are evaluation data as well."""
    from transformers import Trainer, TrainingArguments

    settings = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 1,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "seed": 3,
    } | args
    return (kind or Trainer)(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=Scenes(reader_of(model)),
        eval_dataset=Scenes(reader_of(model), eval_count) if eval_count else None,
        data_collator=lambda rows: rows[0],
        callbacks=callbacks,
    )


def callback(model, **options):
    """An evaluator of four scenes and a few tokens."""
    from coordeval.training.rollout_eval.callback import RolloutEvalCallback

    settings = {
        "data": SCENES,
        "processor": reader_of(model),
        "limit": 4,
        "decode": {"max_new_tokens": 24},
        "every": 2,
    } | options
    decode = {"max_new_tokens": 24} | settings.pop("decode")
    return RolloutEvalCallback(settings.pop("data"), decode=decode, **settings)
