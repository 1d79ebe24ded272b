"""What is decided before a grid opens a model: what both models read, in which batches, and how it is read out.

`patch`, `attribute`, `graft` and `decompose` begin and end alike. They begin with a `GridPlan`: the prompts with the
thinking that the think mode requires, the prompts that the donor reads, the role columns, the readout, and the batches.
It needs both tokenizers and no weights. The donor is then run over the plan, and released before the recipient is
opened. The recipient is run batch by batch (`each_batch`), and the measurements become a `PatchGrid` (`measured`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mechdrift.activations.batching import check_padding
from mechdrift.activations.prompts import Answers, mean_the_same
from mechdrift.activations.readouts import Readout, make_readout
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair, give_back_memory
from mechdrift.patching.checks import check_tokens
from mechdrift.patching.donors import render_prompts, source_prompts
from mechdrift.patching.passes import PROMPTS_PER_BATCH, PromptBatch, prompt_batches
from mechdrift.probes.rendering import Renderer
from mechdrift.probes.roles import role_columns
from mechdrift.records import MechdriftError, PatchGrid, ProbeSet, Rendered, Side, ThinkMode, check_not_empty
from mechdrift.records.progress import progress

DEFAULT_ROLES = ("user", "template_tail", "think_open", "think[quarters]", "think_close")
EVERY_POSITION = "every_position"


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPlan:
    """The prompts of one grid, `rendered` in the order of `probes`, and in `batches` of similar length; `given` are the
    same prompts as the donor reads them."""

    probes: ProbeSet
    donor: Side
    recipient: Side
    think: ThinkMode
    source: str
    rendered: tuple[Rendered, ...]
    given: tuple[Rendered, ...]
    batches: tuple[PromptBatch, ...]
    columns: tuple[str, ...]
    readout: Readout

    def rows(self, batch: PromptBatch) -> list[int]:
        """The rows of a batch's prompts among the probes."""
        index = {item.id: row for row, item in enumerate(self.probes)}
        return [index[prompt.item_id] for prompt in batch.rendered]

    def each_batch(self, doing: str, loaded: LanguageModel) -> Iterator[tuple[list[int], PromptBatch]]:
        """Yields the batches, each with the rows of its prompts among the probes, under a progress bar. Raises where
        the model reads their padding."""
        for batch in self.batches:
            check_padding(loaded, batch.batch)
        with progress(f"{doing} {self.probes.name}, {self.donor} into {self.recipient}", len(self.probes)) as advance:
            for batch in self.batches:
                yield self.rows(batch), batch
                advance(len(batch.rendered))
        give_back_memory()

    def measured(self, **values: Any) -> PatchGrid:
        """The grid of this plan with what was measured."""
        return PatchGrid(
            dimension=self.probes.dimension,
            donor=self.donor,
            recipient=self.recipient,
            think=self.think,
            source=self.source,
            items=self.probes.items,
            **values,
        )


def plan_grid(
    pair: Pair,
    probes: ProbeSet,
    *,
    donor: Side,
    recipient: Side,
    think: ThinkMode = "off",
    answers: Answers | None = None,
    source: str = "same",
    roles: Sequence[str] | str | None = None,
    readout: Readout | None = None,
    per_batch: int = PROMPTS_PER_BATCH,
) -> GridPlan:
    """Render the prompts, check that their ids are the same tokens to both models, and put them into batches.

    The arguments are those of `patch`. Raises `MechdriftError` for unknown roles and sources, for missing thinking, and
    where the two tokenizers disagree about a token of the prompts.
    """
    check_not_empty(probes)
    renderer = Renderer(pair.tokenizer("reasoning"))
    rendered = given = render_prompts(renderer, probes, think, answers, donor, recipient)
    check_tokens(pair, rendered)
    if not mean_the_same(pair, rendered):  # each model reads its own template; cells correspond by role
        given, rendered = (
            render_prompts(Renderer(pair.tokenizer(side)), probes, think, answers, donor, recipient)
            for side in (donor, recipient)
        )
    columns = patch_columns(rendered if given is rendered else [*rendered, *given], roles)
    sources = source_prompts(probes, given, source)
    return GridPlan(
        probes=probes,
        donor=donor,
        recipient=recipient,
        think=think,
        source=source,
        rendered=tuple(rendered),
        given=tuple(given),
        batches=tuple(prompt_batches(rendered, renderer.tokenizer.pad_token_id or 0, sources, per_batch)),
        columns=columns,
        readout=readout or make_readout(renderer, probes),
    )


def patch_columns(rendered: Sequence[Rendered], roles: Sequence[str] | str | None) -> tuple[str, ...]:
    """The role columns of a grid: those asked for, or by default every role that all prompts have."""
    if roles == EVERY_POSITION:
        return _every_position(rendered)
    if roles is None:
        roles = [role for role in DEFAULT_ROLES if all(role.partition("[")[0] in prompt.roles for prompt in rendered)]
    return role_columns(rendered, roles)


def _every_position(rendered: Sequence[Rendered]) -> tuple[str, ...]:
    """One column per token, named by role; the roles must be equally long in all prompts."""
    first = rendered[0]
    for prompt in rendered:
        if prompt.roles != first.roles:
            raise MechdriftError(
                f"{first.item_id} and {prompt.item_id} differ in length ({len(first.ids)} and {len(prompt.ids)} "
                f"tokens, by role): roles={EVERY_POSITION!r} needs prompts of equal length."
            )
    spans = sorted(first.roles.items(), key=lambda role: role[1])
    return tuple(f"{role}[{position}]" for role, (start, stop) in spans for position in range(stop - start))
