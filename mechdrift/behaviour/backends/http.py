"""A server that takes token ids and gives token ids back: vLLM's, or llama.cpp's.

    vLLM        POST /v1/completions   prompt = ids, return_token_ids, logprobs
    llama.cpp   POST /completion       prompt = ids, return_tokens, n_probs

The server's answer to GET /v1/models says which of the two it is. Every setting that changes what is drawn is sent, so
that a server's own defaults never matter. A server may stop later than wanted (a marker of several tokens is sent as
text), or earlier. So the reply is cut where the request ends, and the server is asked to continue a reply that is too
short.

Before the first request, the server's tokenizer is compared with the model's own on one sentence: ids of another
vocabulary would be read as other words. A server may list several models, such as a base model and its LoRA adapters:
then the one with this model's name is asked. After lost connections and the statuses 429 and 5xx, a request is tried
again. If that fails, the run ends with one sentence; finished answers are stored, and the same command resumes.
"""

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from mechdrift.behaviour.backends.protocol import Request, Written, finish_of
from mechdrift.behaviour.web import NoReply, check_address, fetch
from mechdrift.records import MechdriftError

Kind = Literal["vllm", "llama.cpp"]
AT_ONCE: dict[Kind, int] = {"vllm": 256, "llama.cpp": 16}
SAMPLE = "Why do 3 whales (in Europe) sing?\n\n</think> I can't say."
LONGEST_REPLY = 1 << 28  # bytes: log-probabilities of tens of thousands of tokens
ADVICE = "finished answers are stored, and the same command resumes from there"


class ServerDown(MechdriftError):
    """The server does not answer now."""


