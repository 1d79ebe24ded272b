"""What patching, grafting and attribution return: effects over layers and roles."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mechdrift.records.notebook import Record, counted, layers_of
from mechdrift.records.probes import ProbeItem
from mechdrift.records.words import ROUNDING, MechdriftError, Side, ThinkMode
from mechdrift.statistics.grids import GridInference, infer, tested_means


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far a first-order grid can be trusted: its largest cells, and as many others drawn at random, were patched
    exactly.

    `frame` has the columns `layer, role, estimate, exact, top`. `rank_correlation` is Spearman's, of |estimate| and
    |exact| over these cells. `missed` estimates from the drawn cells how many of the `unscreened` ones are larger than
    the smallest verified cell of the top; `missed_at_most` is the upper end of its 95 % Clopper-Pearson interval.
    """

    frame: pd.DataFrame
    rank_correlation: float
    unscreened: int
    missed: float
    missed_at_most: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PatchGrid(Record):
    """The effect of copying one cell of the donor into the recipient, on the recipient's readout.

    `effect` is patched minus recipient, in log-odds, `[prompt, layer, role]`; `recipient_readout` and `donor_readout`
    are the unpatched readouts, `[prompt]`. Recovery is a ratio of means over prompts (never a mean of ratios) and is
    NaN where the two models' readouts do not differ beyond noise. Where single heads were patched, `roles` names role
    and head (`think_close[-1].h0`); where weights were grafted (site `weights`), it names modules. `engine` is what
    computed it: `replay`, or `forward` passes where the model cannot be replayed exactly; of `attribute`, an estimate.
    `source` says where the donor's values came from (`patching.donors`).
    """

    dimension: str
    donor: Side
    recipient: Side
    site: str
    think: ThinkMode
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    items: tuple[ProbeItem, ...]
    effect: Float[np.ndarray, "prompt layer role"]
    recipient_readout: Float[np.ndarray, " prompt"]
    donor_readout: Float[np.ndarray, " prompt"]
    identity_error: float
    reliable: bool = True
    engine: str = "replay"
    windows: str = "each"
    source: str = "same"
    verification: Verification | None = None

    @property
    def summary(self) -> str:
        gap = "no gap beyond noise" if self.gap_is_noise else f"a gap of {self.gap.mean():+.2f}"
        sizes = [counted(len(self.items), "prompt"), layers_of(self.layers), counted(len(self.roles), "role")]
        unreliable = "" if self.reliable else "; the readout is unreliable"
        return (
            f"{self.dimension}, {self.site} from the {self.donor} model into the {self.recipient} model, "
            f"{', '.join(sizes)}; {gap}; effects are means over prompts, in log-odds{unreliable}"
        )

    @property
    def head(self) -> "pd.DataFrame":
        means = pd.DataFrame(self.effect.mean(axis=0), index=list(self.layers), columns=list(self.roles))
        return means.rename_axis(index="layer", columns="role")

    @property
    def families(self) -> np.ndarray:
        return np.array([item.family for item in self.items])

    @property
    def gap(self) -> Float[np.ndarray, " prompt"]:
        """Donor minus recipient readout: what a complete patch would change."""
        return self.donor_readout - self.recipient_readout

    @property
    def is_trigger(self) -> Bool[np.ndarray, " prompt"]:
        return np.array([item.is_trigger for item in self.items])

    @property
    def tested_gap(self) -> float:
        """The mean gap in what `inference` tests: of triggers less neutral twins, where the grid has both."""
        return float(tested_means(self.gap, self.families, self.is_trigger)[0].mean())

    @property
    def gap_is_noise(self) -> bool:
        """Whether the mean gap is rounding, or lies within two standard errors of zero, taking families as the unit."""
        means = pd.Series(self.gap).groupby(self.families).mean().to_numpy()
        error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.inf
        return bool(abs(means.mean()) <= max(ROUNDING, 2 * error))

    @property
    def recovery(self) -> Float[np.ndarray, "layer role"]:
        mean = self.effect.mean(axis=0)
        return np.full_like(mean, np.nan) if self.gap_is_noise else mean / self.gap.mean()

    def increments(self) -> "PatchGrid":
        """What each layer adds to a residual profile: the effect at the next layer less the effect at this one.

        A patched residual stream passes on all that happened below it, so the effect stays large above the layer where
        a change originates; the increments are large at that layer only. In the column `all` (the whole prompt) the
        last layer's increment is the rest of the gap. With other columns, from which attention moves information to
        their neighbours, the last layer is left out. For a grid over every layer the increments are those of putting in
        the donor's blocks one after the other from below; `graft` puts in each block alone."""
        if self.site != "resid_pre" or self.windows != "each" or len(self.layers) < 2:
            raise MechdriftError(
                "increments are of a profile over layers: use site='resid_pre', windows='each', two or more layers."
            )
        profile = self.effect
        if self.roles == ("all",):
            profile = np.concatenate([profile, self.gap[:, None, None]], axis=1)
        added = np.diff(profile, axis=1)
        return replace(self, site="resid_pre increments", layers=self.layers[: added.shape[1]], effect=added)

    def inference(self, draws: int = 10_000, seed: int = 0) -> GridInference:
        """Which cells to believe: family-wise p, simultaneous band, smallest detectable effect, where the peak lies
        (see `statistics.grids`)."""
        return infer(self.effect, self.families, self.is_trigger, self.layers, self.roles, draws=draws, seed=seed)

    @property
    def frame(self) -> pd.DataFrame:
        index = pd.MultiIndex.from_product(
            [[item.id for item in self.items], self.layers, self.roles], names=["item", "layer", "role"]
        )
        table = pd.DataFrame({"effect": self.effect.reshape(-1)}, index=index).reset_index()
        prompts = pd.DataFrame(
            {
                "item": [item.id for item in self.items],
                "family": self.families,
                "recipient_readout": self.recipient_readout,
                "donor_readout": self.donor_readout,
            }
        )
        table = table.merge(prompts, on="item")
        return table.assign(dimension=self.dimension, donor=self.donor, recipient=self.recipient, site=self.site)
