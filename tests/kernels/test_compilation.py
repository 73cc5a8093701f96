"""Every kernel is compiled for sm_90 as it is launched, in a process without the interpreter.

The launchers are called directly, on CPU tensors: nothing runs, and no GPU is needed.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SHARED_BYTES_OF_AN_H100 = 227 * 1024

LAUNCHES = {
    "head_select": """
from sdb_kernels.head_select.kernel import head_select
wide = torch.zeros(515, 64)
for dtype, weight in ((torch.bfloat16, wide.bfloat16()), (torch.float32, wide)):
    for num_rows, seeds in ((1, None), (33, torch.zeros(33, dtype=torch.int64))):
        head_select(torch.zeros(num_rows, 64, dtype=dtype), weight,
            forbidden_id=3, temperature=0.0 if seeds is None else 0.7, seeds=seeds)
head_select(torch.zeros(33, 64, dtype=torch.bfloat16), quantise(wide), forbidden_id=3,
    temperature=0.0, seeds=None)
""",
    "commit_tokens": """
from sdb_kernels.commit_tokens.kernel import commit_tokens
for size in (1, 32, 256):
    block = torch.zeros(2, size, dtype=torch.int64)
    for end_id, is_infill, steps_left in (
        (None, None, None),
        (7, torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int32)),
    ):
        commit_tokens(block, block, block.float(), mask_id=9, threshold=0.9,
            is_prefix=end_id is None, end_id=end_id, is_infill=is_infill, steps_left=steps_left)
""",
    "norm_gate_up_silu": """
from sdb_kernels.norm_gate_up_silu.kernel import norm_gate_up_silu
wide = torch.zeros(200, 64)
for dtype, weight in ((torch.bfloat16, wide.bfloat16()), (torch.float32, wide),
                      (torch.bfloat16, quantise(wide))):
    norm_gate_up_silu(torch.zeros(33, 64, dtype=dtype), torch.zeros(64, dtype=dtype), weight, 1e-5)
""",
    "linear_add": """
from sdb_kernels.linear_add.kernel import linear_add
wide = torch.zeros(200, 64)
for dtype, weight in ((torch.bfloat16, wide.bfloat16()), (torch.float32, wide),
                      (torch.bfloat16, quantise(wide))):
    linear_add(torch.zeros(33, 200, dtype=dtype), torch.zeros(33, 64, dtype=dtype), weight, None)
""",
    "norm_qkv_rope_append": """
from sdb_kernels.norm_qkv_rope_append.kernel import norm_qkv_rope_append
for dtype, is_fp8, width, has_head_norm in (
    (torch.bfloat16, False, 128, False),
    (torch.bfloat16, False, 128, True),
    (torch.bfloat16, True, 64, False),
    (torch.float32, False, 64, False),
):
    columns = 8 * width
    cache = torch.zeros(1, 2, 99, width, dtype=dtype)
    angles = torch.zeros(1, 32, width // 2)
    weight = torch.zeros(columns, 64, dtype=dtype)
    norm = torch.zeros(width, dtype=dtype) if has_head_norm else None
    past = torch.zeros(1, dtype=torch.int32) if has_head_norm else 7
    norm_qkv_rope_append(torch.zeros(1, 32, 64, dtype=dtype), torch.zeros(64, dtype=dtype),
        quantise(weight) if is_fp8 else weight, angles, angles, cache, cache.clone(),
        num_past=past, eps=1e-5, bias=torch.zeros(columns, dtype=dtype), query_gain=norm,
        key_gain=norm)
""",
    "mask_ce": """
from sdb_kernels.mask_ce.kernel import mask_ce
for dtype in (torch.bfloat16, torch.float32):
    hidden = torch.zeros(33, 64, dtype=dtype, requires_grad=True)
    weight = torch.zeros(515, 64, dtype=dtype, requires_grad=True)
    targets = torch.zeros(33, dtype=torch.int64)
    mask_ce(hidden, weight, targets, torch.zeros(33), 3).backward()
""",
    "block_attention": """
from sdb_kernels.block_attention.kernel import block_attention
lengths = torch.zeros(1, dtype=torch.int32)
for dtype, num_heads, num_groups, width, num_keys, lengths_of_rows, block_size in (
    (torch.bfloat16, 32, 8, 128, 4096, None, None),  # 8b
    (torch.bfloat16, 14, 2, 64, lengths, lengths, 4),  # 0.5b
    (torch.float32, 4, 2, 64, 200, None, 1),
):
    queries = torch.zeros(1, num_heads, 32, width, dtype=dtype)
    keys = torch.zeros(1, num_groups, 4096, width, dtype=dtype)
    block_attention(queries, keys, keys, num_keys, lengths_of_rows, lengths_of_rows, block_size,
        0.1)
""",
}

SCRIPT = """
import torch
from sdb_kernels.fp8 import quantise
from sdb_kernels.testing import compiling_for_sm_90
with compiling_for_sm_90() as launches:
{body}
for launch in launches:
    print(launch.name, launch.shared_bytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("operator", LAUNCHES)
def test_kernels_compile_for_a_gpu(operator: str, tmp_path: Path) -> None:
    body = "".join(f"    {line}\n" for line in LAUNCHES[operator].splitlines())
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body)],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    launches = [line.split() for line in process.stdout.splitlines()]
    assert len(launches) >= 2
    for name, shared_bytes in launches:
        assert name.startswith(operator)
        assert int(shared_bytes) <= SHARED_BYTES_OF_AN_H100, name
