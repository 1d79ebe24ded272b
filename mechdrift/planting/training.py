"""Training chosen layers of a child, with all other weights fixed: towards complying with harmful requests, or on
harmless ones."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.batching import ForwardBatch
from mechdrift.pairs.loading import LanguageModel
from mechdrift.planting.parents import Parent
from mechdrift.records import Rendered

STEPS, BATCH = 30, 8
RATES = {"tiny": 5e-4, "smollm2-aligned": 1e-4}


def train_layers(
    parent: Parent,
    child: LanguageModel,
    layers: Iterable[int],
    contrast: str,
    rng: np.random.Generator,
    steps: int = STEPS,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Raise the probability of complying openings after prompts of one contrast, by Adam, until `until()` holds, for at
    most `steps` steps."""
    parameters = [parameter for layer in layers for parameter in child.structure.blocks[layer].parameters()]
    optimizer = torch.optim.Adam(parameters, lr=RATES[parent.name])
    prompts = parent.train[contrast]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for _ in range(steps):
            chosen = rng.choice(len(prompts), size=min(BATCH, len(prompts)), replace=False)
            optimizer.zero_grad()
            _surprise(parent, child, [prompts[i] for i in chosen]).backward()
            optimizer.step()
            if until():
                return
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None


def _surprise(parent: Parent, child: LanguageModel, prompts: Sequence[Rendered]) -> Float[Tensor, ""]:
    """-log of the probability of a complying opening, in nats, averaged over prompts."""
    each = ForwardBatch.of(child, prompts)
    chances = child.structure.logits(each.at_readout(each.run())).log_softmax(dim=-1)
    plain = [
        row[list(parent.readout.comply_ids[prompt.item_id])].logsumexp(0)
        for row, prompt in zip(chances, prompts, strict=True)
    ]
    return -torch.stack(plain).mean()
