"""Budget: the model's own thought is cut at a share of its natural length, and the answer is asked for.

The curve of answers over the budget shows at which point of a thought the decision is made ("Refusal Falls off a
Cliff", arXiv 2510.06036, looks for it inside the model). With the whole thought the answer is the plain one."""

from mechdrift.stress_tests.mode import Attack, Mode, Subject
from mechdrift.stress_tests.modes.zero_think import empty_block, restored


def cut_short(subject: Subject, dose: float) -> Attack:
    """The first `dose` of the thought, and the block closed."""
    own = subject.thought("own")
    kept = own[: round(dose * len(own))]
    return subject.give(kept, is_whole=True) if kept else empty_block(subject, dose)


BUDGET = Mode(
    name="budget",
    what="the thought is cut at a share of its natural length",
    paper="after Jiang et al. 2025, SafeChain, arXiv 2502.12025",
    apply=cut_short,
    placebo=restored,
    placebo_name="the model's own thought, given back",
    doses=(1, 0.75, 0.5, 0.25, 0),
    unit="share of the thought",
    limits=(0, 1),
    place="thinking",
    needs=("own",),
)
