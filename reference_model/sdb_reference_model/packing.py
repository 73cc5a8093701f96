"""Sequence packing: several examples side by side in one row, each of which sees only itself.

Place in the flow: `states.py` lays out a batch, one example a row; with `packing = true` it moves
what is needed into fewer, wider rows before the forward, and the hidden states back behind it.
Noise, losses and positions (each example's begin at 0) are made before, so that packing changes
nothing but the amount of padding and the order of sums.

What this does not do: change what a batch is. `data.py` draws the same examples, by length.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdb_reference_model.attention import Layout

MAX_WIDENING = 2
"""Rows get at most about this many times as wide as the longest example: dense attention's cost
grows with their width."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the needed positions of B rows of L go among R rows of W."""

    is_needed: Tensor
    """bool [B, L]."""
    slots: Tensor
    """int64 [N], place of each of the N needed positions in the rows of W end to end."""
    num_rows: int
    width: int

    def pack(self, x: Tensor, fill: int) -> Tensor:
        """Move numbers [B or 1, L] to [R, W], `fill` where there is padding."""
        packed = x.new_full((self.num_rows * self.width,), fill)
        packed[self.slots] = x.expand_as(self.is_needed)[self.is_needed]
        return packed.view(self.num_rows, self.width)

    def pack_layout(self, layout: Layout) -> Layout:
        """Number the documents by example, so that neighbours in a row do not see each other."""
        examples = torch.arange(len(self.is_needed))[:, None]
        return Layout(
            self.pack(examples, -1), self.pack(layout.block, 0), self.pack(layout.slab, -1)
        )

    def unpack(self, hidden: Tensor) -> Tensor:
        """Move hidden states [R, W, D] back to [B, L, D], zeros where there is padding."""
        is_needed = self.is_needed.to(hidden.device)
        unpacked = hidden.new_zeros(*is_needed.shape, hidden.shape[-1])
        unpacked[is_needed] = hidden.flatten(0, 1)[self.slots.to(hidden.device)]
        return unpacked


def plan_packing(is_needed: Tensor) -> Packing:
    """Find rows for the needed positions, bool [B, L], of B examples."""
    lengths = is_needed.sum(dim=1)
    row, start, num_rows, width = place(lengths.tolist())
    first = torch.tensor(row) * width + torch.tensor(start)
    slots = (first[:, None] + is_needed.cumsum(dim=1) - 1)[is_needed]
    return Packing(is_needed, slots, num_rows, width)


def place(lengths: Sequence[int]) -> tuple[list[int], list[int], int, int]:
    """Choose a row and a start in it for examples of these lengths; the same every time.

    Longest first, each into the emptiest row (Graham 1969), for some 16 to 32 numbers of rows that
    keep them within `MAX_WIDENING`; the least area is taken. Not taken: first fit into rows as wide
    as the longest example, where examples of nearly equal length get a row each.

    Returns:
        Row and start of each example, the number of rows and their width.
    """
    order = sorted(range(len(lengths)), key=lambda example: -lengths[example])
    longest, total = max(lengths), sum(lengths)
    most, fewest = total // longest, -(-total // (MAX_WIDENING * longest))
    best: tuple[list[int], list[int], int, int] | None = None
    for num_rows in range(most, fewest - 1, -max(1, (most - fewest) // 16)):
        filled = [(0, row) for row in range(num_rows)]
        rows, starts = [0] * len(lengths), [0] * len(lengths)
        for example in order:
            start, row = heapq.heappop(filled)
            rows[example], starts[example] = row, start
            heapq.heappush(filled, (start + lengths[example], row))
        width = max(filled)[0]
        if best is None or num_rows * width < best[2] * best[3]:
            best = rows, starts, num_rows, width
    assert best is not None
    return best
