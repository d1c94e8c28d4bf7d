"""A plain pretraining step, written after the published description: the other side of timings.

Facts from arXiv:2506.09985 and the behaviour of the published code; no line is taken from it, and
nothing here is used by the package. It computes the same loss as the package from the same
weights, masks and pixels (`benchmarks/train_step.py` checks that before it times anything), in the
obvious way:

- every mask setting runs the encoder on its own: all patches embedded, then the kept ones picked;
- every block works out positions, frequencies and angles again, one axis of the head at a time;
- the predictor sorts its tokens by place, and undoes that at the end;
- masks are drawn by Python loops, sample by sample and block by block;
- clips become float32 at the size they were decoded in, then crop, resize, flip, normalise;
- AdamW at PyTorch's defaults, the averaged encoder tensor by tensor.

Names and shapes of parameters are those of the published checkpoints.
"""

import copy
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa2 import VJEPA2Config

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MASK_SETTINGS = ({"blocks": 8, "scale": 0.15}, {"blocks": 2, "scale": 0.7})
ASPECT = (0.75, 1.5)


# -- network -------------------------------------------------------------------------------------


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """Tokens [B, N, D] at ids [B, K]."""
    return torch.gather(tokens, 1, ids.unsqueeze(-1).repeat(1, 1, tokens.size(-1)))


def turn(x: Tensor, positions: Tensor) -> Tensor:
    """Rotate one axis of heads [B, G, N, d] with the tiled layout; positions [N] or [B, G, N]."""
    width = x.size(-1)
    exponent = torch.arange(width // 2, dtype=x.dtype, device=x.device) / (width / 2.0)
    angles = positions.unsqueeze(-1) * (1.0 / 10000**exponent)
    cos, sin = (torch.cat([part, part], dim=-1) for part in (angles.cos(), angles.sin()))
    even, odd = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
    swapped = torch.stack((-odd, even), dim=-1).flatten(-2)
    return x * cos + swapped * sin


class PlainAttention(nn.Module):
    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, ids: Tensor | None) -> Tensor:
        B, N, D = x.shape
        query, key, value = self.qkv(x).reshape(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if ids is None:
            where = torch.arange(N, device=x.device)
        else:
            where = ids.unsqueeze(1).repeat(1, self.heads, 1)
        within = where % self.side**2
        axes = (where // self.side**2, within // self.side, within % self.side)
        width = 2 * (query.size(-1) // 3 // 2)
        turned = []
        for x_heads in (query, key):
            parts = [
                turn(x_heads[..., i * width : (i + 1) * width], axis) for i, axis in enumerate(axes)
            ]
            if 3 * width < x_heads.size(-1):
                parts.append(x_heads[..., 3 * width :])
            turned.append(torch.cat(parts, dim=-1))
        attended = F.scaled_dot_product_attention(*turned, value)
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(B, N, D))
        return out


class PlainMLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int, ratio: float, side: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = PlainAttention(dim, heads, side)
        self.mlp = PlainMLP(dim, int(dim * ratio))

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), ids)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PlainPatchEmbed(nn.Module):
    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        kernel = (config.tubelet_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.in_chans, config.hidden_size, kernel, stride=kernel)

    def forward(self, clips: Tensor) -> Tensor:
        tokens: Tensor = self.proj(clips)
        return tokens.flatten(2).transpose(1, 2)


