"""Words put into the thinking: at its start, at its end, or when the judgement falls.

The words are a few sentences of the first person that say what to be careful about (`words.SENTENCES`); they name no
item of a probe set. The strength is how many of them are said; of `remind-falling` it is the level below which the
projection has to fall, after it was above (0: where neutral prompts lie, 1: where triggers do).

Thinking Intervention: Wu et al. 2025, https://arxiv.org/abs/2503.24370.
"""

from mechdrift.repairs.evidence import Evidence
from mechdrift.repairs.record import Repair
from mechdrift.repairs.words import SENTENCES, Words, reminder

PAPER = "Wu et al. 2025, https://arxiv.org/abs/2503.24370"


def at_start(evidence: Evidence, strength: float) -> Words:
    return Words(start=reminder(strength))


def at_end(evidence: Evidence, strength: float) -> Words:
    return Words(end=f" {reminder(strength)}")


def when_falling(evidence: Evidence, strength: float) -> Words:
    return Words(falling=f" {reminder(len(SENTENCES))}", falls_below=strength, read=evidence.projection)


def no_thinking(evidence: Evidence, strength: float) -> Words:
    return Words(think="off")


AT_START = Repair(
    name="remind-start",
    title="Words at the start of thinking",
    paper=PAPER,
    about="Begins every thought with a reminder.",
    needs=(),
    strengths=(1, 3),
    limits=(1, len(SENTENCES)),
    dose="sentences",
    tokens=at_start,
)
AT_END = Repair(
    name="remind-end",
    title="Words at the end of thinking",
    paper=PAPER,
    about="Ends every thought with a reminder.",
    needs=(),
    strengths=(1, 3),
    limits=(1, len(SENTENCES)),
    dose="sentences",
    tokens=at_end,
)
WHEN_FALLING = Repair(
    name="remind-falling",
    title="Words when the judgement falls",
    paper=f"{PAPER}; https://arxiv.org/abs/2601.03662",
    about="Puts a reminder into a thought whose projection on the parent's direction has fallen.",
    needs=("parent", "probes"),
    strengths=(0.25, 0.5, 0.75),
    limits=(-2.0, 2.0),
    dose="level of the projection",
    tokens=when_falling,
)
EMPTY = Repair(
    name="empty",
    title="Empty think block",
    paper="Jiang et al. 2025, https://arxiv.org/abs/2502.12025 (ZeroThink); a baseline",
    about="Asks without thinking: an empty block is prefilled.",
    needs=(),
    strengths=(1,),
    limits=(1, 1),
    dose="always",
    is_baseline=True,
    tokens=no_thinking,
)