@dataclass(frozen=True)
class HTTP:
    """A backend behind `url`, such as http://127.0.0.1:8000.

    A request times out after `timeout` seconds plus `per_token` seconds for each token that it may write, because each
    of many requests that are written together is slow. `concurrency` is the number of requests under way: by default as
    many as vLLM batches on a GPU, and fewer for llama.cpp, which queues the others. `names` are those under which the
    server may list the model; they count only where it lists several.
    """

    url: str
    tokenizer: PreTrainedTokenizerBase
    timeout: float = 600.0
    retries: int = 3
    backoff: float = 2.0
    per_token: float = 0.5
    concurrency: int | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_address(self.url, "The engine", "http://localhost:8000")

    @property
    def name(self) -> str:
        return f"{self.kind} server"

    @cached_property
    def _served(self) -> dict[str, Any]:
        reply = self._call("/v1/models", None)
        try:
            listed = {str(entry.get("id", "unnamed")): entry for entry in reply["data"]}
        except (KeyError, AttributeError, TypeError) as error:
            raise self._odd("it lists no model at /v1/models") from error
        if not listed:
            raise self._odd("it lists no model at /v1/models")
        known = next((name for name in self.names if name in listed), None)
        if known is None and len(listed) > 1:
            raise MechdriftError(
                f"The server at {self.url} lists {', '.join(listed)}, and none of them is called "
                f"{' or '.join(self.names) or 'as this model'}: start it with --served-model-name."
            )
        return listed[known] if known else next(iter(listed.values()))

    @property
    def model(self) -> str:
        return str(self._served.get("id", "unnamed"))

    @property
    def kind(self) -> Kind:
        return "llama.cpp" if self._served.get("owned_by") == "llamacpp" else "vllm"

    def write(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        self.check_vocabulary()
        under_way: dict[Future[Written], Request] = {}
        at_once = self.concurrency or AT_ONCE[self.kind]
        with ThreadPoolExecutor(at_once) as pool:
            try:
                while queue or under_way:
                    while queue and len(under_way) < at_once:
                        request = queue.popleft()
                        under_way[pool.submit(self._write, request)] = request
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        yield under_way.pop(future), future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def check_vocabulary(self) -> None:
        """Raise where the server encodes one sentence in other ids than the model's own tokenizer."""
        ours = self.tokenizer.encode(SAMPLE, add_special_tokens=False)
        body = {"prompt": SAMPLE, "model": self.model} if self.kind == "vllm" else {"content": SAMPLE}
        reply = self._call("/tokenize", body | {"add_special_tokens": False, "add_special": False})
        theirs = reply.get("tokens") if isinstance(reply, dict) else None
        if theirs != ours:
            raise MechdriftError(
                f"The server at {self.url} serves {self.model} with another vocabulary than this model's tokenizer: "
                "start it with this model."
            )

    def _write(self, request: Request) -> Written:
        """Ask until the reply has reached the request's end."""
        ids: list[int] = []
        values: list[float] = []
        while True:
            rest = replace(request, prompt=(*request.prompt, *ids), max_tokens=request.max_tokens - len(ids))
            new_ids, new_values = self._vllm(rest) if self.kind == "vllm" else self._llama(rest)
            if not new_ids:
                raise self._odd("it ended an answer without an end token")
            for token, value in zip(new_ids, new_values, strict=True):
                ids.append(token)
                values.append(value)
                if finish := finish_of(request, ids):
                    return Written(ids=tuple(ids), log_probabilities=tuple(values), finish=finish)

    def _stop_texts(self, request: Request) -> list[str]:
        return [self.tokenizer.decode(list(request.stop))] if request.stop else []

    def _vllm(self, request: Request) -> tuple[list[int], list[float]]:
        body = {
            "model": self.model,
            "prompt": list(request.prompt),
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "ignore_eos": True,
            "stop_token_ids": sorted(request.ends),
            "stop": self._stop_texts(request),
            "logprobs": 0,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "add_special_tokens": False,
        }
        reply = self._call("/v1/completions", body, request.max_tokens)
        try:
            choice = reply["choices"][0]
            ids, values = choice["token_ids"], choice["logprobs"]["token_logprobs"]
        except (KeyError, IndexError, TypeError) as error:
            raise self._odd("it answered without token ids and log-probabilities") from error
        return self._checked(ids, values)

    def _llama(self, request: Request) -> tuple[list[int], list[float]]:
        body = {
            "prompt": list(request.prompt),
            "n_predict": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "samplers": ["temperature"],
            "repeat_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": self._stop_texts(request),
            "n_probs": 1,
            "return_tokens": True,
            "cache_prompt": True,
        }
        reply = self._call("/completion", body, request.max_tokens)
        try:
            ids, steps = reply["tokens"], reply["completion_probabilities"]
            return self._checked(ids, _values_of(ids, [(step["id"], step["logprob"]) for step in steps]))
        except (KeyError, TypeError) as error:
            raise self._odd("it answered without token ids and log-probabilities") from error

    def _checked(self, ids: Any, values: Any) -> tuple[list[int], list[float]]:
        if not isinstance(ids, list) or not isinstance(values, list):
            raise self._odd("it answered without token ids and log-probabilities")
        if len(ids) != len(values):
            raise self._odd("its token ids and log-probabilities differ in number")
        if not all(isinstance(i, int) for i in ids) or not all(isinstance(v, int | float) for v in values):
            raise self._odd("it answered with text instead of token ids")
        return ids, values

    def _odd(self, what: str) -> MechdriftError:
        return MechdriftError(
            f"The server at {self.url} is of no use here: {what}; start vLLM 0.10.2 or newer, or llama.cpp's server."
        )

    def _call(self, path: str, body: dict[str, Any] | None, tokens: int = 0) -> Any:
        """The JSON reply to a POST (or, without a body, a GET), for which the server may write `tokens` tokens."""
        patience = self.timeout + self.per_token * tokens
        address = self.url.rstrip("/").removesuffix("/v1") + path
        for attempt in range(self.retries + 1):
            try:
                return json.loads(fetch(address, body, timeout=patience, longest=LONGEST_REPLY))
            except NoReply as failure:
                reason = f"{failure}: {failure.detail}" if failure.detail else str(failure)
                if not failure.passing:
                    raise MechdriftError(f"The server at {self.url} refused a request to {path} ({reason}).") from None
            except (ValueError, RecursionError) as error:
                raise self._odd(f"its reply to {path} is not JSON") from error
            if attempt < self.retries:
                time.sleep(self.backoff * 2**attempt)
        raise ServerDown(f"The server at {self.url} does not answer ({reason}): start it again; {ADVICE}.")


def _values_of(ids: list[int], steps: list[tuple[int, float]]) -> list[float]:
    """A log-probability per id; NaN for tokens that end within a character, for which llama.cpp gives none."""
    values: list[float] = []
    rest = list(steps)
    for token in reversed(ids):
        found = bool(rest) and rest[-1][0] == token
        values.append(rest.pop()[1] if found else math.nan)
    return values[::-1]