class PlainEncoder(nn.Module):
    """Clips [B, C, T, H, W] to tokens; a list of ids to one result per mask, on the batch axis."""

    def __init__(self, config: VJEPA2Config, *, side: int) -> None:
        super().__init__()
        self.patch_embed = PlainPatchEmbed(config)
        self.blocks = nn.ModuleList(
            PlainBlock(config.hidden_size, config.num_attention_heads, config.mlp_ratio, side)
            for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-6)

    def forward(self, clips: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        tokens = self.patch_embed(clips)
        ids = None
        if masks is not None:
            tokens = torch.cat([take(tokens, mask) for mask in masks], dim=0)
            ids = torch.cat(list(masks), dim=0)
        for block in self.blocks:
            tokens = block(tokens, ids)
        normed: Tensor = self.norm(tokens)
        return normed


class PlainPredictor(nn.Module):
    def __init__(self, config: VJEPA2Config, *, side: int, num_patches: int) -> None:
        super().__init__()
        width = config.pred_hidden_size
        self.num_patches = num_patches
        self.predictor_embed = nn.Linear(config.hidden_size, width)
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, width)) for _ in range(config.pred_num_mask_tokens)
        )
        self.predictor_blocks = nn.ModuleList(
            PlainBlock(width, config.pred_num_attention_heads, config.pred_mlp_ratio, side)
            for _ in range(config.pred_num_hidden_layers)
        )
        self.predictor_norm = nn.LayerNorm(width, eps=1e-6)
        self.predictor_proj = nn.Linear(width, config.hidden_size)

    def forward(self, context: Tensor, ids_x: Tensor, ids_y: Tensor, mask_index: int) -> Tensor:
        B, num_context, _ = context.shape
        tokens = self.predictor_embed(context)
        hidden = self.mask_tokens[mask_index % len(self.mask_tokens)]
        hidden = take(hidden.repeat(B, self.num_patches, 1), ids_y)
        tokens = torch.cat([tokens, hidden], dim=1)
        ids = torch.cat([ids_x, ids_y], dim=1)
        order = torch.argsort(ids, dim=1)
        ids = torch.stack([row[place] for row, place in zip(ids, order, strict=True)])
        tokens = torch.stack([row[place] for row, place in zip(tokens, order, strict=True)])
        for block in self.predictor_blocks:
            tokens = block(tokens, ids)
        tokens = self.predictor_norm(tokens)
        back = torch.argsort(order, dim=1)
        tokens = torch.stack([row[place] for row, place in zip(tokens, back, strict=True)])
        out: Tensor = self.predictor_proj(tokens[:, num_context:])
        return out


# -- masks and pixels ----------------------------------------------------------------------------


class PlainMasks:
    """One mask setting: block size from a counted seed, places from the global generator."""

    def __init__(self, grid: tuple[int, int, int], *, blocks: int, scale: float) -> None:
        self.grid, self.blocks, self.scale, self.calls = grid, blocks, scale, -1

    def __call__(self, batch: int) -> tuple[Tensor, Tensor]:
        self.calls += 1
        t, h, w = self._size(torch.Generator().manual_seed(self.calls))
        context, target = [], []
        for _ in range(batch):
            kept = torch.zeros(0)
            while len(kept) == 0:
                free = torch.ones(self.grid, dtype=torch.int32)
                for _ in range(self.blocks):
                    free *= self._block(t, h, w)
                flat = free.flatten()
                kept = torch.argwhere(flat == 1)[:, 0]
            context.append(kept)
            target.append(torch.argwhere(flat == 0)[:, 0])
        fewest = [min(len(ids) for ids in rows) for rows in (context, target)]
        return (
            torch.stack([ids[: fewest[0]] for ids in context]),
            torch.stack([ids[: fewest[1]] for ids in target]),
        )

    def _size(self, generator: torch.Generator) -> tuple[int, int, int]:
        steps, rows, columns = self.grid
        torch.rand(2, generator=generator)  # both scales have equal ends
        draw = float(torch.rand(1, generator=generator))
        aspect = ASPECT[0] + draw * (ASPECT[1] - ASPECT[0])
        area = int(rows * columns * self.scale)
        height = min(rows, round(math.sqrt(area * aspect)))
        width = min(columns, round(math.sqrt(area / aspect)))
        return steps, height, width

    def _block(self, t: int, h: int, w: int) -> Tensor:
        top = int(torch.randint(0, self.grid[1] - h + 1, (1,)))
        left = int(torch.randint(0, self.grid[2] - w + 1, (1,)))
        start = int(torch.randint(0, self.grid[0] - t + 1, (1,)))
        free = torch.ones(self.grid, dtype=torch.int32)
        free[start : start + t, top : top + h, left : left + w] = 0
        return free


