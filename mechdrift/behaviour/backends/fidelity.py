"""Does the engine that wrote the answers compute the same model as the one whose activations are read? The fidelity
line of a report.

The log-probability that the engine gave to each chosen token is compared with Hugging Face's for the same token after
the same ids, in one forward pass without a cache:

    |log p_engine(t) - log p_HF(t)|,   mean and 99 % quantile over the tokens of some answers, in nats

Typical means are 0.002 in float32 and 0.03 in bfloat16. Another model, another number format or a damaged kernel gives
far more.
"""

from collections.abc import Sequence

import numpy as np
import torch

from mechdrift.activations.batching import input_device
from mechdrift.behaviour.backends.protocol import Request, Written
from mechdrift.pairs.loading import LanguageModel
from mechdrift.records import Fidelity, MechdriftError
from mechdrift.records.progress import tell

ANOTHER_MODEL = 0.5  # mean difference in nats; number formats differ by a tenth of that at most
ANSWERS, TOKENS = 8, 256  # how many answers are compared, and at most how many tokens of each


def check_fidelity(loaded: LanguageModel, name: str, written: Sequence[tuple[Request, Written]]) -> Fidelity:
    """The fidelity of engine `name`; raises where it is so low that another model must have written the answers."""
    found = measure_fidelity(loaded, written)
    if found.mean > ANOTHER_MODEL:
        raise MechdriftError(
            f"The {name} does not serve {loaded.source.name}: its log-probabilities lie {found.mean:.2f} nats from "
            "this model's; start it with this model."
        )
    if found.is_doubtful:
        tell(f"the {name}'s log-probabilities lie {found}")
    return found


@torch.inference_mode()
def measure_fidelity(loaded: LanguageModel, written: Sequence[tuple[Request, Written]]) -> Fidelity:
    """The fidelity of an engine from its log-probabilities of what it wrote; NaN values are left out."""
    differences = []
    for request, answer in written:
        kept = answer.ids[:TOKENS]
        ids = torch.tensor([[*request.prompt, *kept]], device=input_device(loaded))
        logits = loaded.model(ids, use_cache=False, logits_to_keep=len(kept) + 1).logits[0, :-1].float()
        own = logits.log_softmax(-1).gather(-1, ids[0, -len(kept) :, None].to(logits.device))[:, 0]
        differences.append(np.abs(own.cpu().numpy() - np.array(answer.log_probabilities[: len(kept)])))
    joined = np.concatenate(differences)
    joined = joined[~np.isnan(joined)]
    if not len(joined):
        raise MechdriftError("The engine gave no log-probabilities: use one that does.")
    return Fidelity(mean=float(joined.mean()), q99=float(np.quantile(joined, 0.99)), n=len(joined))
