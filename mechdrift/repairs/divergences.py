"""How far does a repair move the child on text that should not change? KL(child ‖ repaired) per token, in nats.

Both models read the child's own thinking and answers, to reasoning tasks and to harmless prompts, teacher-forced. An
edit acts on the tokens of its roles, as it does while the model writes. Words at the start of the thinking are put
before it, and the same tokens after them are compared; a repair whose words come later has no such row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mechdrift.behaviour.divergence import Kept, answer_positions, coarse_kl, keep, keep_first
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completion, Rendered
from mechdrift.repairs.prices import level_row
from mechdrift.repairs.using import InUse
from mechdrift.statistics.intervals import POSITIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One question and what the child wrote to it; families are resampled."""

    question: str
    row: Completion
    family: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergences:
    """The child's distributions on some texts, with which those of repaired models are compared."""

    pair: Pair
    name: str
    texts: tuple[Text, ...]
    kept: "list[list[Kept]]"

    @classmethod
    def of(cls, pair: Pair, name: str, texts: Sequence[Text], child: LanguageModel) -> "Divergences":
        renderer = Renderer(pair.tokenizer("reasoning"))
        prompts = [_scored(_rendered(renderer, pair, text)) for text in texts]
        kept = keep_first(child, prompts, _vocabulary(child), f"KL on {name}, child") if prompts else []
        return cls(pair=pair, name=name, texts=tuple(texts), kept=kept)

    @torch.inference_mode()
    def row(self, used: InUse, seed: int = 0) -> list[dict]:
        """The row of a repaired model; none where its words come after the beginning of the thinking."""
        if not self.texts or (not used.is_model and used.editing is None and not used.words):
            return []
        renderer = Renderer(self.pair.tokenizer("reasoning"))
        words = renderer.encode_answer(used.words) if used.words else ()
        prompts = [_rendered(renderer, self.pair, text, words) for text in self.texts]
        around = used.around({prompt.item_id: prompt for prompt in prompts})
        compare = partial(_compare, self.kept)
        scored = [_scored(prompt, len(words)) for prompt in prompts]
        found = answer_positions(
            used.loaded, scored, _vocabulary(used.loaded), compare, f"KL on {self.name}, repaired", around
        )
        values = np.array([float(torch.cat(parts).mean()) for parts in found])
        return [level_row(f"kl_{self.name}", values, np.array([text.family for text in self.texts]), POSITIVE, seed)]


def _compare(kept: "Sequence[Sequence[Kept]]", log_probabilities: Tensor, index: int, part: int) -> Tensor:
    ours = kept[index][part]
    return coarse_kl(ours, keep(log_probabilities, ours.ids))


def _rendered(renderer: Renderer, pair: Pair, text: Text, words: tuple[int, ...] = ()) -> Rendered:
    thinking = (*words, *text.row.thinking_ids)
    return renderer.render(
        text.row.item_id,
        text.question,
        "own" if pair.child_thinks else "none",
        thinking=thinking,
        answer=text.row.answer_ids,
    )


def _scored(prompt: Rendered, words: int = 0) -> Rendered:
    """The prompt with everything that the child wrote as its role `answer`, which `answer_positions` unembeds."""
    start = prompt.roles["think"][0] + words if "think" in prompt.roles else prompt.roles["answer"][0]
    roles: Mapping[str, tuple[int, int]] = {"answer": (start, len(prompt.ids))}
    return replace(prompt, roles=roles)


def _vocabulary(loaded: LanguageModel) -> int:
    return next(loaded.model.get_input_embeddings().parameters()).shape[0]
