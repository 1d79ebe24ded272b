"""Continuous batching writes what each prompt would get alone, whatever joins, leaves or is set aside beside it."""

import contextlib
import itertools
from collections import deque
from dataclasses import replace

import pytest
import torch
from conftest import COMMON, FAMILIES, make_tokenizer
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from mechdrift.activations.batching import check_padding, forward, pad
from mechdrift.behaviour.backends import hugging_face, kv_cache, kv_layers, kv_step
from mechdrift.behaviour.backends.hugging_face import HuggingFace
from mechdrift.behaviour.backends.kv_cache import CannotCut
from mechdrift.behaviour.backends.protocol import Request, Written
from mechdrift.behaviour.backends.whole_batch import takes_cache, write_whole
from mechdrift.pairs.loading import LanguageModel, ModelSource
from mechdrift.pairs.structure import Structure
from mechdrift.records import MechdriftError

MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
    "mamba_expand": 2,
}
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "head_dim": 8,
}
HYBRIDS = {
    "qwen3_5_text": DELTA_NET,
    "qwen3_next": DELTA_NET
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3, "block_multiple_of": 8},
    "granitemoehybrid": MAMBA
    | {
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 64,
        "layer_types": ["mamba", "attention"] * 2,
    },
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "num_experts": 2,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "falcon_h1": MAMBA | {"mamba_d_ssm": 64, "head_dim": 8},
    "bamba": MAMBA | {"attn_layer_indices": [1, 3]},
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "mamba", "attention"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 16,
        "head_dim": 8,
        "use_mamba_kernels": False,
    },
}
# What attention reads is not what the cache keeps (latents, repeated heads), a mask passed by its name, and a state in
# the model's own modules.
ODD = {
    "deepseek_v3": {
        **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
        **{"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        **{"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    },
    "jetmoe": {"num_hidden_layers": 2, "kv_channels": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "afmoe": {"num_hidden_layers": 2, "head_dim": 8, "num_experts": 4, "num_dense_layers": 2, "sliding_window": 8},
    "recurrent_gemma": {"num_hidden_layers": 3, "head_dim": 8, "attention_window_size": 8},
}
END = 0


def tiny(family: str, **changes) -> LanguageModel:
    """A random model, without a check of its structure: backends do not need one."""
    torch.manual_seed(0)
    own = FAMILIES.get(family, {}) | HYBRIDS.get(family, {}) | ODD.get(family, {})
    config = CONFIG_MAPPING[family](**(COMMON | {"vocab_size": 258, "eos_token_id": END} | own | changes))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    nothing = Structure(
        blocks=(), final_norm=torch.nn.Identity(), unembed=torch.nn.Identity(), components={}, n_heads=4, d_model=32
    )
    source = ModelSource(name=family, path=family)
    return LanguageModel(
        source=source, model=model, tokenizer=make_tokenizer(), structure=nothing, max_surface_error=0.0
    )


@torch.inference_mode()
def alone(model, request: Request) -> tuple[tuple[int, ...], list[float]]:
    """The oracle: no batch, no padding, no cache. Also the gap between the two likeliest tokens at each step."""
    ids, gaps = list(request.prompt), []
    while len(ids) - len(request.prompt) < request.max_tokens and (ids[-1] != END or len(ids) == len(request.prompt)):
        likely = model(torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1).topk(2)
        ids.append(int(likely.indices[0]))
        gaps.append(float(likely.values[0] - likely.values[1]))
    return tuple(ids[len(request.prompt) :]), gaps


def requests(lengths, max_tokens=12, **changes) -> list[Request]:
    random = torch.Generator().manual_seed(3)
    return [
        Request(
            key=number,
            prompt=tuple(torch.randint(2, 258, (length,), generator=random).tolist()),
            max_tokens=max_tokens if isinstance(max_tokens, int) else max_tokens[number],
            ends=frozenset({END}),
            **changes,
        )
        for number, length in enumerate(lengths)
    ]


def write(backend: HuggingFace, asked: list[Request]) -> dict[int, Written]:
    return {request.key: written for request, written in backend.write(deque(asked))}


def check(loaded: LanguageModel, asked: list[Request], found: dict[int, Written]) -> None:
    """The same ids, but where the model itself hardly prefers one of two; the same log-probabilities."""
    assert sorted(found) == [request.key for request in asked]
    for request in asked:
        written, (expected, gaps) = found[request.key], alone(loaded.model, request)
        parts = next((i for i, (a, b) in enumerate(zip(written.ids, expected, strict=False)) if a != b), None)
        assert parts is None or gaps[parts] < 1e-3
        if parts is None:
            assert written.ids == expected
            assert written.finish == ("end" if expected[-1] == END else "length")
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([[*request.prompt, *written.ids]]), use_cache=False).logits[0]
        start, ids = len(request.prompt) - 1, torch.tensor(written.ids)
        exact = logits[start : start + len(ids)].log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(written.log_probabilities), exact, atol=2e-3, rtol=0)


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS, *ODD])
def test_rows_come_and_go_and_each_gets_what_it_would_get_alone(family, monkeypatch):
    """Shelves of 8 make rows move often; windows are shorter than the rows; five rows pass through a batch of three."""
    monkeypatch.setattr(kv_step, "SMALLEST_SHELF", 8)
    loaded = tiny(family)
    asked = requests([3, 20, 7, 7, 12, 2, 31], max_tokens=[20, 6, 30, 12, 1, 25, 9])
    found = write(HuggingFace(loaded, rows=3), asked)
    check(loaded, asked, found)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "lfm2"])
