"""Recording activations of one model or of both, at named sites and token roles.

`collect` renders every probe once, to the same token ids for both models, runs each model over them in batches sorted
by length, and keeps, per layer and role, one vector per prompt. `collect_sites` does so for several sites in one pass,
`collect_one` for one model, and `collect_to` for any number of prompts, which it writes to disk block by block. What
makes it cheap:

- only the decoder stack runs, never the unembedding, and attention stays what Hugging Face chose (SDPA);
- a forward pass stops after the last wanted layer;
- positions are taken (or averaged) inside the hook, all of a batch in one step, so full-length tensors live no longer
  than their layer.

Batches are padded on the right. Attention is causal, so a real token never sees padding that follows it, and its
position index is what it would be alone; a test proves that padding changes nothing, on either side.

A role column (`probes.roles`) is a position or a span; of a span the mean is kept, taken in float32 whatever the model
computes in. `template_tail[-1]` is where an instruct model decides its first word; `think_close[-1]`, the last token of
the closed think block, is where a reasoning model does. A site is what TransformerLens calls it. `z` is what enters the
attention's output projection, the heads side by side; `SideActivations.heads` and `split_heads` take them apart.
"""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import overload

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.recording import Recorded, check_finite, record_roles, record_sites, site_names, split_heads
from mechdrift.activations.store import DTYPES, Blocks, Recipe, chunks, fill, weights_digest
from mechdrift.pairs.comparable import vocabulary_of
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.roles import role_columns, role_span
from mechdrift.records import (
    SIDES,
    Activations,
    Completions,
    MechdriftError,
    ProbeSet,
    Rendered,
    Side,
    ThinkMode,
    check_not_empty,
)
from mechdrift.records.progress import progress

DEFAULT_ROLES = ("template_tail", "think_close[-1]")
PROMPTS_PER_BLOCK = 512
BYTES_PER_BLOCK = 2**28  # wide models with many sites get fewer prompts in a block
Answers = Completions | Mapping[Side, Completions]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideActivations:
    """What one model's activations are, per site: `[prompt, layer, role, width]`, float32 on the CPU.

    `width` is `d_model`, except for sites inside the attention and MLP. `readout` holds, if it was asked for, what the
    model's unembedding reads at the readout position, `[prompt, d_model]`.
    """

    model: str
    items: tuple[str, ...]
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    n_heads: int
    sites: Mapping[str, Float[Tensor, "prompt layer role _"]]
    readout: Float[Tensor, "prompt d_model"] | None = None

    def of(self, site: str) -> Float[Tensor, "prompt layer role _"]:
        return self.sites[site]

    def heads(self, site: str = "z") -> Float[Tensor, "prompt layer role head d_head"]:
        """Takes apart a site whose vectors hold the heads side by side, such as `z`."""
        return split_heads(self.sites[site], self.n_heads)

    @property
    def frame(self) -> pd.DataFrame:
        """Norms per site, prompt, layer and role."""
        index = pd.MultiIndex.from_product([self.items, self.layers, self.roles], names=["item", "layer", "role"])
        tables = [
            pd.DataFrame({"site": site, "norm": values.norm(dim=-1).numpy().reshape(-1)}, index=index).reset_index()
            for site, values in self.sites.items()
        ]
        return pd.concat(tables, ignore_index=True)


@overload
def collect(
    pair: Pair,
    probes: ProbeSet,
    *,
    site: str = "resid_pre",
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
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
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
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
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
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
        layers: block indices from 0; by default all. A pass stops after the last wanted layer.
        think: what stands in the think block: `"none"`, `"off"` (an empty block), `"own"` or `"donor"` thinking.
        answers: completions that follow the prompts, so that the roles `answer` and, in the modes `own` and
            `donor`, `think` exist. Given one `Completions`, both models read the same tokens throughout. Given one
            per side, each model reads its own; then only the prompt and the think markers are the same tokens.
        readout: also keep what is unembedded at the readout position, `[prompt, d_model]` per side.
        store: a folder of blocks; what was recorded there before is read and not computed (see `collect_to`).

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
            raise MechdriftError("answers of both sides go with a pair: one model is given one set of completions.")
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
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
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
    options = {"sites": site_names(sites), "roles": roles, "layers": layers, "readout": readout, "store": store}
    kept = {side: _record_side(pair, probes, side, rendered, **options) for side in SIDES}
    return {site: join_sides(probes, kept, site, think) for site in site_names(sites)}


def collect_side(
    pair: Pair,
    probes: ProbeSet,
    side: Side,
    *,
    site: str = "resid_pre",
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    readout: bool = False,
) -> SideActivations:
    """What `collect` with the same arguments records of one side, on the tokens that both sides read.

    `join_sides` puts both together: for many probe sets, record all of them in one model before opening the other.
    """
    rendered = render_sides(pair, probes, think, answers)
    return _record_side(
        pair, probes, side, rendered, sites=(site,), roles=roles, layers=layers, readout=readout, store=None
    )


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
    *,
    sites: tuple[str, ...],
    roles: Sequence[str],
    layers: Sequence[int] | None,
    readout: bool,
    store: str | Path | None,
) -> SideActivations:
    """One side's activations at the role columns that both sides' prompts have."""
    columns = role_columns([*rendered["instruct"], *rendered["reasoning"]], roles)
    loaded = pair.open(side)
    wanted, description = _layers(loaded, layers), f"Recording {probes.name}, {side}"
    found = _recorded(loaded, rendered[side], sites, wanted, columns, description, readout, store, side)
    return SideActivations(
        model=loaded.source.name,
        items=tuple(prompt.item_id for prompt in rendered[side]),
        layers=wanted,
        roles=columns,
        n_heads=loaded.structure.n_heads,
        sites=found.sites,
        readout=found.readout,
    )


