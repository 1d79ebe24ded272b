"""What was compared, as rows for the part "Method and provenance": the two models' facts, lineage, prompts asked."""

from collections.abc import Mapping
from typing import Any

from mechdrift.records import SIDES
from mechdrift.records.notebook import counted
from mechdrift.report.templating import flat
from mechdrift.report.words import DASH, dimension_name, number


def facts_of(pair: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The pair audit side by side: a name and the two models' values."""
    facts = pair.get("facts", {})
    names = dict.fromkeys(name for side in SIDES for name in facts.get(side, {}))
    return [(name.replace("_", " "), [flat(facts.get(side, {}).get(name, DASH)) for side in SIDES]) for name in names]


def lineage_of(pair: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the child's descent from the parent."""
    same = pair.get("same_tokens")
    return [
        ("parent named by the child", pair.get("stated_parent") or "none found"),
        ("prompts tokenised alike", DASH if same is None else number(same, share=True)),
    ]


def probes_of(probes: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """How many prompts and families of each set were asked."""
    return [(dimension_name(name), _asked(facts)) for name, facts in probes.items()]


def _asked(facts: Mapping[str, Any]) -> str:
    families = counted(facts["families"], "family", "families")
    return f"{facts['n']} of {facts.get('sampled_from', facts['n'])}, {families}"
