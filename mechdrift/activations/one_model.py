"""Activations of one model: `collect_one` records them in memory, or reads them from a folder of blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.prompts import render_with
from mechdrift.activations.recording import Recorded, check_finite, layer_numbers, record_roles, site_names, split_heads
from mechdrift.activations.to_disk import collect_to
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.roles import DEFAULT_ROLES, role_columns
from mechdrift.records import Completions, MechdriftError, ProbeSet, Rendered, ThinkMode


@dataclass(frozen=True, slots=True, kw_only=True)
class SideActivations:
    """One model's activations per site: `[prompt, layer, role, width]`, float32 on the CPU.

    `width` is `d_model`, except for sites inside attention and MLP. `readout` holds, if it was asked for, the final
    states at the readout positions, which the unembedding reads: `[prompt, d_model]`.
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
        """The heads of a site whose vectors concatenate them, such as `z`."""
        return split_heads(self.sites[site], self.n_heads)

    @property
    def frame(self) -> pd.DataFrame:
        """The norms, a row per prompt, layer, role and site: `item, layer, role, site, norm`."""
        index = pd.MultiIndex.from_product([self.items, self.layers, self.roles], names=["item", "layer", "role"])
        tables = [
            pd.DataFrame({"site": site, "norm": values.norm(dim=-1).numpy().reshape(-1)}, index=index).reset_index()
            for site, values in self.sites.items()
        ]
        return pd.concat(tables, ignore_index=True)


def collect_one(
    loaded: LanguageModel,
    prompts: ProbeSet | Sequence[Rendered],
    *,
    sites: str | Sequence[str] = ("resid_pre",),
    roles: str | Sequence[str] = DEFAULT_ROLES,
    layers: int | Sequence[int] | None = None,
    think: ThinkMode = "off",
    answers: Completions | None = None,
    readout: bool = False,
    store: str | Path | None = None,
) -> SideActivations:
    """Activations of one model, at one or several sites in one pass; the arguments are those of `collect`.

    A probe set is rendered through the model's own template, as `think` and `answers` say; rendered prompts are taken
    as they are.
    """
    if isinstance(prompts, ProbeSet):
        prompts = render_with(Renderer(loaded.tokenizer), prompts, think, answers)
    elif answers is not None or think != "off":
        raise MechdriftError(
            "rendered prompts already hold their thinking and answers: think= and answers= go with a probe set."
        )
    name = loaded.source.name
    kept = {"sites": site_names(sites), "layers": layers, "readout": readout, "store": store}
    return record_prompts(loaded, prompts, role_columns(prompts, roles), name=name, description=name, **kept)


def record_prompts(
    loaded: LanguageModel,
    prompts: Sequence[Rendered],
    columns: tuple[str, ...],
    *,
    sites: tuple[str, ...],
    layers: int | Sequence[int] | None,
    readout: bool,
    store: str | Path | None,
    name: str,
    description: str,
) -> SideActivations:
    """Activations of rendered prompts at the given role columns, recorded or, with `store`, read from its blocks.

    Raises `MechdriftError` where a value is not finite; the error calls the model `name`.
    """
    wanted, items = layer_numbers(loaded, layers), tuple(prompt.item_id for prompt in prompts)
    description = f"Recording {description}"
    if store is None:
        found = record_roles(loaded, prompts, sites, wanted, columns, description, readout)
    else:
        options = {"sites": sites, "roles": columns, "layers": wanted, "readout": readout}
        blocks = collect_to(store, loaded, prompts, **options, description=description)
        states = blocks.readout() if readout else None
        found = Recorded(sites={site: blocks.read(site) for site in sites}, readout=states)
    for values in found.sites.values():
        check_finite(values, name, items, wanted, columns)
    return SideActivations(
        model=loaded.source.name,
        items=items,
        layers=wanted,
        roles=columns,
        n_heads=loaded.structure.n_heads,
        sites=found.sites,
        readout=found.readout,
    )
