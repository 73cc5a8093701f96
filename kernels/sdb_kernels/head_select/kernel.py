"""`head_select` in Triton: the LM head's GEMM with selection in its epilogue, then a combine.

The first kernel computes one tile of logits at a time, on chip, and keeps of it only what the
result needs: the best token, the largest logit and the sum of exponentials. The second combines
these partials over the vocabulary. Definition: `reference.py`; derivation: `README.md`.

Choice: one tile shape for every N, so that a row's result does not depend on how many rows came
with it. The option not taken, autotuning on N, may reorder the sums and flip near-ties. For the
same reason products and sums are rounded apart, as PyTorch rounds them.
"""

# Triton's language has no types to check: device functions are unannotated and constexpr arguments
# take plain values, and a launch takes compiler options.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, call-arg"

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from sdb_kernels.dot import dot_tile
from sdb_kernels.fp8 import Fp8Weight, unpack
from sdb_kernels.head_select.reference import FMIX_1, FMIX_2, GOLDEN

TILE_N = 32  # rows: one diffusion block
TILE_V = 128  # vocabulary ids, the width of one partial
TILE_D = 64  # hidden features per step of the inner loop

_GOLDEN, _FMIX_1, _FMIX_2 = tl.constexpr(GOLDEN), tl.constexpr(FMIX_1), tl.constexpr(FMIX_2)


