"""The fields of run.json, which describes a run.

    schema      the number of the folder's layout; it rises when tables get new columns
    identity    the values that identify a run: with another value it is another run
    config      the configuration as the user gave it
    stages      the finished stages: seconds, and files with their SHA-256
    pair, probes, budgets, self_tests, versions, dtypes, …    facts, once the stage that finds them has finished

Unknown fields are kept, because a later version may know them.
"""

from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from mechdrift.tables.fields import OPEN, fault_of


class Model(TypedDict):
    """One model of the pair."""

    __pydantic_config__ = OPEN
    name: str


class PairFacts(TypedDict):
    """What the first stage finds out about the pair."""

    __pydantic_config__ = OPEN
    name: str
    route: str
    instruct: Model
    reasoning: Model
    warnings: list[str]
    fingerprints: dict[str, str]
    facts: NotRequired[dict[str, dict[str, Any]]]
    templates: NotRequired[dict[str, str | None]]
    same_tokens: NotRequired[float | None]
    stated_parent: NotRequired[str | None]
    null_model: NotRequired[str]


class ProbeCounts(TypedDict):
    """How large a probe set was."""

    __pydantic_config__ = OPEN
    n: int
    families: int
    sampled_from: NotRequired[int]


class SelfTests(TypedDict, total=False):
    """What the audit checked of itself, as the largest errors found."""

    __pydantic_config__ = OPEN
    surface_error: dict[str, float]
    identity_patch_error: float
    patch_engine: str


class StageRecord(TypedDict):
    """One finished stage."""

    __pydantic_config__ = OPEN
    seconds: float
    files: dict[str, str]


class Config(TypedDict, total=False):
    """What was asked for, as far as the pages show it."""

    __pydantic_config__ = OPEN
    pair: str
    preset: str
    seed: int
    dimensions: list[str]


class JudgeFacts(TypedDict, total=False):
    """Who judged the answers, and how often that failed, by kind of failure."""

    __pydantic_config__ = OPEN
    name: str
    failures: dict[str, int]


class ModeFacts(TypedDict):
    """What a mode of a stress test is, in words."""

    __pydantic_config__ = OPEN
    what: str
    paper: str
    unit: str


class WaveFacts(TypedDict, total=False):
    """How many waves of each dimension an audit asked."""

    __pydantic_config__ = OPEN
    asked: dict[str, int]


# Facts with names of two words, which no class can have.
Spaced = TypedDict("Spaced", {"not inside": NotRequired[list[list[str]]]})


class Manifest(Spaced):
    """The whole of run.json."""

    __pydantic_config__ = OPEN
    schema: int
    identity: dict[str, Any]
    config: Config
    stages: dict[str, StageRecord]
    pair: NotRequired[PairFacts]
    probes: NotRequired[dict[str, ProbeCounts]]
    budgets: NotRequired[dict[str, int]]
    self_tests: NotRequired[SelfTests]
    versions: NotRequired[dict[str, str]]
    dtypes: NotRequired[dict[str, str]]
    engines: NotRequired[dict[str, str]]
    judge: NotRequired[str | JudgeFacts]
    power: NotRequired[dict[str, float | None]]
    pilot: NotRequired[dict[str, dict[str, Any]]]
    waves: NotRequired[WaveFacts]
    modes: NotRequired[dict[str, ModeFacts]]
    skipped: NotRequired[list[list[str | float]]]
    inside: NotRequired[list[str]]
    models: NotRequired[dict[str, str]]
    picked: NotRequired[str]


FOUND_BY = {"pair": "pair", "probes": "pair"}  # facts that a finished stage must have left: fact, stage


def in_todays_words(manifest: dict[str, Any], schema: int) -> dict[str, Any]:
    """A manifest of an earlier schema number with the names of today. Before schema 3, the null model was called
    control."""
    parts = {} if schema >= 3 else {key: manifest[key] for key in ("identity", "config", "pair") if key in manifest}
    old = {key: part for key, part in parts.items() if isinstance(part, dict) and "control" in part}
    return manifest | {
        key: {"null_model" if name == "control" else name: value for name, value in part.items()}
        for key, part in old.items()
    }


def manifest_fault(manifest: Any) -> str:
    """What does not fit in a manifest, as half a sentence; empty where everything does."""
    if fault := fault_of(Manifest, manifest):
        return fault
    lost = [fact for fact, stage in FOUND_BY.items() if stage in manifest["stages"] and fact not in manifest]
    return f"{lost[0]!r} is missing" if lost else ""
