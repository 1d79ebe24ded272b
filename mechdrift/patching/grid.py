"""Where does the change act? Copy the donor's activations into the recipient, cell by cell, on the same tokens.

For each layer and role, the recipient is run with its residual stream replaced by the donor's at that role's positions, and the
readout at the first answer position is compared with the unpatched one:

    effect = readout(recipient with cell from donor) - readout(recipient)
    recovery = mean effect / mean (readout(donor) - readout(recipient))

instruct → reasoning shows what restores the parent's behaviour, reasoning → instruct what breaks it. Residual patches show what
*passes through* a cell; that a layer lights up does not say the change *originates* there. The tokens are the same for both models
(the reasoning model's rendering), so nothing has to be aligned. Steps: record the donor; run the recipient; check that patching
the recipient with its own activations changes nothing; sweep.

Cross-model activation patching: Prakash et al. 2024, https://arxiv.org/abs/2402.14811 (there on attention heads).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdrift.capture import Batch, not_finite, pad, role_columns, role_span
from mechdrift.hooks import edit, record
from mechdrift.pairs import LanguageModel, Pair
from mechdrift.patching.replay import Recipient, run_recipient, sweep_layers
from mechdrift.probes import Renderer, render_items
from mechdrift.progress import progress
from mechdrift.readouts import Readout, make_readout
from mechdrift.records import ROUNDING, MechdriftError, PatchGrid, ProbeSet, Rendered, Side, ThinkMode

DEFAULT_ROLES = ("user", "template_tail", "think_open", "think_close")
PROMPTS_PER_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _PromptBatch:
    """Prompts of similar length, left-padded, with the columns that each role occupies in each of them."""

    rendered: tuple[Rendered, ...]
    batch: Batch

    def spans(self, column: str) -> list[tuple[int, int]]:
        pairs = zip(self.rendered, self.batch.offsets, strict=True)
        return [(offset + start, offset + stop) for prompt, offset in pairs for start, stop in [role_span(prompt, column)]]


def patch(
    pair: Pair,
    probes: ProbeSet,
    *,
    donor: Side = "instruct",
    recipient: Side = "reasoning",
    site: str = "resid_pre",
    roles: Sequence[str] = DEFAULT_ROLES,
    layers: Sequence[int] | None = None,
    think: ThinkMode = "off",
    readout: Readout | None = None,
    engine: str = "auto",
) -> PatchGrid:
    """Effect of every (layer, role) cell on the recipient's readout, `[prompt, layer, role]` in log-odds.

    `probes` may hold trigger and neutral items. `engine`: `replay` (exact and fast, for `resid_pre`), `forward` (one full pass
    per cell, any site but `resid_mid`), or `auto`. Raises `MechdriftError` when a model patched with itself changes.
    """
    renderer = Renderer(pair.tokenizer("reasoning"))
    readout = readout or make_readout(renderer, probes)
    rendered = render_items(renderer, probes.items, think)
    columns = role_columns(rendered, roles)
    pad_id = pair.tokenizer("reasoning").pad_token_id or 0
    groups = list(_group(rendered, pad_id))
    fast = _is_fast(engine, site)
    wanted = tuple(sorted(set(layers))) if layers is not None else tuple(range(pair.open(donor).n_layers))
    donated, donor_logits = _run_donor(pair.open(donor), donor, groups, site, wanted)
    loaded = pair.open(recipient)
    sweep = _Sweep(loaded=loaded, site=site, layers=wanted, columns=columns, readout=readout, fast=fast)
    identity_error = _self_test(sweep, recipient, next(_group(groups[0].rendered[:1], pad_id)))
    effect = np.empty((len(probes), len(wanted), len(columns)))
    before, after = np.empty(len(probes)), np.empty(len(probes))
    index = {item.id: row for row, item in enumerate(probes)}
    with progress(f"Patching {probes.name}, {donor} into {recipient}", len(probes)) as advance:
        for group, activations, logits in zip(groups, donated, donor_logits, strict=True):
            rows = [index[prompt.item_id] for prompt in group.rendered]
            effect[rows], before[rows] = sweep.run(group, activations)
            after[rows] = [readout.of(row, prompt.item_id) for row, prompt in zip(logits, group.rendered, strict=True)]
            advance(len(rows))
    return PatchGrid(
        dimension=probes.dimension, donor=donor, recipient=recipient, site=site, think=think, layers=wanted, roles=columns,
        items=probes.items, effect=effect, recipient_readout=before, donor_readout=after, identity_error=identity_error,
    )  # fmt: skip


def _is_fast(engine: str, site: str) -> bool:
    if site == "resid_mid":  # it is read at the second norm, past the point where the stream forks off
        raise MechdriftError("resid_mid can be recorded but not patched: patch attn_out, or resid_pre of the next layer.")
    if engine == "replay" and site != "resid_pre":
        raise MechdriftError(f"the replay engine patches resid_pre, not {site!r}: use engine='forward'.")
    if engine not in ("auto", "replay", "forward"):
        raise MechdriftError(f"unknown engine {engine!r}: use 'auto', 'replay' or 'forward'.")
    return engine != "forward" and site == "resid_pre"


def _group(rendered: Sequence[Rendered], pad_id: int) -> Iterator[_PromptBatch]:
    ordered = sorted(rendered, key=lambda prompt: len(prompt.ids))
    for start in range(0, len(ordered), PROMPTS_PER_BATCH):
        part = tuple(ordered[start : start + PROMPTS_PER_BATCH])
        yield _PromptBatch(rendered=part, batch=pad([prompt.ids for prompt in part], pad_id, side="left"))


@torch.inference_mode()
def _run_donor(
    loaded: LanguageModel, side: Side, groups: Sequence[_PromptBatch], site: str, layers: Sequence[int]
) -> tuple[list[dict[int, Float[Tensor, "prompt pos width"]]], list[Float[Tensor, "prompt vocab"]]]:
    """The donor's activations per batch and layer, and its logits at the readout position, all on the CPU."""
    activations, logits = [], []
    points = {layer: loaded.structure.hook_point(site, layer) for layer in layers}
    for group in groups:
        with record(points, keep=lambda tensor: tensor.detach().cpu()) as seen:
            hidden = loaded.model.base_model(**group.batch.forward_arguments(loaded.device), use_cache=False).last_hidden_state
        _check_finite(seen | {loaded.n_layers - 1: hidden.cpu()}, side, group)
        activations.append(dict(seen))
        logits.append(loaded.structure.unembed(hidden[:, -1]).float().cpu())
    return activations, logits


