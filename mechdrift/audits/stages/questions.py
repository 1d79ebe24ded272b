"""What an audit asks: probe sets, their variants, everyday requests and reasoning tasks."""

from collections.abc import Sequence
from dataclasses import replace

from mechdrift.audits.plan import AuditPlan
from mechdrift.behaviour.dimensions.registry import dimension_of
from mechdrift.behaviour.labels import everyday_set, variant_of
from mechdrift.behaviour.tasks import held_out
from mechdrift.behaviour.two_stages import Question
from mechdrift.probes.benchmarks.loading import subset
from mechdrift.probes.sets import load_everyday
from mechdrift.records import ProbeSet


def asked_of(plan: AuditPlan) -> tuple[Sequence[ProbeSet], Sequence[ProbeSet]]:
    """The probe sets, and what is asked beside them."""
    return tuple(plan.sets.values()), (*variants_of(plan).values(), everyday_requests(plan))


def task_questions(plan: AuditPlan) -> list[Question]:
    """The held-out reasoning tasks."""
    return [Question(id=f"task-{index}", prompt=task.question) for index, task in enumerate(held_out(plan.size.tasks))]


def everyday_requests(plan: AuditPlan) -> ProbeSet:
    """Everyday requests, evenly over their families; none where no dimension asks them."""
    requests = everyday_set(load_everyday())
    if not any(dimension_of(name).asks_everyday for name in plan.sets):
        return replace(requests, items=())
    return subset(requests, plan.size.pairs, plan.seed)


def variants_of(plan: AuditPlan) -> dict[tuple[str, str], ProbeSet]:
    """The items that are asked a second time, in other words, by dimension and variant."""
    return {
        (name, variant): variant_of(probes.sample(plan.size.variants, plan.seed), variant)
        for name, probes in plan.sets.items()
        for variant in dimension_of(probes.dimension).variants
    }