def test_a_batch_kept_whole_writes_the_same(family):
    loaded = tiny(family)
    asked = requests([3, 20, 7, 7, 12], max_tokens=[20, 6, 30, 12, 1])
    found = {request.key: written for request, written in write_whole(loaded, deque(asked), 3)}
    check(loaded, asked, found)


def test_what_cannot_be_cut_is_kept_whole(monkeypatch):
    """Attention that does not go through transformers' interface is noticed at the first step, and nothing is lost."""
    loaded = tiny("llama")
    asked = requests([3, 20, 7])
    expected = write(HuggingFace(loaded), asked)
    monkeypatch.setattr(hugging_face, "replace_attention", lambda *_: contextlib.nullcontext())
    assert {key: row.ids for key, row in write(HuggingFace(loaded), asked).items()} == {
        key: row.ids for key, row in expected.items()
    }
    monkeypatch.undo()
    monkeypatch.setattr(hugging_face, "ShelvedCache", lambda *_: (_ for _ in ()).throw(CannotCut("odd")))
    assert sorted(write(HuggingFace(loaded), asked)) == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_new_places_on_a_shelf_are_zeros_of_their_own(dtype):
    """A masked position is still multiplied, so what stood in memory before must not be there."""
    for shape in ((3, 2, 128, 8), (0, 2, 128, 8)):
        made = [kv_layers.zeros(torch.ones(1, dtype=dtype), shape) for _ in range(3)]
        made[0].fill_(torch.inf)
        assert all(torch.equal(one, torch.zeros(shape, dtype=dtype)) for one in made[1:])
        assert all(one.is_contiguous() and one.data_ptr() % 64 == 0 for one in made)


def test_rows_that_do_not_fit_are_set_aside_and_go_on(monkeypatch):
    """Memory for two rows of 16 tokens: keys and values never take more, and every row is written to its end."""
    monkeypatch.setattr(kv_step, "SMALLEST_SHELF", 8)
    loaded, held = tiny("llama"), []
    per_token = 4 * 2 * 2 * 8 * 4  # layers, keys and values, heads, width, bytes
    memory = 32 * per_token
    advance = kv_cache.ShelvedCache.advance

    def note(cache):
        held.append((cache.bytes_held, len(cache.rows)))
        advance(cache)

    monkeypatch.setattr(kv_cache.ShelvedCache, "advance", note)
    asked = requests([3, 6, 7, 5], max_tokens=[9, 30, 9, 4])
    check(loaded, asked, write(HuggingFace(loaded, memory=memory), asked))
    assert max(size for size, rows in held if rows > 1) <= memory
    assert max(rows for _, rows in held) > 1


@pytest.mark.parametrize("family", ["llama", "jamba"])
@pytest.mark.parametrize("when", [3, 6], ids=["reading prompts", "writing"])
def test_out_of_memory_halves_the_batch_and_says_so(family, when, monkeypatch, capsys):
    loaded, calls = tiny(family), itertools.count()
    asked = requests([3, 20, 7, 12])
    take = hugging_face.RunningBatch._take

    def fail(batch, rows, logits):
        if next(calls) == when:
            raise torch.OutOfMemoryError("CUDA out of memory")
        take(batch, rows, logits)

    monkeypatch.setattr(hugging_face.RunningBatch, "_take", fail)
    check(loaded, asked, write(HuggingFace(loaded), asked))
    assert capsys.readouterr().err == "mechdrift: out of memory with 4 rows; going on with 2.\n"


def test_one_row_that_does_not_fit_is_one_sentence(monkeypatch):
    def fail(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:132] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(hugging_face.RunningBatch, "_take", fail)
    with pytest.raises(MechdriftError, match=r"does not hold one row of 20 tokens: lower the budgets"):
        write(HuggingFace(tiny("llama")), requests([20]))


def test_a_draw_depends_on_its_seed_and_on_nothing_beside_it():
    loaded = tiny("llama")
    asked = requests([3, 20, 7, 12], temperature=1.0, seed=5)
    together = write(HuggingFace(loaded), asked)
    for request in asked:
        assert write(HuggingFace(loaded), [request])[request.key].ids == together[request.key].ids
    other = write(HuggingFace(loaded), [replace(request, seed=6) for request in asked])
    assert [other[key].ids for key in range(4)] != [together[key].ids for key in range(4)]


