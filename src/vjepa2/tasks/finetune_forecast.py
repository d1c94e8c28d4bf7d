"""What a fine-tuning update needs of memory, before it runs.

Counted with the same rules as pretraining (`training.forecast_counts`), for what is different
here: no teacher and no predictor, frozen blocks that keep nothing, and the attentive head.
"""

from collections.abc import Mapping

from torch import nn

from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.nn.pooler import POOLER_MLP_RATIO
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.training.distributed import Processes
from vjepa2.training.forecast import HELD_SHARE, LIBRARY_BYTES
from vjepa2.training.forecast_counts import Stack, input_bytes, inside_block, sizes_of, stacks_of


def finetune_forecast(
    config: FineTuneConfig, model: VJEPA2ForVideoClassification, processes: Processes
) -> dict[str, int]:
    """Bytes of one process at its fullest moment, by what they hold; "total" is the sum.

    Args:
        config: of the run.
        model: with what is trained chosen.
        processes: of the run.
    """
    views, network = config.views, model.config
    kind = "cuda" if processes.device.type == "cuda" else "cpu"
    share = max(1, config.batch.batch_size // processes.world_size)
    micro = min(config.batch.micro_batch or share, share)
    side = views.crop_size
    grid = TokenGrid(
        max(1, views.num_frames // network.tubelet_size),
        side // network.patch_size,
        side // network.patch_size,
    )
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    kept, needed = _activations(config, model, grid, kind)
    clips = micro * views.num_segments
    held = {
        "weights": 4 * sum(value.numel() for value in model.parameters()),
        "optimizer state": 8 * trained,
        "gradients": 4 * trained,
        "activations": int(clips * kept),
        "workspace": int(clips * needed),
        "input": views.num_segments
        * input_bytes(network, views.num_frames, (side, side), own=share, micro=micro),
    }
    if config.runtime.dtype == "bfloat16":
        used = (model.vjepa2.encoder, model.pooler, model.classifier)
        held["bfloat16 copies of weights"] = 2 * sum(map(_size, used))
    found = {name: int(value * HELD_SHARE[kind]) for name, value in held.items()}
    found["libraries"] = LIBRARY_BYTES[kind]
    found["total"] = sum(found.values())
    return found


def forecast_text(memory: Mapping[str, int]) -> str:
    """One line for people: the sum, and the larger parts of it."""
    large = {
        name: value
        for name, value in sorted(memory.items(), key=lambda item: -item[1])
        if name != "total" and value * 50 > memory["total"]
    }
    parts = ", ".join(f"{_mebibytes(value)} {name}" for name, value in large.items())
    return f"Memory      {_mebibytes(memory['total'])} per process: {parts}"


def _activations(
    config: FineTuneConfig, model: VJEPA2ForVideoClassification, grid: TokenGrid, kind: str
) -> tuple[float, float]:
    """Bytes of one clip: kept for the backward pass, and needed for a moment within it."""
    network, tokens = model.config, grid.num_tokens
    sizes = sizes_of(config.runtime.dtype, kind)
    encoder, _ = stacks_of(network)
    recompute = config.runtime.recompute
    lora = config.method == "lora"
    with_gradient = [
        any(p.requires_grad for p in block.parameters()) for block in model.vjepa2.encoder.layer
    ]
    # From the first trained block on all blocks keep what the gradient passes through.
    depth = len(with_gradient) - with_gradient.index(True) if any(with_gradient) else 0
    levels = len(network.pooler_levels or (0,))
    width = network.hidden_size
    pooler = Stack(
        width,
        int(width * POOLER_MLP_RATIO),
        network.pooler_heads,
        network.num_pooler_layers,
    )
    kept = needed = 0.0
    for stack, count, num_tokens, frozen in (
        (encoder, depth, tokens, lora),
        (pooler, pooler.depth, tokens * levels, False),
    ):
        block = stack.kept_bytes(sizes, frozen=frozen) * num_tokens
        inside = inside_block(stack, num_tokens, sizes)
        if recompute:
            kept += count * num_tokens * stack.width * sizes.compute
            inside += block if count else 0
        else:
            kept += count * block
        needed = max(needed, inside)
    # Of the cross attention, whose queries are few: tokens before and after its norm, keys, values.
    kept += levels * tokens * width * (sizes.norm_input + 3 * sizes.compute)
    # Final norms, rotary tables, and patches where their embedding is trained.
    kept += levels * tokens * (width * sizes.norm_input + 8)
    kept += 2 * tokens * network.head_dim * sizes.compute
    if config.method == "full":
        patch = network.in_chans * network.patch_size**2 * network.tubelet_size
        kept += tokens * patch * sizes.compute
    return kept, needed


def _size(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _mebibytes(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**29 else f"{number / 2**20:.0f} MiB"
