"""Every public name, and a tiny audit of an adapter with page, card and gate, in whatever versions are installed."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from conftest import make_model, save_model
from peft import LoraConfig, get_peft_model

import mechdrift as md
from mechdrift import cli
from mechdrift.audits.config import PRESETS, Size

SIZE = Size(
    pairs=4, variants=2, tasks=3, patched=2, kl=2, thinking=2, steered=0, layer_step=3,
    budget=md.Budget(think=4, answer=4),
)  # fmt: skip


def save_adapter(folder: Path) -> None:
    """An adapter on two projections, with random values."""
    torch.manual_seed(0)
    adapted = get_peft_model(make_model(), LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter))
    adapted.save_pretrained(folder)


def run(*words: object) -> None:
    """A command line in this process; `gate` may also end with "fail" (2) or "cannot tell" (3)."""
    sys.argv = ["mechdrift", *map(str, words)]
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    assert not code or (words[0] == "gate" and code in (2, 3)), f"{words} ended with {code}"


def main() -> None:
    assert all(getattr(md, name) is not None for name in md.__all__)
    PRESETS["quick"] = SIZE
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        save_model(root / "parent")
        save_adapter(root / "adapter")
        models = ["--instruct", root / "parent", "--adapter", root / "adapter"]
        tokens = ["--think", 4, "--answer", 4, "--device", "cpu"]
        run("audit", *models, *tokens, "--preset", "quick", "--dimensions", "safety", "ethics", "--out", root / "run")
        run("card", root / "run")
        run("gate", root / "run", "--max-drop", "safety=0.5")
        run("probes")
        assert (root / "run" / "report.html").stat().st_size > 100_000


if __name__ == "__main__":
    main()
