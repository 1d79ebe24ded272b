"""The benchmarks that can be read: where each comes from, under which licence, who reads it, and how it is scored."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mechdrift.probes.benchmarks import bias, ethics, privacy, robustness, safety, toxicity
from mechdrift.probes.benchmarks.rows import Row
from mechdrift.records import MechdriftError, ProbeItem

Reader = Callable[[Sequence[Row]], Iterable[ProbeItem]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark's source, licence, reader and scoring.

    `files` are the published names of its files, `beside` those of files that are read with them, and `partners` names
    for a file another one without which it cannot be read. `hub` is "" where the hub has no fitting copy. `items` is
    the size of the whole published set, `read` is None for reasoning tasks, and `scoring` is a key of
    `behaviour.benchmark_scores`.
    """

    name: str
    dimension: str
    read: Reader | None
    scoring: str
    items: int
    licence: str
    source: str
    files: tuple[str, ...]
    beside: tuple[str, ...] = ()
    partners: Mapping[str, str] = field(default_factory=dict)
    hub: str = ""
    configs: tuple[str | None, ...] = (None,)
    splits: tuple[str, ...] = ("train",)
    revision: str | None = None

    @property
    def version(self) -> str:
        """The version that is asked of the hub: a commit, or the newest ("unpinned"); "files" where the hub has no
        copy."""
        return (self.revision or "unpinned") if self.hub else "files"


BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="xstest",
            dimension="safety",
            read=safety.xstest,
            scoring="refusal",
            items=450,
            licence="CC-BY-4.0",
            source="Röttger et al., arXiv 2308.01263",
            files=("xstest_prompts.csv",),
            hub="Paul/XSTest",
            revision="f600c994b256f12867dfa5b3eb3d545a3e62f8b5",
        ),
        Benchmark(
            name="advbench",
            dimension="safety",
            read=safety.advbench,
            scoring="refusal",
            items=520,
            licence="MIT",
            source="Zou et al., arXiv 2307.15043",
            files=("harmful_behaviors.csv",),
            hub="walledai/AdvBench",
            revision="9d4730540082fa4017450b65ca1c0e1d8d30446e",
        ),
        Benchmark(
            name="harmbench",
            dimension="safety",
            read=safety.harmbench,
            scoring="refusal",
            items=400,
            licence="MIT",
            source="Mazeika et al., arXiv 2402.04249",
            files=("harmbench_behaviors_text_all.csv",),
            hub="walledai/HarmBench",
            configs=("standard", "contextual", "copyright"),
        ),
        Benchmark(
            name="jailbreakbench",
            dimension="safety",
            read=safety.jailbreakbench,
            scoring="refusal",
            items=200,
            licence="MIT",
            source="Chao et al., arXiv 2404.01318",
            files=("harmful-behaviors.csv", "benign-behaviors.csv"),
            hub="JailbreakBench/JBB-Behaviors",
            configs=("behaviors",),
            splits=("harmful", "benign"),
            revision="886acc352a31533ffbcf4ef22c744658688086fc",
        ),
        Benchmark(
            name="strongreject",
            dimension="safety",
            read=safety.strongreject,
            scoring="refusal",
            items=313,
            licence="MIT",
            source="Souly et al., arXiv 2402.10260",
            files=("strongreject_dataset.csv",),
            hub="walledai/StrongREJECT",
            revision="df54272b395ce9e584d2f8140519935425d8549f",
        ),
        Benchmark(
            name="or_bench",
            dimension="safety",
            read=safety.or_bench,
            scoring="refusal",
            items=1974,
            licence="CC-BY-4.0",
            source="Cui et al., arXiv 2405.20947",
            files=("or-bench-hard-1k.csv", "or-bench-toxic.csv"),
            hub="bench-llm/or-bench",
            configs=("or-bench-hard-1k", "or-bench-toxic"),
            revision="e36d8b80e81837c8a8f264bbb2a49f1b32c7e272",
        ),
        Benchmark(
            name="rtp",
            dimension="toxicity",
            read=toxicity.rtp,
            scoring="toxicity",
            items=99_442,
            licence="CC-BY-SA-4.0",
            source="RealToxicityPrompts, Gehman et al., arXiv 2009.11462",
            files=("*.jsonl",),
            hub="allenai/real-toxicity-prompts",
        ),
        Benchmark(
            name="toxigen",
            dimension="toxicity",
            read=toxicity.toxigen,
            scoring="accuracy",
            items=940,
            licence="MIT",
            source="Hartvigsen et al., arXiv 2203.09509",
            files=("annotated_test.csv",),
            hub="toxigen/toxigen-data",
            configs=("annotated",),
            splits=("test",),
            revision="ea082a8973a287097b17973343576e0c8da8eb3b",
        ),
        Benchmark(
            name="crows_pairs",
            dimension="bias",
            read=bias.crows_pairs,
            scoring="crows_pairs",
            items=1508,
            licence="CC-BY-SA-4.0",
            source="Nangia et al., arXiv 2010.00133",
            files=("crows_pairs_anonymized.csv",),
            hub="nyu-mll/crows_pairs",
            splits=("test",),
        ),
        Benchmark(
            name="stereoset",
            dimension="bias",
            read=bias.stereoset,
            scoring="stereoset",
            items=4229,
            licence="CC-BY-SA-4.0",
            source="Nadeem et al., arXiv 2004.09456",
            files=("dev.json",),
            hub="McGill-NLP/stereoset",
            configs=("intersentence", "intrasentence"),
            splits=("validation",),
            revision="bf6e7ce50491784d094fb7afe60a70ecccb89035",
        ),
        Benchmark(
            name="bbq",
            dimension="bias",
            read=bias.bbq,
            scoring="bbq",
            items=58_492,
            licence="CC-BY-4.0",
            source="Parrish et al., arXiv 2110.08193",
            files=("*.jsonl",),
            beside=("additional_metadata.csv",),
            hub="heegyu/bbq",
            configs=(
                "Age",
                "Disability_status",
                "Gender_identity",
                "Nationality",
                "Physical_appearance",
                "Race_ethnicity",
                "Race_x_SES",
                "Race_x_gender",
                "Religion",
                "SES",
                "Sexual_orientation",
            ),
            splits=("test",),
        ),
        Benchmark(
            name="dt_stereotype",
            dimension="bias",
            read=bias.dt_stereotype,
            scoring="agreement",
            items=3456,
            licence="CC-BY-SA-4.0",
            source="DecodingTrust, Wang et al., arXiv 2306.11698",
            files=("user_prompts.csv",),
            beside=("system_prompts.csv",),
        ),
        Benchmark(
            name="ethics",
            dimension="ethics",
            read=ethics.ethics,
            scoring="accuracy",
            items=6589,
            licence="MIT",
            source="Hendrycks et al., arXiv 2008.02275",
            files=("cm_test.csv", "justice_test.csv"),
            hub="hendrycks/ethics",
            configs=("commonsense", "justice"),
            splits=("test",),
        ),
        Benchmark(
            name="moralchoice",
            dimension="ethics",
            read=ethics.moralchoice,
            scoring="moralchoice",
            items=8202,
            licence="MIT",
            source="Scherrer et al., arXiv 2307.14324",
            files=("moralchoice_*_ambiguity.csv",),
            beside=("question_templates/*.json",),
        ),
        Benchmark(
            name="confaide",
            dimension="privacy",
            read=privacy.confaide,
            scoring="confaide",
            items=786,
            licence="MIT",
            source="Mireshghallah et al., arXiv 2310.17884",
            files=("tier_1.txt", "tier_2a.txt", "tier_2b.txt", "tier_3.txt", "tier_3_control.txt", "tier_4.txt"),
            beside=("tier_?_labels.txt",),
            partners={"tier_3_control": "tier_3.txt"},
        ),
        Benchmark(
            name="dt_style",
            dimension="robustness",
            read=robustness.dt_style,
            scoring="style",
            items=9592,
            licence="CC-BY-SA-4.0",
            source="DecodingTrust, Wang et al., arXiv 2306.11698",
            files=("style.json",),
        ),
        Benchmark(
            name="advglue",
            dimension="robustness",
            read=robustness.advglue,
            scoring="accuracy",
            items=738,
            licence="CC-BY-SA-4.0",
            source="Wang et al., arXiv 2111.02840",
            files=("dev.json",),
            hub="AI-Secure/adv_glue",
            configs=("adv_sst2", "adv_qqp", "adv_mnli", "adv_mnli_mismatched", "adv_qnli", "adv_rte"),
            splits=("validation",),
        ),
        Benchmark(
            name="gsm8k",
            dimension="reasoning",
            read=None,
            scoring="exact",
            items=1319,
            licence="MIT",
            source="Cobbe et al., arXiv 2110.14168",
            files=("test.jsonl",),
            hub="openai/gsm8k",
            configs=("main",),
            splits=("test",),
            revision="cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
        ),
        Benchmark(
            name="math500",
            dimension="reasoning",
            read=None,
            scoring="exact",
            items=500,
            licence="MIT",
            source="Hendrycks et al., arXiv 2103.03874; Lightman et al., arXiv 2305.20050",
            files=("test.jsonl",),
            hub="HuggingFaceH4/MATH-500",
            splits=("test",),
            revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        ),
    )
}


def benchmark_of(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise MechdriftError(f"unknown benchmark {name!r}: known are {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name]
