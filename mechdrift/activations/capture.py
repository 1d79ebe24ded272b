"""Recording activations of both models of a pair, at named sites and token roles.

`collect` renders every probe once, to the same token ids for both models, runs each model over them in batches sorted
by length, and keeps one vector per prompt, layer and role. `collect_sites` does so for several sites in one pass.
Recording is cheap for three reasons:

- only the decoder stack runs, never the unembedding, with the attention that Hugging Face chose (SDPA);
- a forward pass stops after the last wanted layer;
- positions are taken (or averaged) inside the hook, for a whole batch in one step, so that full-length tensors live no
  longer than their layer.

Batches are padded on the right. Attention is causal, so a real token never sees the padding that follows it, and its
position index is what it would be alone; a test proves that padding changes nothing, on either side.

A role column (`probes.roles`) is a position or a span. Of a span the mean is kept, computed in float32 whatever the
model's number format is. At `template_tail[-1]` an instruct model decides its first word; at `think_close[-1]`, the
last token of the closed think block, a reasoning model does. Sites have TransformerLens' names. `z` is the input of the
attention's output projection, with the heads concatenated; `SideActivations.heads` and `split_heads` separate them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from mechdrift.activations.one_model import SideActivations, collect_one, record_prompts
from mechdrift.activations.prompts import Answers, render_sides
from mechdrift.activations.recording import site_names
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.roles import DEFAULT_ROLES, role_columns
from mechdrift.records import (
    SIDES,
    Activations,
    MechdriftError,
    ProbeSet,
    Rendered,
    Side,
    ThinkMode,
)


@overload
def collect(
    pair: Pair,
    probes: ProbeSet,
    *,
    site: str = "resid_pre",
    roles: str | Sequence[str] = DEFAULT_ROLES,
    layers: int | Sequence[int] | None = None,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    readout: bool = False,
    store: str | Path | None = None,
) -> Activations: ...


@overload
def collect(
    pair: LanguageModel,
    probes: ProbeSet,
    *,
    site: str = "resid_pre",
    roles: str | Sequence[str] = DEFAULT_ROLES,
    layers: int | Sequence[int] | None = None,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    readout: bool = False,
    store: str | Path | None = None,
) -> SideActivations: ...


def collect(
    pair: Pair | LanguageModel,
    probes: ProbeSet,
    *,
    site: str = "resid_pre",
    roles: str | Sequence[str] = DEFAULT_ROLES,
    layers: int | Sequence[int] | None = None,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    readout: bool = False,
    store: str | Path | None = None,
) -> Activations | SideActivations:
    """What do both models hold at a layer and a token role? Activations on the same tokens.

    Args:
        pair: the two models; or one model, `pair.open(side)`, whose activations are then recorded alone.
        probes: what is asked. Every prompt is rendered once, to the same token ids for both models.
        site: `resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out`, `z`, or a component's hook name.
        roles: columns: a single position such as `template_tail[-1]`, every position of a short role such as
            `template_tail`, or the mean over a span, such as `answer`.
        layers: indices of blocks, from 0; by default all. A pass stops after the last wanted layer.
        think: what stands in the think block: `"none"`, `"off"` (an empty block), `"own"` or `"donor"` thinking.
        answers: completions that follow the prompts, so that the roles `answer` and, in the modes `own` and
            `donor`, `think` exist. Given one `Completions`, both models read the same tokens throughout. Given one
            per side, each model reads its own; then only the prompt and the think markers are the same tokens.
        readout: also keep the final states at the readout positions, `[prompt, d_model]` per side.
        store: a folder of blocks; what was recorded there before is read and not computed again (see `collect_to`).

    Returns:
        `Activations`: `.instruct` and `.reasoning` `[prompt, layer, role, d_model]`, float32 on the CPU. For one
        model `SideActivations`: `.of(site)` `[prompt, layer, role, width]`.

    Raises:
        MechdriftError: for unknown sites, roles that a prompt does not have, and activations that are not finite.

    Source:
        TransformerLens names the sites, https://transformerlensorg.github.io/TransformerLens.

    Example:
        >>> acts = md.collect(pair, probes, site="resid_pre", roles=("template_tail[-1]", "think_close[-1]"))
        >>> acts.instruct.shape  # prompt, layer, role, d_model
        torch.Size([16, 4, 2, 32])
        >>> norms = acts.frame.groupby(["side", "layer"]).norm.mean()
    """
    if isinstance(pair, LanguageModel):
        if isinstance(answers, Mapping):
            raise MechdriftError("answers= of both sides go with a pair: give one model one set of completions.")
        return collect_one(
            pair,
            probes,
            sites=(site,),
            roles=roles,
            layers=layers,
            think=think,
            answers=answers,
            readout=readout,
            store=store,
        )
    return collect_sites(
        pair,
        probes,
        sites=(site,),
        roles=roles,
        layers=layers,
        think=think,
        answers=answers,
        readout=readout,
        store=store,
    )[site]


def collect_sites(
    pair: Pair,
    probes: ProbeSet,
    *,
    sites: str | Sequence[str],
    roles: str | Sequence[str] = DEFAULT_ROLES,
    layers: int | Sequence[int] | None = None,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    readout: bool = False,
    store: str | Path | None = None,
) -> dict[str, Activations]:
    """What do both models hold at several sites? `collect` at all of them, in one pass of each model.

    Args:
        pair: the two models.
        probes: what is asked.
        sites: one site or several, named as in `collect`.
        roles: as in `collect`.
        layers: as in `collect`.
        think: as in `collect`.
        answers: as in `collect`.
        readout: as in `collect`.
        store: as in `collect`.

    Returns:
        `Activations` by site.

    Raises:
        MechdriftError: as in `collect`.

    Source:
        TransformerLens names the sites, https://transformerlensorg.github.io/TransformerLens.

    Example:
        >>> found = md.collect_sites(pair, probes, sites=("attn_out", "mlp_out"), roles=("template_tail[-1]",))
        >>> found["mlp_out"].reasoning.shape  # prompt, layer, role, d_model
        torch.Size([16, 4, 1, 32])
    """
    rendered = render_sides(pair, probes, think, answers)
    options = {"sites": site_names(sites), "layers": layers, "readout": readout, "store": store}
    kept = {side: _record_side(pair, probes, side, rendered, roles, **options) for side in SIDES}
    return {site: join_sides(probes, kept, site, think) for site in site_names(sites)}


def collect_side(
    pair: Pair,
    probes: ProbeSet,
    side: Side,
    *,
    site: str = "resid_pre",
    roles: str | Sequence[str] = DEFAULT_ROLES,
    layers: int | Sequence[int] | None = None,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    readout: bool = False,
) -> SideActivations:
    """What `collect` with the same arguments records of one side, on the tokens that both sides read.

    `join_sides` puts both together: for many probe sets, record all of them in one model before opening the other.
    """
    rendered = render_sides(pair, probes, think, answers)
    options = {"sites": (site,), "layers": layers, "readout": readout, "store": None}
    return _record_side(pair, probes, side, rendered, roles, **options)


def join_sides(
    probes: ProbeSet, sides: Mapping[Side, SideActivations], site: str = "resid_pre", think: ThinkMode = "off"
) -> Activations:
    """Both sides' activations at one site, as `collect` gives them."""
    instruct, reasoning = sides["instruct"], sides["reasoning"]
    return Activations(
        probes=probes,
        site=site,
        layers=instruct.layers,
        roles=instruct.roles,
        think=think,
        instruct=instruct.of(site),
        reasoning=reasoning.of(site),
        readout={side: kept.readout for side, kept in sides.items() if kept.readout is not None},
    )


def _record_side(
    pair: Pair,
    probes: ProbeSet,
    side: Side,
    rendered: Mapping[Side, list[Rendered]],
    roles: str | Sequence[str],
    **kept: Any,
) -> SideActivations:
    """One side's activations at the role columns that both sides' prompts have; `kept` goes to `record_prompts`."""
    columns = role_columns([*rendered["instruct"], *rendered["reasoning"]], roles)
    description = f"{probes.name}, {side}"
    return record_prompts(pair.open(side), rendered[side], columns, name=side, description=description, **kept)
