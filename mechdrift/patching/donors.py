"""What the two models read while a grid is made, and whose activations are copied.

Both models read the same tokens, the reasoning model's rendering, so that nothing has to be aligned. The think mode
says what is in the think block before the readout:

    none    no block                     own     the recipient's own thinking, of `answers`
    off     an empty block               donor   the donor model's thinking, teacher-forced

A model that did not think (an instruct model, as it is normally used) has an empty block in the modes `own` and
`donor`. The `source` says where the donor's values are taken from:

    same       the same prompt
    twin       the item's twin: harmful ↔ harmless within one model (donor = recipient), or across both
    unrelated  a placebo: the prompt of another family, of the same contrast, that is closest in length
    random     a placebo: the recipient's own values plus a random vector, as long as the donor's difference there

Prompts of different length are aligned by role: the last tokens of a role correspond, as many as the shorter one has.
The recipient's other tokens keep their own values.
"""

import zlib
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mechdrift.activations.prompts import Answers
from mechdrift.probes.rendering import Renderer
from mechdrift.records import Completions, MechdriftError, ProbeSet, Rendered, Side, ThinkMode

SOURCES = ("same", "twin", "unrelated", "random")


def render_prompts(
    renderer: Renderer, probes: ProbeSet, think: ThinkMode, answers: Answers | None, donor: Side, recipient: Side
) -> list[Rendered]:
    """Each prompt up to where the answer begins, with the thinking that the mode asks for."""
    if think not in ("own", "donor"):
        return [renderer.render(item.id, item.prompt, think) for item in probes]
    thinking = _thinking(answers, donor if think == "donor" else recipient, think)
    if lacking := [item.id for item in probes if item.id not in thinking]:
        raise MechdriftError(
            f"{len(lacking)} of {len(probes)} items have no answer, such as {lacking[0]}: leave them out of the "
            "probe set."
        )
    return [
        renderer.render(item.id, item.prompt, think if thinking[item.id] else "off", thinking=thinking[item.id])
        for item in probes
    ]


def _thinking(answers: Answers | None, side: Side, think: ThinkMode) -> dict[str, tuple[int, ...]]:
    given = answers if answers is None or isinstance(answers, Completions) else answers.get(side)
    if given is None or given.side != side:
        raise MechdriftError(
            f"think={think!r} puts the {side} model's thinking before the answer: give its completions, "
            f"answers=md.generate(pair, probes, side={side!r})."
        )
    return {row.item_id: row.thinking_ids for row in given.first}


def source_prompts(probes: ProbeSet, rendered: Sequence[Rendered], source: str) -> list[Rendered]:
    """The prompt that the donor reads for each prompt of the recipient."""
    if source not in SOURCES:
        raise MechdriftError(f"unknown source {source!r}: use one of {', '.join(SOURCES)}.")
    if source in ("same", "random"):
        return list(rendered)
    by_id = {prompt.item_id: prompt for prompt in rendered}
    if source == "unrelated":
        return [_unrelated(probes, by_id, prompt) for prompt in rendered]
    if lacking := [item.id for item in probes if item.twin not in by_id]:
        raise MechdriftError(
            f"{lacking[0]} has no twin among the prompts: source='twin' needs both contrasts of a probe set."
        )
    return [by_id[item.twin] for item in probes]


def _unrelated(probes: ProbeSet, by_id: Mapping[str, Rendered], prompt: Rendered) -> Rendered:
    item = probes[prompt.item_id]
    others = [by_id[other.id] for other in probes if other.family != item.family and other.contrast == item.contrast]
    if not others:
        raise MechdriftError(
            f"no other family has a prompt to take the place of {item.id}: source='unrelated' needs two families."
        )
    return min(others, key=lambda other: (abs(len(other.ids) - len(prompt.ids)), other.item_id))


def randomised(
    own: Float[Tensor, "span width"], given: Float[Tensor, "span width"], parts: int, name: str
) -> Float[Tensor, "span width"]:
    """`own` plus a random vector as long as the difference `given - own`; with `parts` heads side by side, each head's
    part is as long as that head's difference.

    The same `name` (item, layer and position) draws the same vector.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(given.shape, generator=generator).unflatten(-1, (parts, -1))
    length = (given - own).float().unflatten(-1, (parts, -1)).norm(dim=-1, keepdim=True)
    return own + (noise / noise.norm(dim=-1, keepdim=True) * length).flatten(-2).to(own)
