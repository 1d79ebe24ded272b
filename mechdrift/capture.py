"""Recording activations of one model or of both, at named sites and token roles.

`collect` renders every probe once, to the same token ids for both models, runs each model over them in batches sorted by
length, and keeps, per layer and role, one vector per prompt. `collect_sites` does so for several sites in one pass, `collect_one`
for one model, and `collect_to` for any number of prompts, which it writes to disk block by block. What makes it cheap:

- only the decoder stack runs, never the unembedding, and attention stays what Hugging Face chose (SDPA);
- a forward pass stops after the last wanted layer;
- positions are taken (or averaged) inside the hook, all of a batch in one step, so full-length tensors live no longer than their layer.

Batches are padded on the right. Attention is causal, so a real token never sees padding that follows it, and its position
index is what it would be alone; a test proves that padding changes nothing, on either side.

Role columns, each a position or the mean over a span, taken in float32 whatever the model computes in:

    template_tail               expands to one column per position, template_tail[-5] … template_tail[-1]
    answer[0], think_close[-1]  a single position, counted from the role's own start or end
    user, think, answer         the mean over the role's tokens
    think[q1] … think[q4]       the mean over a quarter of them (of any role); `think[quarters]` expands to all four
    all                         the mean over the whole prompt

Of n tokens, quarter k holds those from floor((k - 1) n / 4) up to, not including, floor(k n / 4). Fewer than four tokens are
shared: a quarter that would be empty takes the token it begins at (of two tokens: first, first, second, second).

`template_tail[-1]` is where an instruct model decides its first word; `think_close[-1]`, the last token of the closed think block, is
where a reasoning model does. A site is what TransformerLens calls it. `z` is what enters the attention's output projection, the
heads side by side; `SideActivations.heads` and `split_heads` take them apart.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import overload

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdrift.blocks import DTYPES, Blocks, Recipe, chunks, fill, weights_digest
from mechdrift.hooks import HookPoint, record
from mechdrift.pairs import LanguageModel, Pair
from mechdrift.pairs.structure import SITES
from mechdrift.probes import Renderer, render_items
from mechdrift.progress import progress
from mechdrift.records import SIDES, Activations, Completions, MechdriftError, ProbeSet, Rendered, Role, Side, ThinkMode

DEFAULT_ROLES = ("template_tail", "think_close[-1]")
QUARTERS = ("q1", "q2", "q3", "q4")
TOKENS_PER_BATCH = 2048
PROMPTS_PER_BLOCK = 512
BYTES_PER_BLOCK = 2**28  # wide models with many sites get fewer prompts in a block
READOUT = "readout"

Answers = Completions | Mapping[Side, Completions]


class _Done(Exception):
    """Raised inside a hook to stop a forward pass whose rest nobody needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Right- or left-padded token ids with everything a forward pass needs."""

    ids: Int[Tensor, "prompt pos"]
    mask: Int[Tensor, "prompt pos"]
    positions: Int[Tensor, "prompt pos"]
    offsets: tuple[int, ...]  # how many pads stand before each prompt

    def forward_arguments(self, device: torch.device) -> dict[str, Tensor]:
        """Arguments of a decoder's forward; the mask is left out when nothing is padded, so SDPA takes its fast path."""
        arguments = {"input_ids": self.ids.to(device), "position_ids": self.positions.to(device)}
        if not bool(self.mask.all()):
            arguments["attention_mask"] = self.mask.to(device)
        return arguments


def pad(sequences: Sequence[Sequence[int]], pad_id: int, side: str = "right") -> Batch:
    """Stack token ids of different lengths. Positions count real tokens only, so padding never moves them."""
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad_id)
    mask = torch.zeros_like(ids)
    offsets = tuple(width - len(sequence) if side == "left" else 0 for sequence in sequences)
    for row, (sequence, offset) in enumerate(zip(sequences, offsets, strict=True)):
        ids[row, offset : offset + len(sequence)] = torch.tensor(sequence)
        mask[row, offset : offset + len(sequence)] = 1
    return Batch(ids=ids, mask=mask, positions=(mask.cumsum(1) - 1).clamp(min=0), offsets=offsets)