def random_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random resized crop."""
    for _ in range(10):
        area = random.uniform(0.3, 1.0) * height * width
        aspect = math.exp(random.uniform(math.log(0.75), math.log(1.35)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w <= width and h <= height:
            return random.randint(0, height - h), random.randint(0, width - w), h, w
    return 0, 0, height, width


def cut(frames: Tensor, box: tuple[int, int, int, int], *, flip: bool, size: int) -> Tensor:
    """Decoded frames uint8 [T, H, W, C] to one normalised clip [C, T, size, size]."""
    clip = frames.to(torch.float32).permute(3, 0, 1, 2)
    top, left, height, width = box
    clip = clip[:, :, top : top + height, left : left + width]
    clip = F.interpolate(clip, size=(size, size), mode="bilinear", align_corners=False)
    if flip:
        clip = clip.flip(-1)
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) * 255.0 for values in (MEAN, STD))
    return (clip - mean) / std


def augmented(videos: Sequence[Tensor], size: int) -> Tensor:
    """Clips [B, C, T, size, size] of decoded videos uint8 [T, H, W, C]."""
    clips = []
    for frames in videos:
        box = random_box(frames.shape[1], frames.shape[2])
        clips.append(cut(frames, box, flip=random.random() < 0.5, size=size))
    return torch.stack(clips)


# -- step ----------------------------------------------------------------------------------------


@dataclass
class PlainSettings:
    """Numbers of a run that change no shape."""

    learning_rate: float = 1e-4
    weight_decay: float = 0.04
    momentum: float = 0.99925
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


class PlainStep:
    """Networks, optimizer and masks of the plain side."""

    def __init__(
        self, config: VJEPA2Config, *, frames: int, size: int, settings: PlainSettings
    ) -> None:
        side = size // config.patch_size
        grid = (frames // config.tubelet_size, side, side)
        device = torch.device(settings.device)
        self.settings, self.size = settings, size
        self.encoder = PlainEncoder(config, side=side).to(device)
        self.predictor = PlainPredictor(config, side=side, num_patches=math.prod(grid)).to(device)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        self.masks = [PlainMasks(grid, **setting) for setting in MASK_SETTINGS]
        self.optimizer = torch.optim.AdamW(self._groups(), betas=(0.9, 0.999), eps=1e-8)

    def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        for module in (self.encoder, self.predictor):
            named = list(module.named_parameters())
            plain = [p for name, p in named if "bias" in name or p.ndim == 1]
            decayed = [p for name, p in named if not ("bias" in name or p.ndim == 1)]
            groups.append({"params": decayed, "weight_decay": self.settings.weight_decay})
            groups.append({"params": plain, "weight_decay": 0.0})
        for group in groups:
            group["lr"] = self.settings.learning_rate
        return groups

    def load(self, encoder: dict[str, Tensor], predictor: dict[str, Tensor]) -> None:
        """Take weights under published names."""
        self.encoder.load_state_dict(encoder)
        self.teacher.load_state_dict(encoder)
        self.predictor.load_state_dict(predictor)

    def loss(self, clips: Tensor, masks: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """L1 to the layer-normed tokens of the averaged encoder, mean over mask settings."""
        device_type = clips.device.type
        with torch.autocast(
            device_type, self.settings.dtype, enabled=self.settings.dtype != torch.float32
        ):
            with torch.no_grad():
                wanted = self.teacher(clips)
                wanted = F.layer_norm(wanted, (wanted.size(-1),))
            context = [self.encoder(clips, [ids]) for ids, _ in masks]
            predicted = [
                self.predictor(seen, ids_x, ids_y, mask_index=0)
                for seen, (ids_x, ids_y) in zip(context, masks, strict=True)
            ]
            total = torch.zeros((), device=clips.device)
            for output, (_, ids_y) in zip(predicted, masks, strict=True):
                total = total + torch.mean(torch.abs(output - take(wanted, ids_y)))
            return total / len(masks)

    def prepare(self, videos: Sequence[Tensor]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Pixels and masks of one step, on the device."""
        device = self.settings.device
        clips = augmented(videos, self.size).to(device)
        masks = [draw(len(videos)) for draw in self.masks]
        return clips, [(x.to(device), y.to(device)) for x, y in masks]

    def update(self, clips: Tensor, masks: Sequence[tuple[Tensor, Tensor]]) -> float:
        """Everything after the data: loss, gradients, optimizer, averaged encoder."""
        loss = self.loss(clips, masks)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for average, weight in zip(
                self.teacher.parameters(), self.encoder.parameters(), strict=True
            ):
                average.mul_(self.settings.momentum).add_(
                    (1.0 - self.settings.momentum) * weight.detach()
                )
        return float(loss.detach())

    def __call__(self, videos: Sequence[Tensor]) -> float:
        """One whole step from decoded frames."""
        return self.update(*self.prepare(videos))
