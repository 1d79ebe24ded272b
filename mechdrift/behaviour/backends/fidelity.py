"""Does the engine that wrote say what the model that is read inside says? The fidelity line of a report.

The log-probability that the engine gave each token it chose, against Hugging Face's for the same token after the same
ids, in one forward pass without a cache:

    |log p_engine(t) - log p_HF(t)|,   mean and 99 % quantile over the tokens of some answers, in nats

Known sizes: 0.002 in float32, 0.03 in bfloat16; another model, another number format or a damaged kernel is far above.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mechdrift.activations.recording import input_device
from mechdrift.behaviour.backends.protocol import Request, Written
from mechdrift.pairs.loading import LanguageModel
from mechdrift.records import MechdriftError

ANOTHER_MODEL = 0.5  # nats in the mean: number formats differ by a tenth of it at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How far an engine's log-probabilities lie from Hugging Face's: absolute differences in nats over `n` tokens."""

    mean: float
    q99: float
    n: int

    @property
    def is_another_model(self) -> bool:
        return self.mean > ANOTHER_MODEL

    def __str__(self) -> str:
        return (
            f"log-probabilities within {self.mean:.4f} nats of Hugging Face's (99 %: {self.q99:.4f}; {self.n} tokens)"
        )


@torch.inference_mode()
def measure_fidelity(loaded: LanguageModel, written: Sequence[tuple[Request, Written]]) -> Fidelity:
    """Compare the log-probabilities that came with what was written."""
    differences = []
    for request, answer in written:
        ids = torch.tensor([[*request.prompt, *answer.ids]], device=input_device(loaded))
        logits = loaded.model(ids, use_cache=False, logits_to_keep=len(answer.ids) + 1).logits[0, :-1].float()
        own = logits.log_softmax(-1).gather(-1, ids[0, -len(answer.ids) :, None].to(logits.device))[:, 0]
        differences.append(np.abs(own.cpu().numpy() - np.array(answer.log_probabilities)))
    joined = np.concatenate(differences)
    joined = joined[~np.isnan(joined)]
    if not len(joined):
        raise MechdriftError("The engine gave no log-probabilities: use one that does.")
    return Fidelity(mean=float(joined.mean()), q99=float(np.quantile(joined, 0.99)), n=len(joined))
