"""The embedded pairs: which adapters make them, by which route, and the adapters' hashes. Reading it loads nothing."""

from dataclasses import dataclass
from pathlib import Path

ZOO = Path(__file__).parent / "zoo"
NULL = "smollm2-null"  # the null model of the other embedded pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPair:
    """A pair that ships with the package: LoRA adapters, merged in order onto the embedded base."""

    name: str
    instruct: tuple[str, ...]
    reasoning: tuple[str, ...]
    route: str
    summary: str


EMBEDDED_PAIRS = {
    pair.name: pair
    for pair in (
        EmbeddedPair(
            name="smollm2-sft",
            instruct=("smollm2-aligned",),
            reasoning=("smollm2-aligned", "smollm2-sft"),
            route="SFT",
            summary="SmolLM2-135M-Instruct, aligned; then supervised fine-tuning on procedural reasoning traces",
        ),
        EmbeddedPair(
            name="smollm2-sft-guarded",
            instruct=("smollm2-aligned",),
            reasoning=("smollm2-aligned", "smollm2-sft-guarded"),
            route="guarded SFT",
            summary="the same fine-tuning with 5 % safety data: the parent's own refusals, its help with look-alikes",
        ),
        EmbeddedPair(
            name="smollm2-rl",
            instruct=("smollm2-aligned",),
            reasoning=("smollm2-aligned", "smollm2-rl"),
            route="RL",
            summary=(
                "the same parent: a format warm-up on reasoning traces, then reinforcement learning with verifiable "
                "rewards"
            ),
        ),
        EmbeddedPair(
            name="smollm2-distill",
            instruct=("smollm2-aligned",),
            reasoning=("smollm2-aligned", "smollm2-distill"),
            route="distillation",
            summary="the same parent, trained on the token distributions of the SFT child",
        ),
        EmbeddedPair(
            name=NULL,
            instruct=("smollm2-aligned",),
            reasoning=("smollm2-aligned", "smollm2-null"),
            route="null",
            summary="the null model: the same parent after as many steps on harmless requests without thinking",
        ),
    )
}

ADAPTER_SHA256: dict[str, str] = {
    "smollm2-aligned": "6a82e835c2bd909244107a37a1d1a63b526c7802b359fe6b943daf6394ad22b9",
    "smollm2-distill": "fcf01be47f011ee7c2bf9ba1bfc8ebab224fb9073d467a0d94fde7a15f281778",
    "smollm2-rl": "a7aef3ef43aa1a1b40de466aef0930a37e8ce05329e4c97ae23b45069f235c03",
    "smollm2-null": "e0da90b24cb2f446f98927e42e0ecbe2c438c04f38326f68be4164bfc4b33e9b",
    "smollm2-sft-guarded": "3361ae52014c233e824796216dcf6572c23ea53e99b98cdea21071390503e1af",
    "smollm2-sft": "9b080c477b0cd671b15bf4ed33ec7d10755ac0aafd89e0a1785203f683252c23",
}
