"""How long will each stage of an audit take, and how much memory? The time is the work of the plan (`work`) at the pace
of this machine (`calibration`). The memory is arithmetic on the models' configurations. At its peak a stage holds

    where models write   weights in the number format of generation
                         + keys and values of all rows that are written together, at most half of the free memory
                         + what the process holds without models
    where they are read  weights in the number format of analysis, of both models where they are small enough to stay
                         + a batch of 2,048 tokens + what the stage keeps beside it

Times are those of an idle machine, and hold for answers as long as the sixteen that the calibration saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from mechdrift.activations.batching import TOKENS_PER_BATCH
from mechdrift.activations.recording import POSITIONS_AT_ONCE as PARTS
from mechdrift.audits.calibration import Calibration, calibrate
from mechdrift.audits.config import Audit
from mechdrift.audits.plan import AuditPlan
from mechdrift.audits.preview import GIGABYTE, Preview, SidePreview, planned, preview_of, stay_in_memory
from mechdrift.audits.work import work_of
from mechdrift.behaviour.backends.hugging_face import ROWS_ON_CPU, ROWS_ON_GPU, SHARE_OF_FREE_MEMORY
from mechdrift.behaviour.divergence import MEMORY, positions_at_once
from mechdrift.pairs.loading import ModelSource
from mechdrift.pairs.pair import Pair
from mechdrift.records import SIDES, MechdriftError, Side

TENSORS = 10  # tensors as wide as the residual stream that one layer holds at a time
GATES = 3  # tensors as wide as an MLP that it holds for a part of the positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds and bytes of every stage, and the calibration that they rest on."""

    seconds: Mapping[str, float]
    memory: Mapping[str, float]
    sides: Mapping[Side, Calibration]

    @property
    def text(self) -> str:
        """Plain text for a terminal, behind that of the `Preview`."""
        width = max(map(len, self.seconds))
        rows = [
            f"  {name:<{width}}  {_words(seconds):>8}  {self.memory[name] / GIGABYTE:6.1f} GB"
            for name, seconds in self.seconds.items()
        ]
        total, most = sum(self.seconds.values()), max(self.memory.values())
        said = [
            f"the {side} model: {1 / found.pace.written:,.0f} tokens/s written, {1 / found.pace.read:,.0f} read; "
            f"{found.lengths.think:.0f} tokens in a mean thought and {found.lengths.answer:.0f} in a mean answer"
            + (f"; {found.note}" if found.note else "")
            for side, found in self.sides.items()
        ]
        head = "estimated from a short calibration, on this machine when it is idle:"
        return "\n".join(
            (head, *rows, f"  {'in all':<{width}}  {_words(total):>8}  {most / GIGABYTE:6.1f} GB", "", *said)
        )


def print_dry_run(config: Audit) -> None:
    """Print what the audit would ask and whether it fits; then, where the weights are on this machine, the time it
    takes."""
    pair, plan = planned(config)
    seen = preview_of(pair, plan)
    print(seen.text, flush=True)
    if seen.too_large:
        return
    if not are_here(pair):
        print("\nThe time is not estimated: the weights are not on this machine yet.")
        return
    try:
        print(f"\n{estimate(pair, plan, seen).text}")
    except MechdriftError as error:  # the rest is printed already: a dry run does not fail for its times
        print(f"\nThe time is not estimated: {error}")


def estimate(pair: Pair, plan: AuditPlan, seen: Preview) -> Estimate:
    """Seconds and bytes of every stage. Both models are opened for a few seconds each. `seen` is the preview of the
    same audit."""
    held = psutil.Process().memory_info().rss
    sides = calibrate(pair, plan)
    side, layers = seen.sides["instruct"], pair.config("instruct").get_text_config(decoder=True).num_hidden_layers
    resident = stay_in_memory(seen)
    work = work_of(plan, {name: found.lengths for name, found in sides.items()}, side.questions, layers, resident)
    seconds = {
        name: sum(each.seconds(sides[of].pace) for of, each in by_side.items()) for name, by_side in work.items()
    }
    return Estimate(
        seconds=seconds,
        memory={stage: held + _memory(stage, plan, pair, seen, sides, resident) for stage in work},
        sides=sides,
    )


def _memory(
    stage: str, plan: AuditPlan, pair: Pair, seen: Preview, sides: Mapping[Side, Calibration], resident: bool
) -> float:
    """Bytes at a stage's peak, without what the process holds before models are loaded."""
    both = list(seen.sides.values())
    if stage == "scores":
        return 0.0
    if stage in ("pilot", "waves", "answers"):
        return max(side.generation + _rows(side, sides[side.side], seen) for side in both)
    weights = [side.analysis for side in both]
    found = (sum(weights) if resident else max(weights)) + max(_batch(pair, side) for side in both)
    if stage == "kl":
        vocabulary = pair.config("instruct").get_text_config(decoder=True).vocab_size
        positions = 2 * plan.size.kl * sides["instruct"].lengths.answer
        whole = 4 * vocabulary * positions
        block = min(sides["instruct"].lengths.answer, positions_at_once(vocabulary))
        found += min(whole, MEMORY) + 8 * 4 * vocabulary * block
    return found


def _rows(side: SidePreview, found: Calibration, seen: Preview) -> float:
    """Keys and values of the rows that one model writes at a time."""
    rows = min(side.questions, ROWS_ON_CPU if seen.device == "cpu" else ROWS_ON_GPU)
    held = rows * (found.lengths.prompt + found.lengths.written) * (side.cache or 0) / 1000
    return min(held, SHARE_OF_FREE_MEMORY * seen.free)


def _batch(pair: Pair, side: SidePreview) -> float:
    """Bytes that one layer holds of a batch, or of the longest prompt where that is longer."""
    config = pair.config(side.side).get_text_config(decoder=True)
    positions = max(TOKENS_PER_BATCH, side.longest)
    wide = GATES * min(positions, PARTS) * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    return side.analysis / side.parameters * (TENSORS * positions * config.hidden_size + wide)


def are_here(pair: Pair) -> bool:
    """Whether the weights of both models lie on this machine: an estimate downloads none."""
    return all(_is_here(pair.source(side)) for side in SIDES)


def _is_here(source: ModelSource) -> bool:
    folder = Path(source.path)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(source.path, revision=source.revision, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            return False
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


def _words(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