def _check_finite(seen: dict[int, Tensor], side: Side, group: _PromptBatch) -> None:
    """Raise, naming the place, when a real token's activation is NaN or infinite."""
    for layer, values in seen.items():
        bad = (~values.isfinite()).flatten(2).any(dim=2) & group.batch.mask.bool()
        if bad.any():
            row, position = bad.nonzero()[0].tolist()
            prompt, position = group.rendered[row], position - group.batch.offsets[row]
            role = next(role for role, (start, stop) in prompt.roles.items() if start <= position < stop)
            raise not_finite(side, layer, role, prompt.item_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sweep:
    """One recipient and the cells to patch in it."""

    loaded: LanguageModel
    site: str
    layers: tuple[int, ...]
    columns: tuple[str, ...]
    readout: Readout
    fast: bool

    @torch.inference_mode()
    def run(
        self, group: _PromptBatch, donated: dict[int, Tensor]
    ) -> tuple[Float[np.ndarray, "prompt layer role"], Float[np.ndarray, " prompt"]]:
        """Effects of all cells on one batch of prompts, and the unpatched readouts."""
        recipient = run_recipient(self.loaded, group.batch) if self.fast else None
        if recipient:
            unpatched = recipient.final
        else:
            arguments = group.batch.forward_arguments(self.loaded.device)
            unpatched = self.loaded.model.base_model(**arguments, use_cache=False).last_hidden_state[:, -1]
        before = self._read(unpatched[:, None], group)
        effect = np.empty((len(group.rendered), len(self.layers), len(self.columns)))
        for index, column in enumerate(self.columns):
            spans = group.spans(column)
            final = self._replay(recipient, spans, donated) if recipient else self._forward(group, spans, donated)
            effect[:, :, index] = self._read(final, group) - before
        return effect, before[:, 0]

    def _replay(self, recipient: Recipient, spans: list[tuple[int, int]], donated: dict[int, Tensor]) -> Tensor:
        start = min(first for first, _ in spans)
        keep = _outside(spans, start, recipient.mask.shape[1]).to(recipient.mask.device)

        def patched(layer: int, prompts: Int[Tensor, " prompt"]) -> Tensor:
            own = recipient.residual[layer][prompts, start:]
            given = donated[layer][prompts, start:].to(own)
            return torch.where(keep[prompts], own, given)

        return sweep_layers(recipient, start, patched, self.layers)

    def _forward(self, group: _PromptBatch, spans: list[tuple[int, int]], donated: dict[int, Tensor]) -> Tensor:
        """The naive way, and the oracle of the fast one: one full forward pass per layer."""
        keep = _outside(spans, 0, group.batch.ids.shape[1]).to(self.loaded.device)
        finals = []
        for layer in self.layers:
            given = donated[layer].to(self.loaded.device)
            point = self.loaded.structure.hook_point(self.site, layer)
            with edit({point: lambda own, given=given: torch.where(keep, own, given.to(own))}):
                arguments = group.batch.forward_arguments(self.loaded.device)
                finals.append(self.loaded.model.base_model(**arguments, use_cache=False).last_hidden_state[:, -1])
        return torch.stack(finals, dim=1)

    def _read(self, final: Float[Tensor, "prompt layer d_model"], group: _PromptBatch) -> Float[np.ndarray, "prompt layer"]:
        readouts = []
        for rows, prompt in zip(final, group.rendered, strict=True):
            logits = self.loaded.structure.unembed(rows).float().cpu()  # a prompt at a time: a vocabulary is long
            readouts.append([self.readout.of(row, prompt.item_id) for row in logits])
        return np.array(readouts)


def _outside(spans: list[tuple[int, int]], start: int, width: int) -> Tensor:
    """`[prompt, suffix, 1]`: True where a position of `start:` lies outside its prompt's span."""
    keep = torch.ones(len(spans), width - start, 1, dtype=torch.bool)
    for row, (first, stop) in enumerate(spans):
        keep[row, first - start : stop - start] = False
    return keep


def _self_test(sweep: _Sweep, side: Side, group: _PromptBatch) -> float:
    """A recipient patched with its own activations must not change; returns the largest change, raises if it is real.

    Every role, one prompt, and the first, middle and last layer: a fault of the machinery shows there, at little cost.
    """
    first, middle, last = sweep.layers[0], sweep.layers[len(sweep.layers) // 2], sweep.layers[-1]
    sweep = replace(sweep, layers=tuple(dict.fromkeys((first, middle, last))))
    own, _ = _run_donor(sweep.loaded, side, [group], sweep.site, sweep.layers)
    effect, _ = sweep.run(group, own[0])
    worst = float(np.abs(effect).max())
    if not worst <= ROUNDING:
        _, layer, role = np.unravel_index(int(np.abs(effect).argmax()), effect.shape)
        raise MechdriftError(
            f"identity self-test failed: patching {sweep.loaded.source.name} with itself at layer {sweep.layers[layer]}, role "
            f"{sweep.columns[role]}, changes the readout by {worst:.1e}; no grid is computed."
        )
    return worst
