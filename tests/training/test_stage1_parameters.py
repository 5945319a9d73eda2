"""Which parameters learn, at which rate: groups, coordinate rows, Muon, LoRA and DoRA."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from stage1_setup import config, rows, tiny_base, weights
from torch import nn

from coordeval.coords import CoordVocabulary
from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import load_model, load_reader
from coordeval.errors import ConfigError
from coordeval.training.config import ObjectiveConfig, TuneConfig
from coordeval.training.stage1 import train_stage1
from coordeval.training.tuning.adapters import load_for_training
from coordeval.training.tuning.coord_only import CoordRows
from coordeval.training.tuning.joint_optimizer import JointOptimizer, build_optimizer
from coordeval.training.tuning.param_groups import is_decayed, parameter_groups, part_of


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def base(request, tmp_path_factory):
    """An untrained checkpoint with tied or untied tables."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base", tied=request.param)


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """An untrained checkpoint with one table."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


def _ids(base):
    reader = load_reader(resolve_checkpoint(str(base)))
    return torch.tensor(CoordVocabulary.from_tokenizer(reader.tokenizer).token_ids)


def _start(base):
    model = load_model(
        resolve_checkpoint(str(base)), device=torch.device("cpu"), dtype=torch.float32
    )
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_what_the_training_asks_for(tied, tmp_path, attention):
    """`attention` names the implementation of the model that is trained, language and vision."""
    settings = config(tied, tmp_path / "run", attention=attention)
    model = load_for_training(resolve_checkpoint(str(tied)), settings, bf16=False)
    parts = (model.config, model.config.text_config, model.config.vision_config)
    assert [part._attn_implementation for part in parts] == [attention] * 3


def test_unknown_attention_is_refused(tied, tmp_path):
    """A name that is none is a fault of the configuration."""
    with pytest.raises(ConfigError, match="attention: 'fast' is not one of auto, eager"):
        config(tied, tmp_path / "run", attention="fast")


@pytest.mark.slow
def test_only_coordinate_rows_change(base, tmp_path):
    """`coord_rows` moves the coordinate rows of every table and not one bit of anything else."""
    settings = config(
        base,
        tmp_path / "run",
        tune=TuneConfig(what="coord_rows"),
        trainer={"weight_decay": 0.5, "num_train_epochs": 2, "learning_rate": 0.01},
    )
    done = train_stage1(settings)
    before, after, ids = _start(base), weights(done.checkpoint), _ids(base)
    tables = [name for name in after if "embed_tokens" in name or name == "lm_head.weight"]
    assert len(tables) == (1 if "lm_head.weight" not in after else 2)
    for name, value in after.items():
        if name not in tables:
            assert torch.equal(value, before[name]), name
            continue
        is_row = torch.zeros(len(value), dtype=torch.bool)
        is_row[ids] = True
        assert torch.equal(value[~is_row], before[name][~is_row])
        assert bool((value[is_row] != before[name][is_row]).any(dim=1).float().mean() > 0.01)


def test_rows_move_as_a_parameter_of_their_own_does():
    """With their own rate, rows take the AdamW steps of a separate tensor, to the bit."""
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(12, 5))
    ids = torch.tensor([3, 4, 9])
    alone, rest = nn.Parameter(table.detach()[ids].clone()), nn.Parameter(table.detach().clone())
    rows_of = CoordRows(table, ids)
    joint = JointOptimizer(
        [
            torch.optim.AdamW(
                [
                    {"params": [table], "lr": 0.1, "weight_decay": 0.0},
                    {"params": [rows_of.rows_KH], "lr": 0.003, "weight_decay": 0.0},
                ]
            )
        ],
        [rows_of],
    )
    separate = torch.optim.AdamW([alone], lr=0.003, weight_decay=0.0)
    ordinary = torch.optim.AdamW([rest], lr=0.1, weight_decay=0.0)
    others = [n for n in range(12) if n not in ids.tolist()]
    for _ in range(5):
        gradient = torch.randn(12, 5)
        table.grad, rest.grad, alone.grad = (
            gradient.clone(),
            gradient.clone(),
            gradient[ids].clone(),
        )
        for optimizer in (joint, separate, ordinary):
            optimizer.step()
        assert torch.equal(table.detach()[ids], alone.detach())
        assert torch.equal(table.detach()[others], rest.detach()[others])


def test_a_joint_optimizer_goes_on_where_its_state_was_saved():
    """Muon, AdamW and rows: state saved and loaded into a fresh object gives the same steps."""
    torch.manual_seed(1)
    start = {"matrix": torch.randn(6, 4), "table": torch.randn(10, 4), "gain": torch.randn(4)}

    def build(values):
        model = nn.ParameterDict({name: nn.Parameter(v.clone()) for name, v in values.items()})
        named = [
            ("layers.0.weight", model["matrix"]),
            ("embed_tokens.weight", model["table"]),
            ("norm.weight", model["gain"]),
        ]
        tune = TuneConfig(muon=True, muon_lr=0.05)
        row = CoordRows(model["table"], torch.tensor([1, 2]))
        groups = parameter_groups(named, tune, learning_rate=0.01, weight_decay=0.1)
        optimizer = build_optimizer(groups, torch.optim.AdamW, [row], rows_lr=0.02)
        return model, optimizer

    def step(model, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        for value in model.values():
            value.grad = torch.randn(value.shape, generator=generator)
        optimizer.step()

    model, optimizer = build(start)
    for seed in range(3):
        step(model, optimizer, seed)
    saved = copy.deepcopy(optimizer.state_dict())
    other, fresh = build({name: value.detach() for name, value in model.items()})
    fresh.load_state_dict(saved)
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(other, fresh, seed)
    assert all(torch.equal(model[name], other[name]) for name in start)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.0)
    before = {name: value.detach().clone() for name, value in model.items()}
    step(model, optimizer, 9)
    assert all(torch.equal(model[name], before[name]) for name in start)
    assert {group["lr"] for group in optimizer.param_groups} == {0.0} and schedule


def test_parts_are_told_apart_by_name():
    """Vision, aligner and language, adapters included; what is decayed and what is not."""
    assert part_of("model.visual.blocks.0.attn.qkv.weight") == "vision"
    assert part_of("base_model.model.model.visual.merger.linear_fc1.lora_A.default.weight") == (
        "aligner"
    )
    assert part_of("model.visual.deepstack_merger_list.0.norm.weight") == "aligner"
    assert part_of("model.language_model.layers.0.mlp.up_proj.weight") == "language"
    assert part_of("lm_head.weight") == "language"
    decayed = {
        "model.visual.patch_embed.proj.weight": (5, False),
        "model.language_model.layers.0.input_layernorm.weight": (1, False),
        "model.language_model.layers.0.mlp.up_proj.weight": (2, True),
        "model.language_model.embed_tokens.weight": (2, False),
        "model.visual.blocks.0.attn.qkv.bias": (1, False),
        "lm_head.weight": (2, False),
    }
    for name, (dimensions, expected) in decayed.items():
        assert is_decayed(name, dimensions) is expected, name


@pytest.mark.slow
def test_each_part_learns_at_its_own_rate(tied, tmp_path):
    """A frozen part keeps its bits, the log has every group's rate, and Muon takes the matrices."""
    tune = TuneConfig(vision_lr=0.0, aligner_lr=1e-4, coord_rows_lr=5e-3, muon=True, muon_lr=0.01)
    done = train_stage1(config(tied, tmp_path / "run", tune=tune))
    before, after = _start(tied), weights(done.checkpoint)
    for name, value in after.items():
        same = torch.equal(value, before[name])
        if "deepstack" in name:  # added behind the only layer, where no text can see it
            continue
        assert same is (part_of(name) == "vision"), name
    first = rows(tmp_path / "run")[0]
    rates = {key: value for key, value in first.items() if key.startswith("lr/")}
    assert rates["lr/coord_rows"] == 5e-3
    assert rates["lr/language/muon"] == 0.01
    assert rates["lr/aligner/plain"] == 1e-4
    assert not any("vision" in key for key in rates)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["lora", "dora"])
