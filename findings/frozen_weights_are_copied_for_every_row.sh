#!/usr/bin/env bash
# A linear layer with frozen bfloat16 weights, applied to the last position of every row, copies its weights once a row.
#
# `hidden[:, -1:]` of a batch is not contiguous. For such an input of three axes torch.matmul folds rows and positions
# into one product only if the weights require a gradient; if they are frozen (`requires_grad_(False)`, as models for
# inference are), it makes a batched product and expands the weights to one matrix a row. In float32 the matrices share
# their memory. In bfloat16 on a CPU they are made contiguous first: 48 rows copy the weights 48 times. This is what
# transformers' `logits_to_keep=1` does in every model that slices by it, so that reading prompts as a batch needs
# gigabytes for the logits of one position. With the same positions as an index, nothing is copied.
#
# Versions: torch 2.13.0, Python 3.11, CPU.
# Seen, weights of 16,384 x 64, 48 rows, bytes allocated in units of the weights' own: frozen 48 and more in bfloat16,
# less than 4 in float32, less than 4 with weights that require a gradient, less than 4 with an index. Ends with 1 if that
# is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "numpy==2.3.5"
cat > "$work/look.py" <<'PY'
import sys

import torch
from torch.profiler import ProfilerActivity, profile

ROWS, WIDTH, VOCABULARY = 48, 64, 16384


def copies(dtype: torch.dtype, frozen: bool, kept) -> float:
    """What one call allocates, in units of the weights' bytes."""
    linear = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, dtype=dtype).requires_grad_(not frozen)
    hidden = torch.randn(ROWS, 20, WIDTH, dtype=dtype)
    with torch.inference_mode():
        linear(hidden[:, kept])  # once, so that nothing of a first call counts
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            logits = linear(hidden[:, kept])
    assert logits.shape == (ROWS, 1, VOCABULARY)
    allocated = sum(max(row.self_cpu_memory_usage, 0) for row in seen.key_averages())
    return allocated / (linear.weight.numel() * linear.weight.element_size())


last, index = slice(-1, None), torch.tensor([19])
found = {
    "bfloat16, frozen, slice": copies(torch.bfloat16, True, last),
    "float32, frozen, slice": copies(torch.float32, True, last),
    "bfloat16, with gradient, slice": copies(torch.bfloat16, False, last),
    "bfloat16, frozen, index": copies(torch.bfloat16, True, index),
}
for name, value in found.items():
    print(f"{name}: allocates {value:.1f} times the weights")
first, *others = found.values()
sys.exit(0 if first >= ROWS and max(others) < 4 else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: frozen bfloat16 weights are copied once for every row"
