"""Space to depth and back: the patches that the encoder and the x² vector see (A.3, A.5)."""

from __future__ import annotations

from torch import Tensor

from drifting_spec import implements
from drifting_torch.arguments.tensors import check_tensor


@implements("A3-enc-in")
def patchify(images: Tensor, side: int) -> Tensor:
    """Cut images [B, C, H, W] into patches: [B, side²·C, H/side, W/side].

    Channels come in the order (row in the patch, column in the patch, channel). ``ValueError``
    for sides that are no multiples.
    """
    batch, channels, height, width = check_tensor("images", images, "B C H W").shape
    if side < 1 or height % side or width % side:
        raise ValueError(
            f"images have {height}×{width} pixels, expected multiples of the patch size {side}"
        )
    cells = images.reshape(batch, channels, height // side, side, width // side, side)
    cells = cells.permute(0, 3, 5, 1, 2, 4)
    return cells.reshape(batch, side * side * channels, height // side, width // side)


@implements("A3-dec-head")
def unpatchify(grid: Tensor, side: int) -> Tensor:
    """Put patches [B, side²·C, H, W] back: [B, C, side·H, side·W]; the inverse of ``patchify``.

    ``ValueError`` for channels that are no multiple of side².
    """
    batch, channels, height, width = check_tensor("grid", grid, "B C H W").shape
    if side < 1 or channels % (side * side):
        raise ValueError(
            f"grid has {channels} channels, expected a multiple of {side * side} for patches of "
            f"side {side}"
        )
    cells = grid.reshape(batch, side, side, channels // side**2, height, width)
    cells = cells.permute(0, 3, 4, 1, 5, 2)
    return cells.reshape(batch, channels // side**2, height * side, width * side)
