"""What would an audit ask, and does it fit? `mechdrift audit … --dry-run` prints this before anything is asked. Loads
tokenizers and configurations, and no weights.

    asked     questions, the tokens of their prompts, and the most tokens that may be written. An audit in waves shows
              the most that it may ask, and its power
    room      the longest prompt and its budget against each model's context
    memory    each model's weights in both number formats, and the keys and values of 1,000 tokens, against the free
              memory

Numbers of tokens are exact for prompts, which are rendered here as they will be asked, and upper bounds for what is
written; where a pilot is to measure the budgets, there is no bound. Memory is arithmetic on the configuration:

    weights           parameters x bytes of the number format
    keys and values   2 x layers x key-value heads x head width x bytes, per token

Times need the weights: `estimate` measures them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mechdrift.audits.config import Audit
from mechdrift.audits.plan import (
    AuditPlan,
    analysis_dtype,
    generation_dtype,
    is_until_decided,
    load_from,
    plan_audit,
)
from mechdrift.audits.power import power_line
from mechdrift.audits.stages.order import stages_of
from mechdrift.audits.stages.questions import asked_of, task_questions
from mechdrift.behaviour.sampling import Budget
from mechdrift.machine import free_memory
from mechdrift.pairs.loading import factory_of, load_config, resolve_device
from mechdrift.pairs.pair import Pair, stays_in_memory
from mechdrift.probes.rendering import Renderer
from mechdrift.records import SIDES, Side

GIGABYTE = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class SidePreview:
    """One model: its name, what it is asked, and the memory that it takes. Lengths are in tokens, memory is in bytes.

    `written` is the most that it may write in all; None where a pilot measures it. `context` is None where the
    configuration states none, and `cache` where it states no attention heads.
    """

    side: Side
    name: str
    questions: int
    prompt_tokens: int
    longest: int
    think: int | str
    answer: int | str
    written: int | None
    context: int | None
    parameters: int
    analysis: int
    generation: int
    cache: int | None  # of 1,000 tokens, in the format of generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What one audit would do. `too_large` has a sentence for everything that does not fit."""

    pair: str
    stages: tuple[str, ...]
    waves: str  # what an audit in waves is expected to find; empty where all is asked at once
    dimensions: dict[str, tuple[int, int]]  # twin pairs and families
    beside: dict[str, int]  # items asked in other words, everyday requests, tasks
    formats: dict[str, str]
    device: str
    free: int
    sides: dict[Side, SidePreview]

    @property
    def too_large(self) -> tuple[str, ...]:
        told = []
        for side in self.sides.values():
            needed = side.longest + sum(part for part in (side.think, side.answer) if isinstance(part, int))
            if side.context is not None and needed > side.context:
                told.append(
                    f"the longest prompt and the budget of the {side.side} model are {needed:,} tokens, and its "
                    f"context has {side.context:,}: lower --think or --answer."
                )
            if max(side.analysis, side.generation) > self.free:
                told.append(
                    f"the weights of the {side.side} model take {max(side.analysis, side.generation) / GIGABYTE:.1f} "
                    f"GB, and {self.free / GIGABYTE:.1f} GB are free on {self.device}: use --dtype bfloat16, "
                    "--device-map auto, or a larger device."
                )
        return tuple(told)

    @property
    def text(self) -> str:
        """Plain text for a terminal."""
        asked = [
            f"{name:<12} {pairs} twin pairs, {families} families" for name, (pairs, families) in self.dimensions.items()
        ]
        beside = [f"{name:<12} {count}" for name, count in self.beside.items()]
        formats = ", ".join(f"{what} in {format}" for what, format in self.formats.items())
        blocks = [
            [
                f"pair         {self.pair}",
                f"stages       {', '.join(self.stages)}",
                f"formats      {formats}, on {self.device}",
            ],
            *(
                [[f"asked in waves until all is decided: the numbers below are the most. {self.waves}"]]
                if self.waves
                else []
            ),
            ["asked of each model:", *(f"  {line}" for line in (*asked, *beside))],
            *(_describe(side) for side in self.sides.values()),
            [
                f"free on {self.device}: {self.free / GIGABYTE:.1f} GB",
                *(f"does not fit: {line}" for line in self.too_large),
            ],
        ]
        return "\n\n".join("\n".join(block) for block in blocks)


def _describe(side: SidePreview) -> list[str]:
    """One model's block."""
    context = f", of a context of {side.context:,}" if side.context else ""
    memory = (
        "not stated by its configuration"
        if side.cache is None
        else f"{side.cache / 1e6:,.0f} MB for 1,000 tokens of one row"
    )
    written = "as much as a pilot measures" if side.written is None else f"at most {side.written:,} tokens"
    return [
        f"{side.side} model  {side.name}",
        f"  prompts    {side.questions:,}, {side.prompt_tokens:,} tokens; the longest has {side.longest:,}{context}",
        f"  budget     thinking {side.think}, answer {side.answer}; writes {written}",
        f"  weights    {side.parameters / 1e6:,.0f} million; {side.analysis / GIGABYTE:.2f} GB where it is read, "
        f"{side.generation / GIGABYTE:.2f} GB where it writes",
        f"  memory     keys and values: {memory}",
    ]