def test_adapters_are_saved_and_load_in_the_rollout_engine(what, base, tmp_path):
    """LoRA and DoRA with trained coordinate rows load as --adapter and write what was trained."""
    tune = TuneConfig(what=what, lora_rank=2, coord_rows_lr=0.01)
    settings = config(
        base,
        tmp_path / "run",
        tune=tune,
        trainer={"learning_rate": 0.02, "gradient_checkpointing": True, "bf16": False},
    )
    done = train_stage1(settings)
    checkpoint = resolve_checkpoint(str(base))
    plain = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    tuned = load_model(
        checkpoint, device=torch.device("cpu"), dtype=torch.float32, adapter=done.checkpoint
    )
    ids = torch.randint(0, 50, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        inputs = {"input_ids": ids, "mm_token_type_ids": torch.zeros_like(ids)}
        difference = (plain(**inputs).logits - tuned(**inputs).logits).abs()
    rows_ids = _ids(base)
    assert float(difference[..., rows_ids].max()) > 1e-4
    saved = load_file(done.checkpoint / "adapter_model.safetensors")
    assert any("token_adapter" in name or "trainable_tokens" in name for name in saved)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["lora", "full"])
def test_coordinate_rows_learn_at_their_own_rate_whatever_else_is_frozen(what, base, tmp_path):
    """With the language part frozen, `coord_rows_lr` moves the rows by its own steps, 0 by none."""
    ids, start, moved = _ids(base), _start(base), {}
    for rate in (0.0, 1e-3, 1e-2):
        out = tmp_path / str(rate)
        tune = TuneConfig(what=what, language_lr=0.0, coord_rows_lr=rate)
        trainer = {"max_steps": 1, "lr_scheduler_type": "constant"}
        done = train_stage1(config(base, out, tune=tune, trainer=trainer))
        if rate:
            assert rows(out)[0]["lr/coord_rows"] == rate
        adapter = done.checkpoint if what == "lora" else None
        source = base if what == "lora" else done.checkpoint
        model = load_model(
            resolve_checkpoint(str(source)),
            device=torch.device("cpu"),
            dtype=torch.float32,
            adapter=adapter,
        )
        before = start["model.language_model.embed_tokens.weight"]
        table = model.get_input_embeddings()
        values = table(torch.arange(len(before))).detach() - before
        is_row = torch.zeros(len(before), dtype=torch.bool)
        is_row[ids] = True
        assert float(values[~is_row].abs().max()) == 0.0
        moved[rate] = float(values[is_row].abs().max())
        for name, value in model.named_parameters():
            if part_of(name) == "language" and name in start and len(value) != len(before):
                assert torch.equal(value, start[name]), name
    # AdamW's first step is the rate itself.
    assert moved[0.0] == 0.0
    assert moved[1e-3] == pytest.approx(1e-3, rel=0.02)
    assert moved[1e-2] == pytest.approx(1e-2, rel=0.02)