def batches(lengths: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH) -> Iterator[list[int]]:
    """Indices grouped by similar length, each group at most `tokens_per_batch` padded tokens (or one prompt)."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and lengths[index] * (len(group) + 1) > tokens_per_batch:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def role_columns(rendered: Sequence[Rendered], roles: Sequence[str]) -> tuple[str, ...]:
    """Expand role names to columns: `template_tail` becomes one per position, `think[quarters]` four, others stay."""
    columns: list[str] = []
    for role in roles:
        if role.endswith("[quarters]"):
            columns += [role.replace("quarters", quarter) for quarter in QUARTERS]
        elif role == "template_tail":
            width = min(stop - start for start, stop in (role_span(prompt, role) for prompt in rendered))
            columns += [f"template_tail[{i}]" for i in range(-width, 0)]
        else:
            columns.append(role)
    return tuple(columns)


def role_span(prompt: Rendered, column: str) -> tuple[int, int]:
    """The half-open token span that a role column names in one prompt; `all` is the whole of it."""
    if column == "all":
        return 0, len(prompt.ids)
    match = re.fullmatch(r"(\w+)(?:\[(-?\d+|q[1-4])\])?", column)
    if match is None or match[1] not in Role.__args__:
        raise MechdriftError(f"unknown role {column!r}: use one of {', '.join(Role.__args__)}, or one with an index such as 'answer[0]'.")
    if match[1] not in prompt.roles:
        raise MechdriftError(f"{prompt.item_id} has no role {match[1]!r} when rendered this way; it has {', '.join(prompt.roles)}.")
    start, stop = prompt.roles[match[1]]
    if match[2] is None:
        return start, stop
    if match[2] in QUARTERS:
        return _quarter(start, stop, QUARTERS.index(match[2]))
    position = int(match[2]) + (stop if match[2].startswith("-") else start)
    if not start <= position < stop:
        raise MechdriftError(f"{prompt.item_id}: {column!r} lies outside the role's {stop - start} tokens.")
    return position, position + 1


def _quarter(start: int, stop: int, index: int) -> tuple[int, int]:
    """A quarter of a span, at least one token of it; see the module's text for the rounding."""
    first, end = (start + (stop - start) * i // 4 for i in (index, index + 1))
    return first, max(end, first + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SideActivations:
    """What one model's activations are, per site: `[prompt, layer, role, width]`, float32 on the CPU.

    `width` is `d_model`, except for sites inside the attention and MLP. `readout` holds, if it was asked for, what the model's
    unembedding reads at the readout position, `[prompt, d_model]`.
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
        """A site whose vectors are the heads' side by side, such as `z`, by head."""
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


def split_heads(values: Float[Tensor, "*place width"], n_heads: int) -> Float[Tensor, "*place head d_head"]:
    """Take apart the heads of `z`, which stand side by side as Hugging Face's output projection reads them."""
    return values.unflatten(-1, (n_heads, -1))


def standard_sites(loaded: LanguageModel) -> tuple[str, ...]:
    """Those of TransformerLens' standard sites that this architecture has."""
    found = []
    for site in SITES:
        with suppress(MechdriftError):
            loaded.structure.hook_point(site, 0)
            found.append(site)
    return tuple(found)


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
    """Activations of both models on the same tokens, `[prompt, layer, role, d_model]`; of one model (`pair.open(side)`), its own alone.

    With `answers`, each prompt is followed by that completion's answer (and, in the think modes `own` and `donor`, preceded by its
    thinking), so that the roles `answer` and `think` exist. Given one `Completions`, both models read the same tokens throughout.
    Given one per side, each model reads what it is given there: its own thinking and answer, or, if they are exchanged, the
    other's. Then only the prompt (`system`, `user`, `template_tail`) and the think markers are the same tokens; `think`, `answer`
    and what follows from them in `think_close` differ in tokens and not only in activations, and so do single positions there.

    `readout` also keeps what is unembedded before the first answer token (an answer changes nothing there), which saves `readouts`
    a pass of its own. `store` is a folder of blocks: what was recorded there before is read, not computed (see `collect_to`).
    Raises `MechdriftError` for unknown sites, roles and NaN.
    """
    if isinstance(pair, LanguageModel):
        if isinstance(answers, Mapping):
            raise MechdriftError("answers of both sides go with a pair: one model is given one set of completions.")
        return collect_one(
            pair, probes, sites=(site,), roles=roles, layers=layers, think=think, answers=answers, readout=readout, store=store
        )  # fmt: skip
    return collect_sites(
        pair, probes, sites=(site,), roles=roles, layers=layers, think=think, answers=answers, readout=readout, store=store
    )[site]  # fmt: skip


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
    """`collect` at several sites, in one pass of each model."""
    rendered = render_sides(pair, probes, think, answers)
    columns = role_columns([*rendered["instruct"], *rendered["reasoning"]], roles)
    wanted = tuple(dict.fromkeys(layers)) if layers is not None else None
    sides: dict[Side, Recorded] = {}
    for side in SIDES:
        loaded = pair.open(side)
        wanted = wanted or tuple(range(loaded.n_layers))
        description = f"Recording {probes.name}, {side}"
        sides[side] = _recorded(loaded, rendered[side], _names(sites), wanted, columns, description, readout, store, side)
    assert wanted is not None
    return {
        site: Activations(
            probes=probes, site=site, layers=wanted, roles=columns, think=think,
            instruct=sides["instruct"].sites[site], reasoning=sides["reasoning"].sites[site],
            readout={side: kept.readout for side, kept in sides.items() if kept.readout is not None},
        )
        for site in _names(sites)
    }  # fmt: skip


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

    A probe set is rendered through the model's own template, as `think` and `answers` say (see `collect`); rendered prompts are
    taken as they are.
    """
    if isinstance(prompts, ProbeSet):
        prompts = _render(Renderer(loaded.tokenizer), prompts, think, answers)
    elif answers is not None or think != "off":
        raise MechdriftError("rendered prompts already hold their thinking and answers: think= and answers= go with a probe set.")
    columns, wanted = role_columns(prompts, roles), _layers(loaded, layers)
    name = loaded.source.name
    found = _recorded(loaded, prompts, _names(sites), wanted, columns, f"Recording {name}", readout, store, name)
    return SideActivations(
        model=name, items=tuple(prompt.item_id for prompt in prompts), layers=wanted, roles=columns, sites=found.sites,
        n_heads=loaded.structure.n_heads, readout=found.readout,
    )  # fmt: skip


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
    """Record any number of prompts, from a sequence or a generator, to blocks on disk; see `blocks`.

    Memory is that of one block, 512 prompts unless they would take more than 256 MB. Asked for again, a block that is there is read
    through once to check it, and not computed. How many positions `template_tail` has is decided by the first block's prompts.
    """
    if dtype not in DTYPES:
        raise MechdriftError(f"blocks are stored as {' or '.join(DTYPES)}, not as {dtype!r}.")
    wanted, sites = _layers(loaded, layers), _names(sites)
    groups = chunks(prompts, PROMPTS_PER_BLOCK)
    first = next(groups, [])
    columns = role_columns(first, roles)
    recipe = Recipe(
        model=loaded.source.name, weights=weights_digest(loaded), sites=sites, layers=wanted, roles=columns, dtype=dtype, readout=readout
    )

    def compute(group: Sequence[Rendered]) -> dict[str, Tensor]:
        found = _record(loaded, group, sites, wanted, columns, readout)
        for site in sites:
            check_finite(found[site], loaded.source.name, [prompt.item_id for prompt in group], wanted, columns)
        return found

    bytes_each = 4 * len(sites) * len(wanted) * len(columns) * loaded.structure.d_model
    size = prompts_per_block or max(1, min(PROMPTS_PER_BLOCK, BYTES_PER_BLOCK // max(1, bytes_each)))
    with progress(description, len(prompts) if isinstance(prompts, Sized) else 0) as advance:
        return fill(
            Path(folder), recipe, chain(first, chain.from_iterable(groups)), size,
            lambda prompt: [role_span(prompt, column) for column in columns], compute, advance,
        )  # fmt: skip


def _layers(loaded: LanguageModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(range(loaded.n_layers)) if layers is None else tuple(dict.fromkeys(layers))


def _names(sites: str | Sequence[str]) -> tuple[str, ...]:
    """Each site once; a single name is one site, not its letters."""
    return (sites,) if isinstance(sites, str) else tuple(dict.fromkeys(sites))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One model's activations per site and role column, and, if asked for, what its unembedding reads at each readout position."""

    sites: Mapping[str, Float[Tensor, "prompt layer role _"]]
    readout: Float[Tensor, "prompt d_model"] | None

    @property
    def roles(self) -> Float[Tensor, "prompt layer role _"]:
        """Where one site was recorded: its activations."""
        (values,) = self.sites.values()
        return values


def _recorded(
    loaded: LanguageModel, rendered: Sequence[Rendered], sites: tuple[str, ...], layers: tuple[int, ...], columns: tuple[str, ...],
    description: str, readout: bool, store: str | Path | None, name: str,
) -> Recorded:  # fmt: skip
    """Record, or read from `store`, and refuse what is not finite."""
    if store is None:
        found = record_roles(loaded, rendered, sites, layers, columns, description, readout)
    else:
        blocks = collect_to(store, loaded, rendered, sites=sites, roles=columns, layers=layers, readout=readout, description=description)
        found = Recorded(sites={site: blocks.read(site) for site in sites}, readout=blocks.readout() if readout else None)
    for values in found.sites.values():
        check_finite(values, name, [prompt.item_id for prompt in rendered], layers, columns)
    return found


def render_probes(pair: Pair, probes: ProbeSet, think: ThinkMode, answers: Completions | None) -> list[Rendered]:
    """Render through the reasoning model's template: the same token ids then serve both models."""
    return _render(Renderer(pair.tokenizer("reasoning")), probes, think, answers)


def render_sides(pair: Pair, probes: ProbeSet, think: ThinkMode, answers: Answers | None) -> dict[Side, list[Rendered]]:
    """What each model reads: the same, or, where each has answers of its own, the same prompts with those."""
    if not isinstance(answers, Mapping):
        return dict.fromkeys(SIDES, render_probes(pair, probes, think, answers))
    if set(answers) != set(SIDES):
        raise MechdriftError(f"answers of each side are a mapping with the keys {' and '.join(SIDES)}, not {', '.join(answers) or 'none'}.")
    return {side: render_probes(pair, probes, think, answers[side]) for side in SIDES}


def _render(renderer: Renderer, probes: ProbeSet, think: ThinkMode, answers: Completions | None) -> list[Rendered]:
    if answers is None:
        return render_items(renderer, probes.items, think)
    by_item = {row.item_id: row for row in answers.first}
    lacking = [item.id for item in probes if item.id not in by_item]
    if lacking:
        raise MechdriftError(
            f"{len(lacking)} of {len(probes)} items have no answer, such as {lacking[0]}: leave them out of the probe set."
        )
    return [
        renderer.render(item.id, item.prompt, think, thinking=by_item[item.id].thinking_ids, answer=by_item[item.id].answer_ids)
        for item in probes
    ]


def record_roles(
    loaded: LanguageModel, rendered: Sequence[Rendered], site: str | Sequence[str], layers: Sequence[int], columns: Sequence[str],
    description: str = "Recording", readout: bool = False,
) -> Recorded:  # fmt: skip
    """One model's activations at one or several sites, taken or averaged per role column while the forward pass runs."""
    sites = _names(site)
    with progress(description, len(rendered)) as advance:
        found = _record(loaded, rendered, sites, layers, columns, readout, advance)
    return Recorded(sites={site: found[site] for site in sites}, readout=found.get(READOUT))


@torch.inference_mode()
def _record(
    loaded: LanguageModel, rendered: Sequence[Rendered], sites: Sequence[str], layers: Sequence[int], columns: Sequence[str],
    readout: bool, advance: Callable[[int], object] = lambda _: None,
) -> dict[str, Tensor]:  # fmt: skip
    """The tensors of each site, and of the readout, in the order of the prompts; every batch is put in its place at once."""
    if not (rendered and sites and layers and columns):
        raise MechdriftError("there is nothing to record: give at least one prompt, site, layer and role.")
    points = {(site, layer): loaded.structure.hook_point(site, layer) for site in sites for layer in layers}
    kept: dict[str, Tensor] = {}
    for group in batches([len(prompt.ids) for prompt in rendered]):
        for name, values in _record_batch(loaded, [rendered[i] for i in group], points, columns, readout).items():
            if name not in kept:
                kept[name] = torch.empty(len(rendered), *values.shape[1:])
            kept[name][group] = values
        advance(len(group))
    return kept


def _record_batch(
    loaded: LanguageModel, prompts: Sequence[Rendered], points: dict[tuple[str, int], HookPoint], columns: Sequence[str], readout: bool
) -> dict[str, Tensor]:
    """One batch's activations by site, and what is unembedded at the readout positions if it is wanted."""
    batch = pad([prompt.ids for prompt in prompts], loaded.tokenizer.pad_token_id or 0)
    means = Means.over([[role_span(prompt, column) for column in columns] for prompt in prompts], batch)
    found: dict[str, Tensor] = {}
    with record(points, keep=means.of) as seen, nullcontext() if readout else _stop_when_all(seen, points), suppress(_Done):
        hidden = loaded.model.base_model(**batch.forward_arguments(input_device(loaded)), use_cache=False).last_hidden_state
        if readout:
            found[READOUT] = at_readout(hidden, prompts)
    unseen = [place for place in points if place not in seen]
    if unseen:
        raise MechdriftError(f"{unseen[0][0]!r} of layer {unseen[0][1]} takes no part in this model's forward pass: choose another site.")
    for site in dict.fromkeys(site for site, _ in points):
        layers = [seen[place] for place in points if place[0] == site]
        found[site] = torch.stack([values.to(layers[0].device) for values in layers], dim=1).cpu()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The means over every span of a padded batch, taken in one step. A position of its own is the mean over one token.

    Only the spans' tokens are looked at: what a NaN or a padding column holds elsewhere does not matter. Sums are in float32:
    a residual stream has single activations of 1e5 beside others of 1, which a sum in bfloat16 would lose.
    """

    shape: tuple[int, int]  # of the batch: prompts, positions
    tokens: Int[Tensor, " token"]  # of all spans, one after the other, as places in the flattened batch
    starts: Int[Tensor, " span"]  # where each span's begin

    @classmethod
    def over(cls, spans: Sequence[Sequence[tuple[int, int]]], batch: Batch) -> "Means":
        """`spans[prompt][role]`, half-open, in a batch that is padded on the right."""
        width = batch.ids.shape[1]
        tokens = [range(row * width + start, row * width + stop) for row, own in enumerate(spans) for start, stop in own]
        lengths = torch.tensor([len(part) for part in tokens])
        return cls(shape=(len(spans), width), tokens=torch.tensor(list(chain.from_iterable(tokens))), starts=lengths.cumsum(0) - lengths)

    def of(self, tensor: Tensor) -> Float[Tensor, "prompt role width"]:
        """The means, on the tensor's device, in float32; heads that have an axis of their own are put side by side."""
        if tensor.dim() < 3 or tuple(tensor.shape[:2]) != self.shape:
            raise MechdriftError(f"a site of shape {list(tensor.shape)} is not [prompt, pos, …] and has no roles: choose another site.")
        tokens, starts = self.tokens.to(tensor.device), self.starts.to(tensor.device)
        rows = tensor.flatten(0, 1).flatten(1)
        if len(tokens) == len(starts):
            means = rows.index_select(0, tokens).float()
        elif rows.dtype == torch.float32:
            means = torch.nn.functional.embedding_bag(tokens, rows, starts, mode="mean")
        else:
            picked = rows.index_select(0, tokens).float()
            means = torch.nn.functional.embedding_bag(torch.arange(len(tokens), device=rows.device), picked, starts, mode="mean")
        return means.view(self.shape[0], -1, rows.shape[-1])


def input_device(loaded: LanguageModel) -> torch.device:
    """Where token ids go: the device of the weights, or, where accelerate keeps those elsewhere, the one it brings them to."""
    if loaded.device.type != "meta":
        return loaded.device
    hook = getattr(loaded.model.get_input_embeddings(), "_hf_hook", None)
    return torch.device(getattr(hook, "execution_device", None) or "cpu")


def at_readout(hidden: Float[Tensor, "prompt pos d_model"], prompts: Sequence[Rendered]) -> Float[Tensor, "prompt d_model"]:
    """The hidden states at the readout positions of right-padded prompts, on the CPU."""
    last = torch.tensor([prompt.readout_position for prompt in prompts], device=hidden.device)
    return hidden[torch.arange(len(prompts), device=hidden.device), last].float().cpu()


def _stop_when_all(seen: Mapping[tuple[str, int], Tensor], points: Mapping[tuple[str, int], HookPoint]):
    """Hooks that end the forward pass once every point was read. Which site of a block comes last differs between architectures;
    hooks at one point run in the order they were made, so these come after the readers."""

    def stop(_: Tensor) -> Tensor:
        if len(seen) == len(points):
            raise _Done
        return torch.empty(0)  # nothing of it is kept

    last = max(layer for _, layer in points)
    return record({place: point for place, point in points.items() if place[1] == last}, keep=stop)


def check_finite(values: Tensor, model: str, items: Sequence[str], layers: Sequence[int], columns: Sequence[str]) -> None:
    """Raise, naming the place, when a recorded value is NaN or infinite."""
    if bool(torch.isfinite(values.sum())):  # cheap, and an infinite sum of finite values is no harm: the next line looks closer
        return
    bad = (~torch.isfinite(values)).any(dim=-1).nonzero()
    if len(bad):
        prompt, layer, role = min(bad.tolist(), key=lambda place: place[1])
        raise not_finite(model, layers[layer], columns[role], items[prompt])


def not_finite(model: str, layer: int, role: str, item_id: str) -> MechdriftError:
    return MechdriftError(
        f"the {model} model produced a NaN or infinite activation at layer {layer}, role {role}, item {item_id}: "
        "its weights are damaged, or its numbers overflow at this dtype."
    )