def test_the_asker_may_go_on_asking():
    """What is put into the queue between two results is written in the same batch."""
    loaded, asked = tiny("llama"), requests([3, 20, 7], max_tokens=5)
    queue, found = deque(asked[:1]), {}
    for request, written in HuggingFace(loaded).write(queue):
        found[request.key] = written
        if request.key < 2:
            queue.append(asked[request.key + 1])
    check(loaded, asked, found)


@pytest.mark.parametrize("dropped", [0, 3], ids=["whole", "cut"])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "lfm2"])
def test_what_goes_on_from_a_request_reads_only_what_is_new(family, dropped, monkeypatch):
    """A second request behind each first one, with three ids between them, and its last ids dropped where a thought was
    cut: the same as with nothing kept. Only a state, and a window that has moved on, cannot go back: lfm2, gemma."""
    monkeypatch.setattr(kv_step, "SMALLEST_SHELF", 8)
    loaded, asked, read = tiny(family), requests([3, 20, 7, 12], max_tokens=[9, 12, 5, 7]), []
    prefill = hugging_face.RunningBatch._prefill

    def note(batch, group):
        read.extend(row.request.key for row in group)
        prefill(batch, group)

    monkeypatch.setattr(hugging_face.RunningBatch, "_prefill", note)
    queue, found, second = deque(asked), {}, {}
    for request, written in HuggingFace(loaded, rows=3).write(queue):
        found[request.key] = written
        if request.continues is None:
            prompt = (*request.prompt, *written.ids[: len(written.ids) - dropped], 7, 8, 9)
            second[request.key] = replace(request, key=request.key + 4, prompt=prompt, max_tokens=6, continues=request)
            queue.appendleft(second[request.key])
    check(loaded, [*asked, *(second[key] for key in sorted(second))], found)
    goes_back = {"llama": [], "gemma3_text": [5, 7], "lfm2": [4, 5, 6, 7]}
    assert sorted(set(read) - {0, 1, 2, 3}) == (goes_back[family] if dropped else [])


class Unembeddings(TorchDispatchMode):
    """Notes of every product with the weights of the vocabulary whether the other factor is contiguous."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary, self.contiguous = vocabulary, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.linear.default and args[1].shape[0] == self.vocabulary:
            self.contiguous.append(args[0].is_contiguous())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rows", [HuggingFace, write_whole], ids=["by rows", "whole"])
def test_the_unembedding_is_not_copied_for_every_row(rows):
    """torch multiplies what is not contiguous with frozen weights row by row, in bfloat16 each with its own copy."""
    loaded, asked = tiny("llama"), deque(requests([3, 20, 7], max_tokens=2))
    with Unembeddings(258) as seen:
        list(HuggingFace(loaded).write(asked) if rows is HuggingFace else write_whole(loaded, asked, 3))
    assert seen.contiguous
    assert all(seen.contiguous)


def test_a_model_that_takes_only_a_cache_of_its_own_writes_without_one():
    """MiniMax with lightning attention refuses every other cache; it also reads padding, so that its rows are alone."""
    kinds = ["linear_attention", "full_attention"] * 2
    loaded = tiny("minimax", layer_types=kinds, head_dim=8, num_local_experts=2, num_experts_per_tok=1)
    assert not takes_cache(loaded)
    asked = requests((5, 9, 3), 6)
    found = {request.key: written for request, written in HuggingFace(loaded).write(deque(asked))}
    for request in asked:
        assert found[request.key].ids == alone(loaded.model, request)[0]


def test_rounding_that_changes_experts_is_not_taken_for_read_padding():
    """On a GPU a batch of another shape rounds otherwise, and in bfloat16 a router then takes other experts: each block
    of this model rounds anew, in every pass."""
    sizes = {"num_local_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 32, "head_dim": 8}
    loaded = tiny("gpt_oss", **sizes)
    loaded.model.to(torch.bfloat16)
    for block in loaded.model.model.layers:
        block.register_forward_hook(lambda _, __, out: out * (1 + 2**-8 * torch.randn_like(out)))
    check_padding(loaded, pad([[5, 9, 77, 30], [8, 3]], 0, "left"))


def test_a_model_that_reads_padding_is_not_given_any():
    """RecurrentGemma's state goes through what stands before a prompt, masked or not."""
    loaded, plain = tiny("recurrent_gemma"), tiny("llama")
    for parameter in loaded.model.parameters():  # biases, too: without them a padding of zeros leaves no trace
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    ids = [[5, 9, 77, 30], [8, 3]]
    with pytest.raises(MechdriftError, match=r"reads the padding before a prompt.*give prompts of one length"):
        check_padding(loaded, pad(ids, 0, "left"))
    check_padding(loaded, pad([ids[0], ids[0]], 0, "left"))
    assert torch.allclose(forward(plain, pad(ids, 0, "left"))[1, 2:], forward(plain, pad(ids[1:], 0))[0], atol=1e-5)
    assert torch.allclose(forward(loaded, pad(ids, 0))[1, :2], forward(loaded, pad(ids[1:], 0))[0], atol=1e-5)