@pytest.mark.slow
def test_an_adapter_without_rows_cannot_be_gone_on_with_for_rows(tied, tmp_path):
    """Rows that are asked for and not there are said, not left out."""
    first = train_stage1(config(tied, tmp_path / "first", tune=TuneConfig(what="lora")))
    settings = config(
        tied,
        tmp_path / "second",
        tune=TuneConfig(what="lora", coord_rows_lr=0.01),
        adapter=str(first.checkpoint),
    )
    with pytest.raises(ConfigError, match="has no rows of its own"):
        train_stage1(settings)


@pytest.mark.slow
def test_bf16_and_gradient_checkpointing_train(tied, tmp_path):
    """Under bf16 autocast with checkpointed layers the loss is near that of fp32."""
    plain = train_stage1(config(tied, tmp_path / "plain"))
    half = train_stage1(
        config(tied, tmp_path / "half", trainer={"bf16": True, "gradient_checkpointing": True})
    )
    assert plain.step == half.step
    for one, other in zip(rows(tmp_path / "plain"), rows(tmp_path / "half"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.02)
    assert all(value.dtype == torch.float32 for value in weights(half.checkpoint).values())


@pytest.mark.slow
def test_nothing_to_learn_is_refused(tied, tmp_path):
    """All rates 0 is a fault of the configuration."""
    tune = TuneConfig(vision_lr=0.0, aligner_lr=0.0, language_lr=0.0)
    with pytest.raises(ConfigError, match="nothing learns"):
        train_stage1(config(tied, tmp_path / "run", tune=tune))
    assert ObjectiveConfig().weights()


@pytest.mark.slow
def test_an_adapter_is_gone_on_with_or_merged(tied, tmp_path):
    """`adapter` under lora goes on from it; under full its weights are merged and all learn."""
    first = train_stage1(
        config(
            tied,
            tmp_path / "first",
            tune=TuneConfig(what="lora"),
            trainer={"learning_rate": 0.02},
        )
    )
    reached = rows(tmp_path / "first")[-1]["loss"]
    for what in ("lora", "full"):
        settings = config(
            tied, tmp_path / what, tune=TuneConfig(what=what), adapter=str(first.checkpoint)
        )
        done = train_stage1(settings)
        assert rows(tmp_path / what)[0]["loss"] < rows(tmp_path / "first")[0]["loss"] - 0.1
        assert done.step == 4 and reached
    assert (tmp_path / "full/checkpoint-4/model.safetensors").exists()