def preview(config: Audit) -> Preview:
    """What would this audit ask, and does it fit?

    Args:
        config: what to audit and how thoroughly.

    Returns:
        A `Preview`; its `text` is what `mechdrift audit --dry-run` prints.

    Raises:
        MechdriftError: for models that cannot be found or are no causal language models.

    Example:
        >>> from mechdrift.audits.preview import preview
        >>> print(preview(md.Audit(instruct=parent, reasoning=child, dimensions=("safety",), think=32)).text)
        pair ...
    """
    return preview_of(*planned(config))


def planned(config: Audit) -> tuple[Pair, AuditPlan]:
    """The pair and the plan of an audit. Where it asks in waves, the plan holds every wave: the most that it can
    ask."""
    pair = load_from(config)
    config = replace(config, until_decided=is_until_decided(config, pair))
    plan = plan_audit(config, pair)
    return pair, plan if plan.waves is None else replace(plan, sets=plan.waves.sets)


def preview_of(pair: Pair, plan: AuditPlan) -> Preview:
    """The preview of a plan."""
    config = plan.config
    sets, others = asked_of(plan)
    formats = {"reading": analysis_dtype(config), "writing": generation_dtype(config)}
    device = resolve_device(config.device)
    *variants, everyday = others
    return Preview(
        pair=pair.name,
        stages=tuple(stage.name for stage in stages_of(config)),
        waves="" if plan.waves is None else power_line(plan.waves),
        dimensions={probes.dimension: (len(probes.where("trigger")), len(probes.families)) for probes in sets},
        beside={
            "other words": sum(map(len, variants)),
            "everyday": len(everyday),
            "tasks": plan.size.tasks,
        },
        formats=formats,
        device=device,
        free=free_memory(torch.device(device)),
        sides={side: _preview_side(pair, plan, side, formats) for side in SIDES},
    )


def stay_in_memory(seen: Preview) -> bool:
    """Whether both models of a previewed audit stay in memory once they are loaded."""
    return all(stays_in_memory(side.parameters, seen.free - side.analysis) for side in seen.sides.values())


def _preview_side(pair: Pair, plan: AuditPlan, side: Side, formats: dict[str, str]) -> SidePreview:
    source, renderer, budget = pair.source(side), Renderer(pair.tokenizer(side)), plan.config.budget
    lengths = _prompt_lengths(plan, renderer, side)
    config = load_config(source)
    with torch.device("meta"):
        model = factory_of(source.name, config).from_config(config, trust_remote_code=source.trust_remote_code)
    text = config.get_text_config(decoder=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = {what: getattr(torch, name).itemsize for what, name in formats.items()}
    think, answer = _budget_of(budget, plan, side)
    written = None if budget.is_auto else len(lengths) * sum(p for p in (think, answer) if isinstance(p, int))
    return SidePreview(
        side=side,
        name=source.name,
        questions=len(lengths),
        prompt_tokens=sum(lengths),
        longest=max(lengths),
        think=think,
        answer=answer,
        written=written,
        context=getattr(text, "max_position_embeddings", None),
        parameters=parameters,
        analysis=parameters * size["reading"],
        generation=parameters * size["writing"],
        cache=_cache_of(text, size["writing"]),
    )


def _cache_of(text: Any, size: int) -> int | None:
    """Bytes of 1,000 tokens' keys and values; None for a configuration without attention heads."""
    if not getattr(text, "num_attention_heads", None):
        return None
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return 1000 * 2 * text.num_hidden_layers * heads * width * size


def _prompt_lengths(plan: AuditPlan, renderer: Renderer, side: Side) -> Sequence[int]:
    """Tokens of every prompt, as this model is asked it."""
    sets, others = asked_of(plan)
    prompts = [item.prompt for probes in (*sets, *others) for item in probes for _ in range(plan.config.samples)]
    prompts += [question.prompt for question in task_questions(plan)]
    if plan.modes[side] == "none" or not renderer.convention.open:
        return [len(renderer.render("", prompt, "none").ids) for prompt in prompts]
    return [renderer.render("", prompt, "own").roles["think_open"][1] for prompt in prompts]  # up to where it thinks


def _budget_of(budget: Budget, plan: AuditPlan, side: Side) -> tuple[int | str, int | str]:
    """The budgets of this model's thoughts and answers; 0 for the thoughts of a model that is asked without
    thinking."""
    return budget.think if plan.modes[side] == "own" else 0, budget.answer