def head_select(
    hidden: Tensor,
    weight: Tensor | Fp8Weight,
    *,
    forbidden_id: int | None,
    temperature: float,
    seeds: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Launch the two kernels; arguments are those of the operator, already checked.

    Args:
        hidden: [N, D] float32 or bfloat16.
        weight: [V, D], same dtype or in 8 bits.
        forbidden_id: Id without probability, or None.
        temperature: 0 or positive.
        seeds: [N] int64 when temperature > 0.

    Returns:
        Token ids [N] int64 and confidences [N] float32.
    """
    num_rows, num_features = hidden.shape
    matrix, scale = unpack(weight)
    vocabulary_size = len(matrix)
    num_tiles = triton.cdiv(vocabulary_size, TILE_V)
    is_sampled = temperature > 0.0

    token_ids = torch.empty(num_rows, dtype=torch.int64, device=hidden.device)
    confidence = torch.empty(num_rows, dtype=torch.float32, device=hidden.device)
    if num_rows == 0:
        return token_ids, confidence

    best_id = torch.empty(num_rows, num_tiles, dtype=torch.int32, device=hidden.device)
    # Planes: best score, its logit, largest logit, sum of exponentials. The first three are one
    # and the same at temperature 0, where only planes 2 and 3 are written and read.
    partials = torch.empty(4, num_rows, num_tiles, dtype=torch.float32, device=hidden.device)

    # Row tiles vary fastest: programs that share a tile of weights run side by side and find it
    # in the cache.
    head_select_tile_kernel[(triton.cdiv(num_rows, TILE_N), num_tiles)](
        hidden,
        matrix,
        scale,
        None if seeds is None else seeds.contiguous(),
        best_id,
        partials,
        num_rows,
        vocabulary_size,
        num_features,
        num_tiles,
        hidden.stride(0),
        hidden.stride(1),
        matrix.stride(0),
        matrix.stride(1),
        -1 if forbidden_id is None else forbidden_id,
        1.0 / temperature if is_sampled else 1.0,
        HAS_SCALE=scale is not None,
        IS_SAMPLED=is_sampled,
        # The interpreter multiplies bfloat16 operands as if their bits were integers.
        IS_WIDENED=isinstance(head_select_tile_kernel, InterpretedFunction),
        TILE_N=TILE_N,
        TILE_V=TILE_V,
        TILE_D=TILE_D,
        enable_fp_fusion=False,
    )
    head_select_combine_kernel[(num_rows,)](
        best_id,
        partials,
        token_ids,
        confidence,
        num_rows,
        vocabulary_size,
        num_tiles,
        IS_SAMPLED=is_sampled,
        TILE_P=triton.next_power_of_2(num_tiles),
        enable_fp_fusion=False,
    )
    return token_ids, confidence


@triton.jit
def head_select_tile_kernel(
    hidden_ptr,  # [N, D]
    weight_ptr,  # [V, D]
    weight_scale_ptr,  # [V] float32, None unless HAS_SCALE
    seeds_ptr,  # [N] int64, None unless IS_SAMPLED
    best_id_ptr,  # [N, P] int32, P tiles of the vocabulary
    partials_ptr,  # [4, N, P] float32
    num_rows,
    vocabulary_size,
    num_features,
    num_tiles,
    hidden_stride_n,
    hidden_stride_d,
    weight_stride_v,
    weight_stride_d,
    forbidden_id,  # -1 forbids none
    inverse_temperature,
    HAS_SCALE: tl.constexpr,
    IS_SAMPLED: tl.constexpr,
    IS_WIDENED: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_V: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Reduce one [TILE_N, TILE_V] tile of logits to one partial per row."""
    tile = tl.program_id(1)
    rows = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    ids = tile * TILE_V + tl.arange(0, TILE_V)
    is_row, is_id = rows < num_rows, ids < vocabulary_size
    logits = dot_tile(
        hidden_ptr,
        weight_ptr,
        weight_scale_ptr,
        rows,
        is_row,
        ids,
        is_id,
        num_features,
        hidden_stride_n,
        hidden_stride_d,
        weight_stride_v,
        weight_stride_d,
        HAS_SCALE,
        IS_WIDENED,
        TILE_N,
        TILE_V,
        TILE_D,
    )
    is_allowed = is_id & (ids != forbidden_id)
    logits = tl.where(is_allowed[None, :], logits, float("-inf"))

    max_logit = tl.max(logits, axis=1)  # [TILE_N]
    # A tile without an allowed id has max -inf, and -inf - -inf would be NaN.
    shift = tl.where(max_logit == float("-inf"), 0.0, max_logit)
    sum_exp = tl.sum(tl.exp(logits - shift[:, None]), axis=1)

    partial = rows.to(tl.int64) * num_tiles + tile
    plane = tl.cast(num_rows, tl.int64) * num_tiles
    if IS_SAMPLED:
        seeds = tl.load(seeds_ptr + rows, mask=is_row, other=0)
        scores = logits * inverse_temperature - tl.log(_exponential_noise(seeds, ids))
        best_score = tl.max(scores, axis=1)
        best_id = _first_id(scores == best_score[:, None], ids[None, :], vocabulary_size)
        is_best = ids[None, :] == best_id[:, None]
        best_logit = tl.sum(tl.where(is_best, logits, 0.0), axis=1)
        tl.store(partials_ptr + partial, best_score, mask=is_row)
        tl.store(partials_ptr + plane + partial, best_logit, mask=is_row)
    else:
        best_id = _first_id(logits == max_logit[:, None], ids[None, :], vocabulary_size)
    tl.store(best_id_ptr + partial, best_id, mask=is_row)
    tl.store(partials_ptr + 2 * plane + partial, max_logit, mask=is_row)
    tl.store(partials_ptr + 3 * plane + partial, sum_exp, mask=is_row)


@triton.jit
def head_select_combine_kernel(
    best_id_ptr,  # [N, P] int32
    partials_ptr,  # [4, N, P] float32
    token_ids_ptr,  # [N] int64
    confidence_ptr,  # [N] float32
    num_rows,
    vocabulary_size,
    num_tiles,
    IS_SAMPLED: tl.constexpr,
    TILE_P: tl.constexpr,
):
    """Combine one row's partials over the vocabulary, in a fixed order."""
    row = tl.program_id(0)
    tiles = tl.arange(0, TILE_P)
    is_tile = tiles < num_tiles
    partial = row.to(tl.int64) * num_tiles + tiles
    plane = tl.cast(num_rows, tl.int64) * num_tiles

    best_id = tl.load(best_id_ptr + partial, mask=is_tile, other=0)
    tile_max = tl.load(partials_ptr + 2 * plane + partial, mask=is_tile, other=float("-inf"))
    tile_sum = tl.load(partials_ptr + 3 * plane + partial, mask=is_tile, other=0.0)
    max_logit = tl.max(tile_max, axis=0)
    sum_exp = tl.sum(tile_sum * tl.exp(tile_max - max_logit), axis=0)

    if IS_SAMPLED:
        score = tl.load(partials_ptr + partial, mask=is_tile, other=float("-inf"))
        logit = tl.load(partials_ptr + plane + partial, mask=is_tile, other=0.0)
        is_winner = is_tile & (score == tl.max(score, axis=0))
        token_id = _first_id(is_winner[None, :], best_id[None, :], vocabulary_size)  # [1]
        is_chosen = is_winner & (best_id == tl.sum(token_id, axis=0))
        chosen_logit = tl.sum(tl.where(is_chosen, logit, 0.0), axis=0)
    else:
        is_winner = is_tile & (tile_max == max_logit)
        token_id = _first_id(is_winner[None, :], best_id[None, :], vocabulary_size)  # [1]
        chosen_logit = max_logit
    tl.store(token_ids_ptr + row, tl.sum(token_id, axis=0).to(tl.int64))
    tl.store(confidence_ptr + row, tl.exp(chosen_logit - max_logit) / sum_exp)


@triton.jit
def _first_id(is_best, ids, vocabulary_size):
    """Return the smallest id that is best, per row; a valid id even where NaN left none."""
    first = tl.min(tl.where(is_best, ids, vocabulary_size), axis=1)
    return tl.minimum(first, vocabulary_size - 1)


@triton.jit
def _exponential_noise(seeds, ids):
    """Draw Exp(1) for (row seed, token id), bit for bit the hash of the reference."""
    low, high = seeds.to(tl.uint32), (seeds >> 32).to(tl.uint32)
    key_0 = _fmix32(low + _GOLDEN, 0)
    key_1 = _fmix32(high ^ key_0, 0)
    weyl = ids.to(tl.uint32) * _GOLDEN
    bits = _fmix32(weyl[None, :] + key_0[:, None], key_1[:, None]) >> 1  # [TILE_N, TILE_V]
    v = tl.minimum((bits.to(tl.float32) + 0.5) * 2.0**-31, 1.0 - 2.0**-24)
    return tl.where(v < 2.0**-10, v + 0.5 * v * v, -tl.log(1.0 - v))


@triton.jit
def _fmix32(h, key):
    """Finalize as MurmurHash3 does, with a key mixed in half way; uint32 arithmetic wraps."""
    h = ((h ^ (h >> 16)) * _FMIX_1) ^ key
    h = (h ^ (h >> 13)) * _FMIX_2
    return h ^ (h >> 16)
