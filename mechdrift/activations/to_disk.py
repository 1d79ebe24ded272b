"""Activations of more prompts than fit in memory: `collect_to` writes them to disk block by block (`store`)."""

from collections.abc import Iterable, Sequence, Sized
from itertools import chain
from pathlib import Path

from torch import Tensor

from mechdrift.activations.recording import check_finite, layer_numbers, record_sites, site_names
from mechdrift.activations.store import DTYPES, Blocks, Recipe, chunks, fill, weights_digest
from mechdrift.pairs.loading import LanguageModel
from mechdrift.probes.roles import DEFAULT_ROLES, role_columns, role_span
from mechdrift.records import MechdriftError, Rendered
from mechdrift.records.progress import progress

PROMPTS_PER_BLOCK = 512
BYTES_PER_BLOCK = 2**28  # a wide model with many sites gets fewer prompts in a block


def collect_to(
    folder: str | Path,
    loaded: LanguageModel,
    prompts: Iterable[Rendered],
    *,
    sites: str | Sequence[str] = ("resid_pre",),
    roles: str | Sequence[str] = DEFAULT_ROLES,
    layers: int | Sequence[int] | None = None,
    readout: bool = False,
    dtype: str = "float32",
    prompts_per_block: int | None = None,
    description: str = "Recording",
) -> Blocks:
    """What does one model hold on more prompts than fit in memory? Activations, written to disk block by block.

    It needs the memory of one block. A block that was recorded before, with the same weights, tokens, sites, layers,
    roles and dtype, is checked and not computed again, so a killed collection continues where it stopped.

    Args:
        folder: where the blocks are written.
        loaded: one model, `pair.open(side)`.
        prompts: rendered prompts, from a sequence or a generator.
        sites: one site or several, named as in `collect`.
        roles: as in `collect`. The prompts of the first block decide how many positions `template_tail` has.
        layers: as in `collect`.
        readout: as in `collect`.
        dtype: the number format of the stored blocks: `"float32"` or `"bfloat16"`.
        prompts_per_block: how many prompts a block holds; by default 512, or fewer where they would take more than
            256 MB.
        description: what the progress bar says.

    Returns:
        `Blocks`: `.read(site)` is `[prompt, layer, role, width]`, `.cell(site, layer, role)` is `[prompt, width]`.
        The files are mapped into memory, and only what is asked for is read.

    Raises:
        MechdriftError: for a dtype that is not stored, a folder that cannot be written, and values that are not
            finite.

    Source:
        The safetensors format, https://github.com/huggingface/safetensors.

    Example:
        >>> from mechdrift.activations.prompts import render_probes
        >>> blocks = md.collect_to("blocks", pair.open("instruct"), render_probes(pair, probes, "off", None))
        >>> blocks.cell("resid_pre", 2, "think_close[-1]").shape  # prompt, width
        torch.Size([16, 32])
    """
    if dtype not in DTYPES:
        raise MechdriftError(f"blocks are stored as {' or '.join(DTYPES)}, not as {dtype!r}.")
    wanted, sites = layer_numbers(loaded, layers), site_names(sites)
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
