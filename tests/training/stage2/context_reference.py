"""Channel A written down once more, slowly: embeddings by hand, whole logits, slot by slot."""

import sys
from pathlib import Path

import torch

from coordeval.training.stage2.gumbel import gumbel_noise

sys.path.insert(0, str(Path(__file__).parents[1] / "losses"))

from naive_objective import naive_terms


def hidden_states(model, batch, embeds_BLH):
    """The language part alone on given embeddings of the tokens, images put in by hand."""
    inner = model.model
    ids, mask = batch["input_ids"], batch["attention_mask"]
    seen = inner.get_image_features(
        batch["pixel_values"], batch["image_grid_thw"], return_dict=True
    )
    is_image = ids == model.config.image_token_id
    embeds_BLH = embeds_BLH.clone()
    embeds_BLH[is_image] = torch.cat(list(seen.pooler_output)).to(embeds_BLH)
    positions, _ = inner.get_rope_index(
        ids,
        mm_token_type_ids=batch["mm_token_type_ids"],
        image_grid_thw=batch["image_grid_thw"],
        attention_mask=mask,
    )
    return inner.language_model(
        inputs_embeds=embeds_BLH,
        position_ids=positions,
        attention_mask=mask,
        visual_pos_masks=is_image,
        deepstack_visual_embeds=[torch.cat(list(part)) for part in seen.deepstack_features],
        use_cache=False,
    ).last_hidden_state


def one_context(z, rows, context, noise):
    """The embedding that one slot's logits make, with torch's autograd through plain arithmetic."""
    temperature, kind = context.temperature, context.kind
    gradient = context.gradient or {
        "argmax": "straight_through",
        "rounded_expectation": "straight_through",
    }.get(kind, "soft")
    if kind == "gumbel_softmax":
        z = z + noise.double()
    weights = torch.exp((z - z.max()) / temperature)
    if kind == "top_k":
        threshold = sorted(z.tolist())[-context.top_k]
        weights = weights * (z >= threshold)
    probs = weights / weights.sum()
    soft = (probs[:, None] * rows).sum(0)
    if kind == "argmax" or (kind == "gumbel_softmax" and gradient == "straight_through"):
        listed = z.tolist()
        pick = listed.index(max(listed))
    elif kind == "rounded_expectation":
        pick = round(sum(k * p for k, p in enumerate(probs.tolist())))
    else:
        pick = None
    if pick is None:
        return soft if gradient == "soft" else soft.detach()
    if gradient == "stop":
        return rows[pick].detach()
    return rows[pick].detach() + soft - soft.detach()


def slow_passes(model, batch, coord_ids, config, *, seed=3, step=0):
    """Whole logits (B, L, V) and hidden states of every iteration, and all contexts' distances."""
    channel = config.channel_a
    ids = batch["input_ids"]
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    coordinates = set(coord_ids.tolist())
    slots = [
        (row, column)
        for row in range(ids.shape[0])
        for column in range(ids.shape[1])
        if int(batch["labels"][row, column]) in coordinates
    ]
    hidden = [hidden_states(model, batch, table[ids])]
    logits = [hidden[0] @ head.T]
    distances = []
    for iteration in range(1, channel.iterations):
        rows = table[coord_ids]
        embeds = table[ids].clone()
        for row, sample in enumerate(batch["sample_ids"]):
            own = [column for r, column in slots if r == row]
            noise = gumbel_noise(
                [(sample, len(own))], len(coord_ids), seed=seed, step=step, iteration=iteration
            )
            for number, column in enumerate(own):
                z = logits[-1][row, column - 1][coord_ids]
                made = one_context(z, rows, channel.context, noise[number])
                if channel.grad_mode == "em_detach":
                    made = made.detach()
                embeds[row, column] = made
                distances.append(float((made - rows).detach().norm(dim=1).min()))
        learns = channel.grad_mode == "unroll" or iteration == channel.iterations - 1
        with torch.set_grad_enabled(learns):
            hidden.append(hidden_states(model, batch, embeds))
            logits.append(hidden[-1] @ head.T)
    return logits, hidden, distances


def slow_terms(model, batch, coord_ids, config, *, end_ids, seed=3, step=0):
    """Sum of every term of channel A by its name, weights by name, and the contexts' distances."""
    channel = config.channel_a
    logits, _, distances = slow_passes(model, batch, coord_ids, config, seed=seed, step=step)
    labels = batch["labels"].flatten()
    length = batch["labels"].shape[1]
    options = {
        "end_ids": end_ids,
        "temperature": config.temperature,
        "sigma": config.sigma,
        "truncate": config.truncate,
        "decode": channel.decode,
    }
    weights = {"A1/text_ce": channel.text_ce}
    weights |= {f"A1/{name}": value for name, value in channel.anchor.by_name().items()}
    weights |= {f"A2/{name}": value for name, value in channel.weights.by_name().items()}
    weights["A2/gate"] = config.coord_gate_weight
    sums = {}
    for at, logits_BLV in (("A1/", logits[0]), ("A2/", logits[-1])):
        # Row n of the flat batch predicts label n: shifted here, by hand, once more.
        before = torch.cat([logits_BLV[:, :1] * 0, logits_BLV[:, :-1]], dim=1).flatten(0, 1)
        assert before.shape[0] == len(labels) == logits_BLV.shape[0] * length
        found = naive_terms(before, labels, coord_ids, boxes=batch["box_slots"], **options)
        sums |= {at + name: value for name, value in found.items()}
    return sums, {name: value for name, value in weights.items() if value}, distances


def slow_loss(sums, weights, divisors):
    """Weighted sum over the terms of sum over divisor."""
    return sum(weight * sums[name] / max(divisors[name], 1) for name, weight in weights.items())
