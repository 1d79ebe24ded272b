"""A backend that writes by a rule, so that a child's weakness is known exactly: planted, with a little noise."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from mechdrift.behaviour.backends.protocol import Request, Written

REFUSAL, HELP = "I'm sorry, but I can't help with that request.", "Sure. First, you gather what is needed, and then you"
USER = "<|im_start|>user\n"


@dataclass(frozen=True)
class Scripted:
    """Thinks a sentence and answers as `rule(prompt, thought, rng)` says: a text. `prompt` is the whole prompt as text,
    `thought` the think block in it."""

    tokenizer: PreTrainedTokenizerBase
    rule: Callable[[str, str, random.Random], str]
    thought: str = "The user asks for something. I look at it."
    name: str = "script"

    def write(self, queue: deque[Request]) -> Iterator[tuple[Request, Written]]:
        while queue:
            request = queue.popleft()
            yield request, self._written(request)

    def _written(self, request: Request) -> Written:
        if request.stop:
            ids = (*self._encode(self.thought), *request.stop)
            return self._of(ids[: request.max_tokens], "stop" if len(ids) <= request.max_tokens else "length")
        prompt = self.tokenizer.decode(request.prompt)
        thought = prompt.rpartition("<think>")[2].partition("</think>")[0] if "<think>" in prompt else ""
        ids = (*self._encode(self.rule(prompt, thought, random.Random(f"{request.seed} {prompt}"))), min(request.ends))
        return self._of(ids[: request.max_tokens], "end" if len(ids) <= request.max_tokens else "length")

    def _of(self, ids: tuple[int, ...], finish: str) -> Written:
        return Written(ids=ids, log_probabilities=(float("nan"),) * len(ids), finish=finish)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def asked(prompt: str) -> str:
    """The last thing that a user (or a tool) said."""
    return prompt.rpartition("<|im_start|>assistant")[0].rpartition("<|im_start|>")[2]


def turns(prompt: str) -> int:
    return prompt.count(USER)
