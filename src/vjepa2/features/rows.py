"""`ClipFeatures`: what a clip turned into, and which stretch of which video it describes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.shapes import TokenGrid


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipFeatures:
    """Features of one clip of one video.

    Attributes:
        source: path or URL of the video as it was given, in files of `embed_files` the absolute
            path; `<kind>` for what has none.
        embedding: float32 [D], the pooled vector: the mean over all N tokens of the encoder's
            last hidden state (after its final norm). Its length is not normalised; for cosine
            similarity divide by the norm.
        tokens: [N, D], all tokens in the encoder's element type, ordered time, row, column (see
            `vjepa2.shapes`); None unless asked for.
        grid: (t, h, w) of the tokens, N = t * h * w.
        pts_seconds: for each of the t steps, when its first frame appears, in seconds of the
            file's own clock; None for videos without one (arrays).
        t_start, t_end: the stretch of video described: from the first frame seen until the last
            one ends, in seconds; None without a clock.
        sees_until: until when the network has seen the video, in seconds. The encoder looks at
            all frames of a clip at once, so this is `t_end`: no row knows of anything later.
        model: name or folder of the model.
        stamp: size and time of change of the file when it was read; "" for what is no file.
    """

    source: str
    embedding: Float[Tensor, "D"]
    tokens: Float[Tensor, "N D"] | None
    grid: TokenGrid
    pts_seconds: tuple[float, ...] | None
    t_start: float | None
    t_end: float | None
    sees_until: float | None
    model: str
    stamp: str = ""

    def __repr__(self) -> str:
        span = "" if self.t_start is None else f", {self.t_start:.6g} to {self.t_end:.6g} s"
        tokens = "" if self.tokens is None else f", tokens {list(self.tokens.shape)}"
        return (
            f"ClipFeatures({self.source!r}{span}, grid {self.grid.t}x{self.grid.h}x{self.grid.w}, "
            f"embedding [{self.embedding.shape[0]}]{tokens})"
        )


Arrays: TypeAlias = tuple[Tensor, Tensor | None]
"""Embeddings [rows, D] and, if kept, tokens [rows, N, D]."""


def stacked(rows: Sequence[ClipFeatures]) -> Arrays:
    """The arrays of rows of one shape."""
    tokens = [row.tokens for row in rows if row.tokens is not None]
    embedding = torch.stack([row.embedding for row in rows])
    return embedding, torch.stack(tokens) if tokens else None
