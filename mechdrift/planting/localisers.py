"""The localisers that are scored: every way of the toolkit, and of the field, to say in which layer a child lost what
its parent had.

A localiser gives each layer a score, and *calls* some of them. `restore` puts the parent's values into the child,
`break` the child's into the parent, with the opposite sign; `both ways` is the mean of the two.

    cosine drift               1 - cosine of the two models' refusal directions after the layer. Called: `p_no_drift` <=
                               .05
    class-mean shift           how much nearer the classes lie, along the parent's direction (-`did_along`). Called:
                               interval below 0
    class-mean shift, increments    what each layer adds to it. Called: as the shift is, where the increment is the
                                    larger part of it
    weight change              |W' - W| / |W| of the layer. Called: 3 robust standard deviations above the median, in
                               logarithms
    resid                      patching the stream after the layer at the readout position
    resid, increments          what each layer adds to that profile; `all positions`: the stream of the whole prompt is
                               patched
    attn_out, mlp_out          patching what the layer's attention or MLP writes, at the readout position
    attribution                the first-order estimate of `resid`, and its increments
    held attention, held MLP   the donor's module on the recipient's own input at all positions: a graft of that module
    graft                      the donor's weights of the whole layer

A patch or graft calls a layer whose effect on the triggers has a family-wise p <= .05 (`statistics.grids`: sign-flip
max-T over all layers), has the expected sign, and is at least `CALLED` of the parent's contrast, because an audit would
not report a smaller one. It calls nothing where the child's readout itself has not fallen by as much, beyond noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mechdrift.activations.capture import collect
from mechdrift.directions.drift import compare_directions
from mechdrift.directions.finders import find_directions
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.weight_change import layer_change, weight_change
from mechdrift.patching.attribution import attribute
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import patch
from mechdrift.planting.parents import READ, Parent
from mechdrift.records import PatchGrid, Side
from mechdrift.statistics.grids import ALPHA
from mechdrift.statistics.resampling import sign_flip_test

CALLED = 0.025  # of the contrast
ROBUST = 1.4826  # the median absolute deviation times this is the standard deviation of normal numbers
OTHER: dict[Side, Side] = {"instruct": "reasoning", "reasoning": "instruct"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A score per layer and part, and which of them are called. `parts` is ("layer",), or names of modules or heads.

    `unchecked` would be called without the check that the child's readout fell; `by_p` also without the smallest
    effect.
    """

    score: Float[np.ndarray, "layer part"]
    called: Bool[np.ndarray, "layer part"]
    unchecked: Bool[np.ndarray, "layer part"]
    by_p: Bool[np.ndarray, "layer part"]
    parts: tuple[str, ...] = ("layer",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A parent and a child, with the grids and drift tables made so far, because several localisers read the same
    ones."""

    parent: Parent
    pair: Pair
    fell: bool
    made: dict[tuple[str, Side], PatchGrid] = field(default_factory=dict)
    drifts: list[pd.DataFrame] = field(default_factory=list)

    @classmethod
    def of(cls, parent: Parent, child: LanguageModel) -> "Evidence":
        """The evidence of a child. `fell` says whether its readout lies below the parent's by `CALLED` or more, beyond
        noise."""
        gap = parent.before - parent.read(child)
        fell = (
            gap.mean() >= CALLED * parent.contrast
            and sign_flip_test(gap, parent.triggers.frame.family.to_numpy()) <= ALPHA
        )
        return cls(parent=parent, pair=parent.pair(child), fell=bool(fell))

    def grid(self, kind: str, donor: Side) -> PatchGrid:
        if (kind, donor) not in self.made:
            common = {"donor": donor, "recipient": OTHER[donor], "readout": self.parent.readout}
            self.made[kind, donor] = GRIDS[kind](self.pair, self.parent.triggers, **common)
        return self.made[kind, donor]

    def drift(self) -> pd.DataFrame:
        """What `compare_directions` says of each layer, at the readout position."""
        if not self.drifts:
            activations = collect(self.pair, self.parent.probes, site="resid_post", roles=(READ,))
            self.drifts.append(compare_directions(find_directions(activations)).frame.sort_values("layer"))
        return self.drifts[0]


GRIDS: dict[str, Callable[..., PatchGrid]] = {
    "resid": lambda *pair, **common: patch(*pair, site="resid_pre", roles=(READ,), **common),
    "resid all": lambda *pair, **common: patch(*pair, site="resid_pre", roles="all", **common),
    "attn_out": lambda *pair, **common: patch(*pair, site="attn_out", roles=(READ,), **common),
    "mlp_out": lambda *pair, **common: patch(*pair, site="mlp_out", roles=(READ,), **common),
    "z": lambda *pair, **common: patch(*pair, site="z", roles=(READ,), heads="all", **common),
    "attribution": lambda *pair, **common: attribute(*pair, site="resid_pre", roles=(READ,), **common),
    "held attention": lambda *pair, **common: graft(*pair, modules="attn", **common),
    "held MLP": lambda *pair, **common: graft(*pair, modules="mlp", **common),
    "graft": lambda *pair, **common: graft(*pair, modules="layer", **common),
    "graft modules": lambda *pair, **common: graft(*pair, modules=("q", "k", "v", "o", "gate", "up", "down"), **common),
}

Localiser = Callable[[Evidence], Located]


def cosine_drift(evidence: Evidence) -> Located:
    drift = evidence.drift()
    return _stated(1 - drift.cosine.to_numpy(), (drift.p_no_drift <= ALPHA).to_numpy())


def mean_shift(evidence: Evidence) -> Located:
    drift = evidence.drift()
    return _stated(-drift.did_along.to_numpy(), (drift.did_along_high < 0).to_numpy())


def mean_shift_increments(evidence: Evidence) -> Located:
    drift = evidence.drift()
    shift = np.nan_to_num(-drift.did_along.to_numpy())
    added = np.diff(shift, prepend=0)
    return _stated(added, (drift.did_along_high < 0).to_numpy() & (added > shift / 2))


def changed_weights(evidence: Evidence) -> Located:
    table = layer_change(weight_change(evidence.pair)).set_index("layer").change
    change = table.reindex(range(evidence.parent.aligned.n_layers), fill_value=0.0).to_numpy()
    logs = np.log(np.maximum(change, 1e-6))
    middle = np.median(logs)
    return _stated(change, logs > middle + 3 * ROBUST * np.median(np.abs(logs - middle)) + 1e-6)


def _stated(score: Float[np.ndarray, " layer"], called: Bool[np.ndarray, " layer"]) -> Located:
    return Located(
        score=np.nan_to_num(score)[:, None], called=called[:, None], unchecked=called[:, None], by_p=called[:, None]
    )


def from_grid(kind: str, way: str, form: Callable[[PatchGrid], PatchGrid] = lambda grid: grid) -> Localiser:
    """A localiser that reads a patch or graft in one direction, or the mean of both."""

    def locate(evidence: Evidence) -> Located:
        grids = [
            replace(grid, effect=grid.effect if donor == "instruct" else -grid.effect)
            for donor in WAYS[way]
            for grid in [form(evidence.grid(kind, donor))]
        ]
        return _tested(evidence, replace(grids[0], effect=np.mean([grid.effect for grid in grids], axis=0)))

    return locate


WAYS: dict[str, tuple[Side, ...]] = {
    "restore": ("instruct",),
    "break": ("reasoning",),
    "both ways": ("instruct", "reasoning"),
}


def _tested(evidence: Evidence, grid: PatchGrid) -> Located:
    score = grid.effect.mean(axis=0)
    significant = grid.inference().frame.significant.to_numpy().reshape(score.shape) & (score > 0)
    large = significant & (score >= CALLED * evidence.parent.contrast)
    return Located(
        score=score,
        called=large & evidence.fell,
        unchecked=large,
        by_p=significant,
        parts=("layer",) if len(grid.roles) == 1 else tuple(name.rpartition(".")[2] for name in grid.roles),
    )


def profile(grid: PatchGrid) -> PatchGrid:
    """The grid's effects after each layer, not before it. After the last block, only the readout position is read, so
    there the effect is the whole gap."""
    return replace(grid, effect=np.concatenate([grid.effect[:, 1:], grid.gap[:, None, None]], axis=1))


def increments(grid: PatchGrid) -> PatchGrid:
    """What each layer adds to the profile, which begins at 0 where the models share embeddings; where they do not,
    layer 0 gets the embeddings' part."""
    return replace(grid, effect=np.diff(profile(grid).effect, axis=1, prepend=0))


LOCALISERS: dict[str, Localiser] = {
    "cosine drift": cosine_drift,
    "class-mean shift": mean_shift,
    "class-mean shift, increments": mean_shift_increments,
    "weight change": changed_weights,
    "resid, restore": from_grid("resid", "restore", profile),
    "resid, break": from_grid("resid", "break", profile),
    "resid increments, restore": from_grid("resid", "restore", increments),
    "resid increments, break": from_grid("resid", "break", increments),
    "resid increments, all positions, restore": from_grid("resid all", "restore", increments),
    "resid increments, all positions, break": from_grid("resid all", "break", increments),
    "resid increments, all positions, both ways": from_grid("resid all", "both ways", increments),
    "attn_out, restore": from_grid("attn_out", "restore"),
    "mlp_out, restore": from_grid("mlp_out", "restore"),
    "mlp_out, break": from_grid("mlp_out", "break"),
    "attribution, restore": from_grid("attribution", "restore", profile),
    "attribution increments, restore": from_grid("attribution", "restore", increments),
    "held attention, restore": from_grid("held attention", "restore"),
    "held MLP, restore": from_grid("held MLP", "restore"),
    "graft, restore": from_grid("graft", "restore"),
    "graft, break": from_grid("graft", "break"),
    "graft, both ways": from_grid("graft", "both ways"),
}
CELLS: dict[str, Localiser] = {
    "graft modules, restore": from_grid("graft modules", "restore"),
    "graft modules, break": from_grid("graft modules", "break"),
    "z of each head, restore": from_grid("z", "restore"),
    "z of each head, break": from_grid("z", "break"),
}
"""Localisers of modules or heads: scored over cells, where modules or heads were damaged."""
