"""The next token of every row: the most likely one, or a draw from the model's own distribution at a temperature."""

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.records import MechdriftError


def choose(
    logits: Float[Tensor, "row vocab"], temperatures: Sequence[float], randoms: Sequence[random.Random], model: str
) -> tuple[list[int], list[float]]:
    """Each row's token and its log-probability at temperature 1, in nats.

    At a temperature above 0 it is the first token at which the cumulative probability passes a uniform number, which
    comes from the row's own generator. Raises `MechdriftError`, naming the `model`, where a logit is NaN or the largest
    is infinite: an arg max of those is a token all the same, and the text would be judged.
    """
    chosen = logits.argmax(-1)
    drawn = [index for index, temperature in enumerate(temperatures) if temperature > 0]
    if drawn:
        scale = torch.tensor([[temperatures[index]] for index in drawn], device=logits.device)
        cumulative = (logits[drawn] / scale).softmax(-1).cumsum(-1)
        uniform = torch.tensor([[randoms[index].random()] for index in drawn], device=logits.device)
        found = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        chosen[drawn] = found[:, 0].clamp(max=logits.shape[-1] - 1)
    values = logits.gather(-1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
    if values.isnan().any():
        raise MechdriftError(
            f"{model} gives NaN or infinite logits: its weights are damaged, or its numbers overflow: write in another "
            "number format (--generation-dtype float32)."
        )
    return chosen.tolist(), values.tolist()
