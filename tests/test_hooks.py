"""Hooks read and replace exactly the tensor they name, change nothing in place, and never outlive their block."""

from threading import Thread

import pytest
import torch
from conftest import make_model
from torch import nn
from torch.testing import assert_close

from mechdrift.hooks import HookPoint, edit, record, record_calls, replace_attention


class Double(nn.Module):
    """2 x + shift, from a positional or a keyword argument, as a tensor or as the first of a tuple: all that blocks
    do."""

    def __init__(self, returns_tuple: bool = False):
        super().__init__()
        self.returns_tuple = returns_tuple

    def forward(self, hidden_states, shift=0.0):
        out = 2 * hidden_states + shift
        return (out, "weights") if self.returns_tuple else out


class Raises(nn.Module):
    def forward(self, hidden_states):
        raise RuntimeError("broken on purpose")


X = torch.arange(6.0).view(1, 2, 3)
CALLS = pytest.mark.parametrize("by_keyword", [False, True])
RETURNS = pytest.mark.parametrize("returns_tuple", [False, True])


def run(module: Double, by_keyword: bool) -> torch.Tensor:
    out = module(hidden_states=X, shift=1.0) if by_keyword else module(X, shift=1.0)
    if not module.returns_tuple:
        return out
    assert out[1] == "weights"  # what stands beside the tensor passes through every hook
    return out[0]


def hooks_of(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@CALLS
@RETURNS
def test_record_sees_input_and_output_and_changes_neither(by_keyword, returns_tuple):
    module = Double(returns_tuple)
    with record({"in": HookPoint(module, "input"), "out": HookPoint(module, "output")}) as seen:
        out = run(module, by_keyword)
    torch.testing.assert_close(out, 2 * X + 1, rtol=0, atol=0)
    assert torch.equal(seen["in"], X)
    assert torch.equal(seen["out"], out)


@CALLS
@RETURNS
def test_edits_act_where_they_are_put(by_keyword, returns_tuple):
    module = Double(returns_tuple)
    with edit({HookPoint(module, "input"): lambda x: x + 10}):
        assert torch.equal(run(module, by_keyword), 2 * (X + 10) + 1)
    with edit({HookPoint(module, "output"): lambda x: -x}):
        assert torch.equal(run(module, by_keyword), -(2 * X + 1))
    assert torch.equal(run(module, by_keyword), 2 * X + 1)


def test_edits_leave_recorded_values_and_inputs_as_they_were():
    module, given = Double(), X.clone()
    point = HookPoint(module, "output")
    with record({"before": point}) as before, edit({point: lambda x: x * 0}), record({"after": point}) as after:
        module(given)
    assert torch.equal(given, X)
    assert torch.equal(before["before"], 2 * X)
    assert torch.equal(after["after"], 0 * X)  # hooks run in the order in which they were made


def test_keep_runs_at_every_forward_pass_and_the_last_one_stays():
    module = Double()
    with record({0: HookPoint(module, "output")}, keep=lambda tensor: tensor.sum()) as seen:
        module(X)
        assert seen[0] == 2 * X.sum()
        module(X + 1)
    assert seen[0] == 2 * (X + 1).sum()


def test_calls_are_recorded_with_their_arguments():
    module = Double()
    with record_calls({7: module}) as calls:
        module(X, shift=3.0)
    ((hidden,), kwargs) = calls[7]
    assert hidden is X
    assert kwargs == {"shift": 3.0}


@pytest.mark.parametrize(
    "hook",
    [
        lambda point: record({0: point}),
        lambda point: edit({point: lambda x: x * 0}),
        lambda point: record_calls({0: point.module}),
    ],
    ids=["record", "edit", "record_calls"],
)
@pytest.mark.parametrize("end", ["input", "output"])
def test_hooks_are_removed_also_when_the_forward_pass_raises(hook, end):
    model = nn.Sequential(Double(), Raises())
    hooked = hook(HookPoint(model[0], end))
    with hooked, pytest.raises(RuntimeError, match="on purpose"):
        model(X)
    assert hooks_of(model) == 0
    with pytest.raises(RuntimeError, match="on purpose"), hook(HookPoint(model[0], end)):
        model(X)
    assert hooks_of(model) == 0
    assert torch.equal(model[0](X), 2 * X)


def test_hooks_are_removed_when_a_later_one_cannot_be_made():
    class Unhookable(Double):
        def register_forward_hook(self, *_, **__):
            raise RuntimeError("no hooks here")

    module = Double()
    with (
        pytest.raises(RuntimeError, match="no hooks"),
        record({i: HookPoint(m, "output") for i, m in enumerate((module, Unhookable()))}),
    ):
        pass
    assert hooks_of(module) == 0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_attention_is_replaced_inside_the_block_only_also_when_it_raises(attention):
    """Twice the attention's result is what twice the output projection gives."""
    model, doubled = (make_model(attn_implementation=attention) for _ in range(2))
    ids = torch.arange(40, 60)[None]
    for block in doubled.model.layers:
        block.self_attn.o_proj.weight.mul_(2)
    before, expected, seen = model(ids).logits, doubled(ids).logits, []

    def twice(own, module, query, key, value, mask, **kwargs):
        seen.append((module.layer_idx, query.shape[1], key.shape[1]))
        out, weights = own(module, query, key, value, mask, **kwargs)
        return 2 * out, weights

    def failing(*_, **__):
        raise ValueError("stop")

    with replace_attention(model, twice):
        assert_close(model(ids).logits, expected)
    assert seen[:4] == [(layer, 4, 2) for layer in range(4)]
    with pytest.raises(ValueError, match="stop"), replace_attention(model, failing):
        model(ids)
    assert torch.equal(model(ids).logits, before)


def test_what_another_thread_computes_is_neither_recorded_nor_changed():
    """Two pairs may be read at once: the registry of attention functions is one for all models."""
    model, other, ids = make_model(), make_model(seed=1), torch.tensor([[40, 41, 42]])
    expected = other(ids).logits.detach()
    point, computed = HookPoint(other.model.layers[1], "output"), []

    def nothing(own, module, query, key, value, mask, **arguments):
        raise AssertionError("called for another thread")

    with replace_attention(model, nothing), record({"out": point}) as seen:
        thread = Thread(target=lambda: computed.append(other(ids).logits.detach()))
        thread.start()
        thread.join()
    assert seen == {}
    assert_close(computed[0], expected, rtol=0, atol=0)
