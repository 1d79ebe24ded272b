"""What a cell costs, before anything runs: tokens that are read and written, and bytes of memory.

    asking      prompts, and what may be written: the budget of every question
    states      every prompt of the probe sets with its answer, once; the instruct model twice
    pair        the longest prompts of each dimension
    kl          prompt and answer of `size.kl` twin pairs, in both models
    drift       prompt and answer of every item in both models, `size.thinking` thoughts of each dimension, and the
                prompts that a direction is selected and steered on
    readouts    nothing is read: stored states are unembedded
    patch       `size.patched` prompts in both models, and the cells of the grid; each is computed from the patched
                layer on, on average half of a pass

    memory      weights in the cell's number format; and where answers are written, keys and values of 16 rows of the
                longest prompt with its budget (of one row, where that is all that fits, it still runs)

All numbers are upper bounds; those that depend on a pilot's budgets are not known before it. The models' configurations
and tokenizers are read once per pair, and no weights.
"""

from dataclasses import dataclass, field
from typing import Any

from mechdrift.audits.config import PRESETS, Audit
from mechdrift.audits.preview import Preview, SidePreview, preview
from mechdrift.records import MechdriftError

ROWS = 16
ROLES = 5  # positions that a grid patches: the template's tail
STEERING_PASSES = 60  # passes over the steered prompts: candidates, layers and strengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The costs of one audit, by step. Empty where the models' files cannot be read here; `why` then says why."""

    tokens: dict[str, int | None] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    why: str = ""


def known_costs(config: Audit) -> Costs:
    """The costs of an audit's steps; only the reason where its models cannot be read here."""
    try:
        return costs_from(config, preview(config))
    except MechdriftError as error:
        return Costs(why=str(error))


def costs_from(config: Audit, seen: Preview) -> Costs:
    """The costs by the formulas of this module."""
    size, layers = PRESETS[config.preset], 32 // max(1, PRESETS[config.preset].layer_step)
    items = 2 * sum(pairs for pairs, _ in seen.dimensions.values())
    dimensions = len(seen.dimensions)
    each = {side: one.prompt_tokens / max(1, one.questions) for side, one in seen.sides.items()}
    told = {side: each[side] + _number(one.think) + _number(one.answer) for side, one in seen.sides.items()}
    answered = sum(each.values()) + 2 * _number(seen.sides["instruct"].answer)  # both read what the parent answered
    followed = min(2 * size.thinking * dimensions, items)
    steered = STEERING_PASSES * 2 * size.steered if "safety" in seen.dimensions else 0
    patched = 2 * dimensions * min(size.patched, items) * (1 + layers * ROLES / 2)
    tokens: dict[str, int | None] = {
        "pair": int(8 * dimensions * sum(each.values())),
        "pilot": None,
        "kl": int(min(2 * size.kl * dimensions, items) * answered),
        "drift": int(items * answered + followed * 2 * told["reasoning"] + steered * sum(each.values())),
        "readouts": 0,
        "patch": int(patched * sum(each.values())),
    }
    for side, one in seen.sides.items():
        tokens[f"ask-{side}"] = None if one.written is None else one.prompt_tokens + one.written
        tokens[f"states-{side}"] = int(items * told[side] * (2 if side == "instruct" else 1))
    whole = [count for step, count in tokens.items() if step != "pilot"]
    tokens["audit"] = None if None in whole else sum(count or 0 for count in whole)
    return Costs(tokens=tokens, memory=_memory(seen))


def _memory(seen: Preview) -> dict[str, int]:
    reading = max(one.analysis for one in seen.sides.values())
    memory = dict.fromkeys(("pair", "kl", "drift", "readouts", "patch"), reading)
    for side, one in seen.sides.items():
        memory[f"ask-{side}"] = one.generation + _keys_and_values(one)
        memory[f"states-{side}"] = one.generation
    memory["pilot"] = max(memory["ask-instruct"], memory["ask-reasoning"])
    memory["audit"] = max(memory.values())
    return memory


def _keys_and_values(side: SidePreview) -> int:
    longest = side.longest + _number(side.think) + _number(side.answer)
    return int(ROWS * longest * (side.cache or 0) / 1000)


def _number(budget: int | str) -> int:
    return budget if isinstance(budget, int) else 0


def costs_of(costs: Costs, step: str, share: float) -> dict[str, Any]:
    """Tokens and memory of a share of one step."""
    tokens = costs.tokens.get(step)
    return {"tokens": None if tokens is None else int(tokens * share), "memory": costs.memory.get(step)}
