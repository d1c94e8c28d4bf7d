"""The one legend of axis letters; they mean the same in every signature, suffix and docstring.

    B   batch                      T      frames (time, pixels)     C   channels
    H W pixels (height, width)     t h w  token grid                N   tokens = t*h*w
    K   kept tokens (context)      M      predicted tokens (target) D   width of a token
    G   attention heads            Dh     width of a head           A   action
    S   candidates                 L      horizon

Inside functions a suffix names the layout where it changes: `tokens_BND`, `ids_BK`.
`num_*` are counts, `*_ids` integer positions, `*_mask` booleans whose docstring says what True
means. Units stand in names: `pts_seconds`, `fps`, `size_bytes`.

Tokens are ordered time, row, column: `id = t_index * h * w + h_index * w + w_index`.
"""

from typing import NamedTuple


class TokenGrid(NamedTuple):
    """Size of the token grid of one clip: t time steps, h rows, w columns."""

    t: int
    h: int
    w: int

    @property
    def num_tokens(self) -> int:
        """N = t * h * w."""
        return self.t * self.h * self.w

    @property
    def tokens_per_step(self) -> int:
        """h * w, the tokens that share one time step."""
        return self.h * self.w
