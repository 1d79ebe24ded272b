"""Oracles: products in float64; PyTorch's own setting before and after."""

import pytest
import torch

from mechdrift.pairs import precision as arithmetic
from mechdrift.pairs.precision import fast_float32


def test_faster_products_are_those_of_float32():
    a, b = torch.randn(300, 576), torch.randn(200, 576)
    exact = a.double() @ b.double().T
    with fast_float32():
        error = (torch.nn.functional.linear(a, b) - exact).abs().max() / exact.abs().max()
    assert error < 1e-5


def test_rounding_is_refused_where_it_would_be_used(monkeypatch: pytest.MonkeyPatch):
    """As on a processor that multiplies in bfloat16 once it may."""
    linear = torch.nn.functional.linear

    def rounding(a, b):
        if torch.get_float32_matmul_precision() == "medium":
            return linear(a.bfloat16(), b.bfloat16()).float()
        return linear(a, b)

    monkeypatch.setattr(torch.nn.functional, "linear", rounding)
    arithmetic._medium_is_exact.cache_clear()
    try:
        assert (
            arithmetic.product_error("medium")
            > 100 * arithmetic.FLOAT32_ERROR
            > 100 * arithmetic.product_error("highest")
        )
        with fast_float32() as allowed:
            assert not allowed
            assert torch.get_float32_matmul_precision() != "medium"
    finally:
        arithmetic._medium_is_exact.cache_clear()


@pytest.mark.parametrize("before", ["highest", "high"])
def test_the_callers_setting_comes_back(before: str):
    kept = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(before)
        with pytest.raises(RuntimeError, match="inside"), fast_float32():
            raise RuntimeError("inside")
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(kept)
