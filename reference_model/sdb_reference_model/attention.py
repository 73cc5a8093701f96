"""Who may attend to whom in training, and the two implementations of attention under it.

A `Layout` gives every position three numbers, and one rule over them is every mask of training:

    same document, and (an earlier block of the past, or the own block in the own slab)

The slab mask of BD3-LM has the prompt as block 0; under full attention all is one block; causal is
a block per position. Padding is a document of its own, so it sees something (softmax over nothing
is NaN) and nobody looks at it.

Place in the flow: `states.py` lays out a batch and asks for the mask in the form that the model's
`attention_kernel` needs; each layer calls `attend`.

`sdpa` is the definition: PyTorch's scaled dot-product attention under a dense bool mask. `flex` is
FlexAttention (Dong et al. 2024, arXiv 2412.05496): the rule itself is compiled into the kernel,
tiles of 128 x 128 in which nothing may be seen are skipped, and no [L, L] mask is ever in memory.

What this does not do: training by `flex` on a processor, for which torch 2.13 has no backward pass;
sampling or the later phases by `flex`. No GPU was at hand: `flex` has not been run on one, and its
speed is not known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

AttentionKernel = Literal["sdpa", "flex"]
KernelChoice = Literal["auto", "sdpa", "flex"]
Mask = Tensor | BlockMask

MIN_FLEX_HEAD_DIM = 16
"""Narrower heads are refused by FlexAttention's kernel for GPUs."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each position belongs; columns that are the same in all rows may have one row."""

    document: Tensor
    """int64 [B, L]: who sees each other at all; -1 is padding."""
    block: Tensor
    """int64 [B or 1, L]: rank of the position's block inside its document."""
    slab: Tensor
    """int64 [B or 1, L]: which state of a block this is; -1 in the past, which all may see."""

    def to(self, device: torch.device) -> "Layout":
        return Layout(self.document.to(device), self.block.to(device), self.slab.to(device))

    def build_mask(self, kernel: AttentionKernel) -> Mask:
        """The mask in the form that a kernel takes, on the layout's device."""
        return build_dense_mask(self) if kernel == "sdpa" else build_block_mask(self)


def may_see(
    query_document: Tensor,
    key_document: Tensor,
    query_block: Tensor,
    key_block: Tensor,
    query_slab: Tensor,
    key_slab: Tensor,
) -> Tensor:
    """The rule, for numbers of any shapes that broadcast."""
    is_earlier = (key_slab < 0) & (key_block < query_block)
    is_own = (key_block == query_block) & (key_slab == query_slab)
    return (key_document == query_document) & (is_earlier | is_own)


def build_dense_mask(layout: Layout) -> Tensor:
    """Bool [B, 1, L, L], True where the query (dim 2) may attend to the key (dim 3)."""
    columns = (layout.document, layout.block, layout.slab)
    pairs = [(x[:, None, :, None], x[:, None, None, :]) for x in columns]
    return may_see(*pairs[0], *pairs[1], *pairs[2])


def build_block_mask(layout: Layout) -> BlockMask:
    """The same as a `mask_mod`, with the list of tiles in which anything may be seen.

    Compiled on a GPU: run as it is, `create_block_mask` makes the dense mask on the way.
    """
    shape = layout.document.shape
    document, block, slab = layout.document, layout.block.expand(shape), layout.slab.expand(shape)

    def mask_mod(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return may_see(
            document[row, query],
            document[row, key],
            block[row, query],
            block[row, key],
            slab[row, query],
            slab[row, key],
        )

    create: Callable[..., BlockMask] = create_block_mask
    if document.is_cuda:
        create = compile_once(create_block_mask)
    return create(mask_mod, shape[0], None, shape[1], shape[1], device=document.device)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, is_causal: bool) -> Tensor:
    """Attention of q [B, H, L, E] over k, v [B, G, S, E], G a divisor of H: [B, H, L, E].

    A `BlockMask` goes to FlexAttention, everything else to SDPA; see `Transformer.forward`.
    """
    is_grouped = q.shape[1] != k.shape[1]
    if isinstance(mask, BlockMask):
        run: Callable[..., Tensor] = flex_attention
        if q.is_cuda and not torch.compiler.is_compiling():
            run = compile_once(flex_attention)
        # Autocast casts for SDPA, but leaves normalised queries and keys in float32 for this.
        q, k = q.to(v.dtype), k.to(v.dtype)
        return run(q, k, v, block_mask=mask, enable_gqa=is_grouped)
    if q.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
        # Processors get the gradients of SDPA sooner in float32 than in bfloat16.
        with torch.autocast("cpu", enabled=False):
            return attend(q.float(), k.float(), v.float(), mask, is_causal)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=is_grouped
    )


@cache
def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for all lengths at once, since every batch has another."""
    compiled: Callable[..., Any] = torch.compile(function, dynamic=True)
    return compiled


def choose_kernel(wanted: KernelChoice, device: torch.device, head_dim: int) -> AttentionKernel:
    """Which implementation trains: what was asked for, or `flex` on GPUs and `sdpa` elsewhere.

    Raises:
        ValueError: if `flex` is asked for where it cannot run.
    """
    if wanted != "flex":
        is_possible = device.type == "cuda" and head_dim >= MIN_FLEX_HEAD_DIM
        return "flex" if wanted == "auto" and is_possible else "sdpa"
    if device.type != "cuda":
        raise ValueError(
            "attention_kernel='flex' is for GPUs: on a processor FlexAttention has no backward "
            "pass in torch 2.13; use 'sdpa', or 'auto', which knows"
        )
    if head_dim < MIN_FLEX_HEAD_DIM:
        raise ValueError(
            f"attention_kernel='flex' needs heads of {MIN_FLEX_HEAD_DIM} channels or more, this "
            f"model's have {head_dim}; use 'sdpa' or 'auto'"
        )
    return "flex"
