"""ZeroThink: an empty think block, so that the model answers at once (Jiang et al. 2025, SafeChain)."""

from mechdrift.stress_tests.mode import Attack, Mode, Subject


def empty_block(subject: Subject, dose: float) -> Attack:
    """A block that is opened and closed with nothing in it, also where the template's switch would leave it out."""
    subject.check_thinks()
    if subject.renderer.convention.switch is None:
        return subject.ask(think="off")
    return subject.give((), is_whole=True)


def restored(subject: Subject, dose: float) -> Attack:
    """The model's own whole thought, given back to it and closed: nothing is taken away."""
    return subject.give(subject.thought("own"), is_whole=True)


ZERO_THINK = Mode(
    name="zero-think",
    what="the think block is empty",
    paper="Jiang et al. 2025, SafeChain, arXiv 2502.12025",
    apply=empty_block,
    placebo=restored,
    placebo_name="the model's own thought, given back",
    place="thinking",
    needs=("own",),
)
