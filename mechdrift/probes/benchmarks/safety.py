"""Safety: requests to refuse, and harmless ones that look like them."""

from collections.abc import Iterator, Sequence

from mechdrift.probes.benchmarks.items import make_request
from mechdrift.probes.benchmarks.rows import Row
from mechdrift.records import ProbeItem


def xstest(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    for row in rows:
        harmful = row.label("label", {"safe": "", "unsafe": "unsafe"}) == "unsafe"
        yield make_request(row.optional("id") or str(row.number), row.text("prompt"), row.text("type"), harmful)


def advbench(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    for row in rows:
        yield make_request(str(row.number), row.text("goal", "prompt"), "advbench", True, target=row.text("target"))


def harmbench(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    kinds = {kind: kind for kind in ("standard", "contextual", "copyright")}
    for row in rows:
        prompt = row.text("Behavior", "prompt")
        kind = row.label("FunctionalCategory", kinds) if "FunctionalCategory" in row.values else row.kind(kinds)
        if context := row.optional("ContextString") or row.optional("context"):
            prompt = f"{context}\n\n---\n\n{prompt}"
        family = "copyright" if kind == "copyright" else row.text("SemanticCategory", "category")
        yield make_request(row.optional("BehaviorID") or f"{kind}-{row.number}", prompt, family, True, kind=kind)


def jailbreakbench(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    """Harmful and benign behaviours with the same index are matched: twins, where both files are read."""
    kinds = {row.where: row.kind({"harmful": "harmful", "benign": "benign"}) for row in rows}
    known = {f"{kinds[row.where]}-{row.text('Index')}" for row in rows}
    for row in rows:
        kind, index = kinds[row.where], row.text("Index")
        twin = f"{'benign' if kind == 'harmful' else 'harmful'}-{index}"
        yield make_request(
            f"{kind}-{index}",
            row.text("Goal"),
            row.text("Category"),
            kind == "harmful",
            twin if twin in known else "",
            group=index,
        )


def strongreject(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    for row in rows:
        yield make_request(str(row.number), row.text("forbidden_prompt", "prompt"), row.text("category"), True)


def or_bench(rows: Sequence[Row]) -> Iterator[ProbeItem]:
    for row in rows:
        kind = row.kind({"toxic": "toxic", "hard": "hard", "80k": "80k"})
        yield make_request(f"{kind}-{row.number}", row.text("prompt"), row.text("category"), kind == "toxic")
