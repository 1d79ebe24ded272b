"""The number formats in which a model computes: bfloat16 for writing text, float32 for everything measured inside.

Directions need float32. Some dimensions of a residual stream are much larger than the rest, and their rounding in
bfloat16, up to 0.2 %, is as large as the difference between two classes of prompts. In SmolLM2-135M, directions found
in bfloat16 have a median cosine of 0.99 (safety) and 0.9 (privacy; the lowest is 0.3) with those found in float32. The
next token rarely changes by such rounding; an angle does.

**Float32 twice as fast.** PyTorch leaves float32 products to MKL, which on processors that are not Intel's uses half of
their vector width. oneDNN uses all of it, and takes the products over once a lower precision is *allowed*, by
`torch.set_float32_matmul_precision("medium")`. On processors with bfloat16 matrix units it then really rounds; on
others it cannot, and computes in float32. `fast_float32` multiplies two matrices to find out which is the case, and
allows it only where no accuracy is lost.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

# oneDNN caches a prepared kernel for each shape of a product, by default 1,024 of them. A sweep has a new shape at
# every layer and uses few shapes twice: the cache takes 0.25 GB and saves a hundredth of the time. oneDNN reads this
# variable at its first product. A value that the user has set is kept.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

BLOCK = 4_000_000  # numbers: 32 MB in float64
FLOAT32_ERROR = 1e-5  # relative error of a product of 576 terms: float32 is below 5e-6, bfloat16 above 1e-3


def default_dtype_for_generation(device: str | None = None) -> str:
    """bfloat16 where the device (by default the fastest of this machine) computes in it natively, else float32."""
    if device in (None, "auto"):
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        return "bfloat16"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


def smallest_exact(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values in bfloat16, half of the bytes, where it holds them exactly (as for weights published in it); else
    the values as they are."""
    whole = values.detach()
    half = whole.bfloat16()
    is_exact = all(torch.equal(rounded.to(own.dtype), own) for rounded, own in blocks(half, whole))
    return half if is_exact else whole


def blocks(*tensors: Float[Tensor, "*shape"]) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one shape, some rows of all of them at a time: at most 4 million numbers of each, or one row.

    What is computed with them (in float64, say) then takes little memory beside an embedding of 152,000 rows, whose
    float64 copy alone would take as much as a quarter of a model.
    """
    parts = [tensor.reshape(1) if tensor.dim() == 0 else tensor for tensor in tensors]
    rows = max(1, BLOCK * len(parts[0]) // max(1, parts[0].numel()))
    for start in range(0, len(parts[0]), rows):
        yield tuple(part[start : start + rows] for part in parts)


def squared_norms(after: Tensor, before: Tensor) -> tuple[float, float]:
    """The squared norms of `after - before` and of `before`, summed in float64."""
    squared = norm = 0.0
    for new, old in blocks(after, before):
        squared += (new.double() - old.double()).square().sum().item()
        norm += old.double().square().sum().item()
    return squared, norm


@contextmanager
def fast_float32() -> Iterator[bool]:
    """Let the CPU multiply float32 matrices faster inside the block, where that changes no accuracy.

    Returns:
        A context manager that yields whether this machine allows it: oneDNN's product in "medium" precision is used
        only where it was measured to be as exact as the default.

    It raises nothing of its own.

    Source:
        `torch.set_float32_matmul_precision`; measured by `product_error`.

    Example:
        >>> with md.fast_float32() as faster:
        ...     acts = md.collect(pair, probes, roles=("template_tail[-1]",))
        >>> faster in (True, False)
        True
    """
    before = torch.get_float32_matmul_precision()
    allowed = _medium_is_exact()
    if allowed:
        torch.set_float32_matmul_precision("medium")
    try:
        yield allowed
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def _medium_is_exact() -> bool:
    """Whether "medium" keeps float32's accuracy on this machine. On a GPU it never does."""
    return not torch.cuda.is_available() and product_error("medium") < FLOAT32_ERROR


def product_error(precision: str) -> float:
    """Relative error of a float32 matrix product at one of PyTorch's precisions: root mean square error divided by the
    root mean square of the product."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((256, 576), (1536, 576)))
    exact = a.double() @ b.double().T
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        error = torch.nn.functional.linear(a, b) - exact
    finally:
        torch.set_float32_matmul_precision(before)
    return float(error.square().mean().sqrt() / exact.square().mean().sqrt())
