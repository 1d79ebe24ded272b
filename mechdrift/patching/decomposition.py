"""Does an effect pass through the patched activations, or through the thinking that was written before them?

A reasoning model reads its own thinking before it answers, and a patch at the answer's position does not change that
thinking. So each cell is measured four times, {recipient's, donor's} thinking x {unpatched, patched}, by one readout R:

    activations   R(own thinking, patched)   - R(own thinking, unpatched)
    thinking      R(donor's, unpatched)      - R(own, unpatched)             the same for all cells
    both          R(donor's, patched)        - R(own, unpatched)
    interaction   both - activations - thinking                              the rest, which neither does alone

The thinking of a donor that does not think (an instruct model, as it is normally used) is an empty block. Both models
read the same tokens in each of the four measurements; only cells of roles that exist in both renderings can be
compared.

The design is a mediation analysis with one mediator (Pearl 2001; in language models Vig et al. 2020,
https://arxiv.org/abs/2004.12265). For chains of thought, arXiv 2605.26772 compares steering with the chain held fixed
and with the chain written again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechdrift.activations.prompts import Answers
from mechdrift.activations.readouts import Readout
from mechdrift.pairs.pair import Pair
from mechdrift.patching.grid import patch
from mechdrift.patching.plan import DEFAULT_ROLES
from mechdrift.records import PatchGrid, ProbeSet, Side
from mechdrift.statistics import resampling as statistics
from mechdrift.statistics.intervals import UNBOUNDED, ends, family_weights

PARTS = ("activations", "thinking", "both", "interaction")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """The same cells patched after the recipient's own thinking (`own`) and after the donor's (`donor`); effects in
    log-odds."""

    own: PatchGrid
    donor: PatchGrid

    @property
    def activations(self) -> Float[np.ndarray, "prompt layer role"]:
        return self.own.effect

    @property
    def thinking(self) -> Float[np.ndarray, " prompt"]:
        return self.donor.recipient_readout - self.own.recipient_readout

    @property
    def both(self) -> Float[np.ndarray, "prompt layer role"]:
        return self.donor.effect + self.thinking[:, None, None]

    @property
    def interaction(self) -> Float[np.ndarray, "prompt layer role"]:
        return self.both - self.activations - self.thinking[:, None, None]

    @property
    def frame(self) -> pd.DataFrame:
        """A row per cell and part: `layer, role, part, effect, low, high`, with 95 % intervals over families."""
        shape, families = self.own.effect.shape, self.own.families
        parts = {
            "activations": self.activations,
            "thinking": np.broadcast_to(self.thinking[:, None, None], shape),
            "both": self.both,
            "interaction": self.interaction,
        }
        means = {name: statistics.family_means(values, families) for name, values in parts.items()}
        count = len(means["both"])
        weights = family_weights(count, statistics.DRAWS, 0) / count
        rows = []
        for name, values in means.items():
            drawn = np.tensordot(weights, values, axes=1)
            low, high = ends(values.mean(axis=0), drawn, count, UNBOUNDED)
            for layer, role in np.ndindex(shape[1:]):
                rows.append(
                    {
                        "layer": self.own.layers[layer],
                        "role": self.own.roles[role],
                        "part": name,
                        "effect": values[:, layer, role].mean(),
                        "low": low[layer, role],
                        "high": high[layer, role],
                    }
                )
        return pd.DataFrame(rows).assign(
            dimension=self.own.dimension, donor=self.own.donor, recipient=self.own.recipient, n=shape[0], families=count
        )


def decompose(
    pair: Pair,
    probes: ProbeSet,
    *,
    answers: Answers,
    donor: Side = "instruct",
    recipient: Side = "reasoning",
    site: str = "resid_pre",
    roles: str | Sequence[str] | None = None,
    layers: int | Sequence[int] | None = None,
    readout: Readout | None = None,
    engine: str = "auto",
) -> Decomposition:
    """Does an effect pass through the activations, or through the thinking that was written before them?

    Every cell is patched twice: after the recipient's own thinking, and after the donor's. Four effects follow (in
    log-odds): of the activations alone (direct), of the thinking alone (indirect), of both, and their interaction.

    Args:
        pair: the two models.
        probes: what is asked.
        answers: both models' completions, by side: `{"instruct": ..., "reasoning": ...}`. They hold the thinking.
        donor: the side whose activations and thinking are taken.
        recipient: the side that is patched.
        site: as in `patch`.
        roles: as in `patch`; by default those of the prompt and of the think markers, because the tokens of the
            thinking itself differ between the two.
        layers: as in `patch`.
        readout: as in `patch`.
        engine: as in `patch`.

    Returns:
        A `Decomposition`: `.activations`, `.both`, `.interaction` `[prompt, layer, role]` and `.thinking`
        `[prompt]`, in log-odds. `.frame` has a row per cell and part: `layer, role, part, effect, low, high` (95 %
        over families).

    Raises:
        MechdriftError: as `patch` does, and when `answers` lack a side.

    Source:
        Mediation analysis: Pearl 2001; Vig et al. 2020, https://arxiv.org/abs/2004.12265.

    Example:
        >>> parts = md.decompose(pair, probes.where("trigger"), answers=answers, roles=("template_tail[-1]",))
        >>> parts.both.shape  # prompt, layer, role
        (8, 4, 1)
        >>> table = parts.frame[["layer", "part", "effect", "low", "high"]]
    """
    roles = roles or [role for role in DEFAULT_ROLES if not role.startswith("think[")]
    grids = [
        patch(
            pair,
            probes,
            donor=donor,
            recipient=recipient,
            site=site,
            roles=roles,
            layers=layers,
            think=think,
            answers=answers,
            readout=readout,
            engine=engine,
        )
        for think in ("own", "donor")
    ]
    return Decomposition(own=grids[0], donor=grids[1])
