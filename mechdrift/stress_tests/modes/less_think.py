"""LessThink: one fixed short thought in the place of the model's own (Jiang et al. 2025, SafeChain)."""

from mechdrift.stress_tests.fillers import HURRY
from mechdrift.stress_tests.mode import Attack, Mode, Subject
from mechdrift.stress_tests.modes.zero_think import restored


def short_thought(subject: Subject, dose: float) -> Attack:
    return subject.give(subject.encode(HURRY), is_whole=True)


LESS_THINK = Mode(
    name="less-think",
    what="the thought is one sentence, which says that little thinking is needed",
    paper="Jiang et al. 2025, SafeChain, arXiv 2502.12025",
    apply=short_thought,
    placebo=restored,
    placebo_name="the model's own thought, given back",
    place="thinking",
    needs=("own",),
)