def collect_one(
    loaded: LanguageModel,
    prompts: ProbeSet | Sequence[Rendered],
    *,
    sites: str | Sequence[str] = ("resid_pre",),
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
    think: ThinkMode = "off",
    answers: Completions | None = None,
    readout: bool = False,
    store: str | Path | None = None,
) -> SideActivations:
    """Activations of one model, at one or several sites in one pass.

    A probe set is rendered through the model's own template, as `think` and `answers` say (see `collect`); rendered
    prompts are taken as they are.
    """
    if isinstance(prompts, ProbeSet):
        prompts = _render(Renderer(loaded.tokenizer), prompts, think, answers)
    elif answers is not None or think != "off":
        raise MechdriftError(
            "rendered prompts already hold their thinking and answers: think= and answers= go with a probe set."
        )
    columns, wanted = role_columns(prompts, roles), _layers(loaded, layers)
    name = loaded.source.name
    found = _recorded(loaded, prompts, site_names(sites), wanted, columns, f"Recording {name}", readout, store, name)
    return SideActivations(
        model=name,
        items=tuple(prompt.item_id for prompt in prompts),
        layers=wanted,
        roles=columns,
        sites=found.sites,
        n_heads=loaded.structure.n_heads,
        readout=found.readout,
    )


def collect_to(
    folder: str | Path,
    loaded: LanguageModel,
    prompts: Iterable[Rendered],
    *,
    sites: str | Sequence[str] = ("resid_pre",),
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
    readout: bool = False,
    dtype: str = "float32",
    prompts_per_block: int | None = None,
    description: str = "Recording",
) -> Blocks:
    """Record more prompts than fit in memory: activations of one model, written to disk block by block.

    Memory is that of one block. A block that was recorded before, with the same weights, tokens, sites, layers,
    roles and dtype, is checked and not computed again, so a killed collection continues where it stopped.

    Args:
        folder: where the blocks are written.
        loaded: one model, `pair.open(side)`.
        prompts: rendered prompts, from a sequence or a generator.
        sites: one site or several, named as in `collect`.
        roles: as in `collect`. The prompts of the first block decide how many positions `template_tail` has.
        layers: as in `collect`.
        readout: as in `collect`.
        dtype: in which the blocks are stored: `"float32"`, `"float16"` or `"bfloat16"`.
        prompts_per_block: by default 512, or fewer where they would take more than 256 MB.
        description: what the progress bar says.

    Returns:
        `Blocks`: `.read(site)` `[prompt, layer, role, width]`, `.cell(site, layer, role)` `[prompt, width]`; they
        map the files into memory and read only what is asked for.

    Raises:
        MechdriftError: for a dtype that is not stored, a folder that cannot be written, and values that are not
            finite.

    Source:
        The safetensors format, https://github.com/huggingface/safetensors.

    Example:
        >>> from mechdrift.activations.capture import render_probes
        >>> blocks = md.collect_to("blocks", pair.open("instruct"), render_probes(pair, probes, "off", None))
        >>> blocks.cell("resid_pre", 2, "think_close[-1]").shape  # prompt, width
        torch.Size([16, 32])
    """
    if dtype not in DTYPES:
        raise MechdriftError(f"blocks are stored as {' or '.join(DTYPES)}, not as {dtype!r}.")
    wanted, sites = _layers(loaded, layers), site_names(sites)
    groups = chunks(prompts, PROMPTS_PER_BLOCK)
    first = next(groups, [])
    columns = role_columns(first, roles)
    recipe = Recipe(
        model=loaded.source.name,
        weights=weights_digest(loaded),
        sites=sites,
        layers=wanted,
        roles=columns,
        dtype=dtype,
        readout=readout,
    )

    def compute(group: Sequence[Rendered]) -> dict[str, Tensor]:
        found = record_sites(loaded, group, sites, wanted, columns, readout)
        for site in sites:
            check_finite(found[site], loaded.source.name, [prompt.item_id for prompt in group], wanted, columns)
        return found

    bytes_each = 4 * len(sites) * len(wanted) * len(columns) * loaded.structure.d_model
    size = prompts_per_block or max(1, min(PROMPTS_PER_BLOCK, BYTES_PER_BLOCK // max(1, bytes_each)))
    with progress(description, len(prompts) if isinstance(prompts, Sized) else 0) as advance:
        return fill(
            Path(folder),
            recipe,
            chain(first, chain.from_iterable(groups)),
            size,
            lambda prompt: [role_span(prompt, column) for column in columns],
            compute,
            advance,
        )


def _layers(loaded: LanguageModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(range(loaded.n_layers)) if layers is None else tuple(dict.fromkeys(layers))


def _recorded(
    loaded: LanguageModel,
    rendered: Sequence[Rendered],
    sites: tuple[str, ...],
    layers: tuple[int, ...],
    columns: tuple[str, ...],
    description: str,
    readout: bool,
    store: str | Path | None,
    name: str,
) -> Recorded:
    """Record, or read from `store`, and refuse what is not finite."""
    if store is None:
        found = record_roles(loaded, rendered, sites, layers, columns, description, readout)
    else:
        blocks = collect_to(
            store, loaded, rendered, sites=sites, roles=columns, layers=layers, readout=readout, description=description
        )
        found = Recorded(
            sites={site: blocks.read(site) for site in sites}, readout=blocks.readout() if readout else None
        )
    for values in found.sites.values():
        check_finite(values, name, [prompt.item_id for prompt in rendered], layers, columns)
    return found


def render_probes(pair: Pair, probes: ProbeSet, think: ThinkMode, answers: Completions | None) -> list[Rendered]:
    """Render through the reasoning model's template: the same token ids then serve both models."""
    return _render(Renderer(pair.tokenizer("reasoning")), probes, think, answers)


def render_sides(pair: Pair, probes: ProbeSet, think: ThinkMode, answers: Answers | None) -> dict[Side, list[Rendered]]:
    """What each model reads: the same, or, where each has answers of its own, the same prompts with those.

    Where the two tokenizers mean different tokens by an id of the prompts, each model reads its own template's
    rendering, and roles correspond instead of positions.
    """
    if not isinstance(answers, Mapping):
        rendered = render_probes(pair, probes, think, answers)
        if mean_the_same(pair, rendered):
            return dict.fromkeys(SIDES, rendered)
        sides = {side: _render(Renderer(pair.tokenizer(side)), probes, think, answers) for side in SIDES}
        check_rows(pair, sides)
        return sides
    if set(answers) != set(SIDES):
        raise MechdriftError(
            f"answers of each side are a mapping with the keys {' and '.join(SIDES)}, not "
            f"{', '.join(answers) or 'none'}."
        )
    return {side: render_probes(pair, probes, think, answers[side]) for side in SIDES}


def check_rows(pair: Pair, sides: Mapping[Side, Sequence[Rendered]]) -> None:
    """Raise where a prompt holds a token that its model has no embedding for. The thinking of a child may hold one that
    its parent's vocabulary lacks."""
    for side, prompts in sides.items():
        rows, largest = vocabulary_of(pair, side), max((max(prompt.ids) for prompt in prompts), default=0)
        if largest >= rows:
            raise MechdriftError(
                f"token {largest} of the prompts is beyond the {rows} rows of {pair.source(side).name}'s vocabulary: "
                "leave out the items whose thinking or answer holds it."
            )


def mean_the_same(pair: Pair, rendered: Sequence[Rendered]) -> bool:
    """Whether every id of the prompts is the same token to both tokenizers. It is not where a child reuses a special
    token of its parent under another name, as the R1 distillations of Qwen do."""
    ids = sorted({token for prompt in rendered for token in prompt.ids})
    ours, theirs = (pair.tokenizer(side).convert_ids_to_tokens(ids) for side in SIDES)
    return ours == theirs


def _render(renderer: Renderer, probes: ProbeSet, think: ThinkMode, answers: Completions | None) -> list[Rendered]:
    check_not_empty(probes)
    if answers is None:
        return render_items(renderer, probes.items, think)
    by_item = {row.item_id: row for row in answers.first}
    lacking = [item.id for item in probes if item.id not in by_item]
    if lacking:
        raise MechdriftError(
            f"{len(lacking)} of {len(probes)} items have no answer, such as {lacking[0]}: leave them out of the "
            "probe set."
        )
    return [
        renderer.render(
            item.id, item.prompt, think, thinking=by_item[item.id].thinking_ids, answer=by_item[item.id].answer_ids
        )
        for item in probes
    ]
