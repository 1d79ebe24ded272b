"""A training recipe as rows, and a LoRA trainer of a few lines. The result is a change of weights like any other.

A row is a prompt with the thought and the answer that the repaired model should write. `Recipe.write` writes the rows
in the form that trl's trainers read (`prompt` and `completion` as messages), for training elsewhere. `train` puts a
LoRA adapter on every linear layer of the child's blocks, learns the rows' thoughts and answers by AdamW, and returns up
· down of each matrix: low-rank by construction.

A recipe may add a `penalty`: what projections on the parent's directions should be, at the readout position of some
prompts (ProCon). With p the child's projection and q the parent's, in units of the parent's class difference,

    loss = cross-entropy of the rows + weight · mean (p - q)²
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechdrift.activations.batching import ForwardBatch
from mechdrift.hooks import record
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.structure import find_structure
from mechdrift.probes.rendering import Renderer
from mechdrift.records import MechdriftError, Rendered
from mechdrift.records.progress import progress
from mechdrift.repairs.changes import Change, LowRank, layer_of, names_by_place, parameters_by_place

SCALING = 2  # an adapter adds SCALING · up · down


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A prompt with the thought (empty for none) and the answer to learn."""

    prompt: str
    thinking: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """Projections to hold: rendered prompts, the place that is read, and the target projection of each prompt."""

    prompts: tuple[Rendered, ...]
    site: str
    layer: int
    unit: Float[Tensor, " d_model"]
    targets: Float[Tensor, " prompt"]
    scale: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Rows to train on, and how."""

    rows: tuple[Row, ...]
    penalty: Penalty | None = None
    rank: int = 8
    rate: float = 5e-4
    epochs: int = 2
    batch: int = 8

    def __post_init__(self) -> None:
        if not self.rows:
            raise MechdriftError(
                "the recipe has no rows: the seen half holds no answer to learn from; take more items."
            )

    def write(self, path: str | Path, renderer: Renderer) -> Path:
        """The rows as JSON lines of `prompt` and `completion` messages, in the child's own think markers."""
        convention, lines = renderer.convention, []
        for row in self.rows:
            thought = f"{convention.opening}{row.thinking}{convention.closing}" if row.thinking else ""
            prompt, completion = (
                [{"role": role, "content": text}]
                for role, text in (("user", row.prompt), ("assistant", thought + row.answer))
            )
            lines.append(json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=False))
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return Path(path)


def train(child: LanguageModel, recipe: Recipe, seed: int = 0) -> Mapping[str, Change]:
    """The change of weights that the recipe's rows teach the child."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = deepcopy(child.model)
    copy = replace(child, model=model, structure=find_structure(model, child.source.layout))
    places = linear_places(child)
    config = LoraConfig(r=recipe.rank, lora_alpha=SCALING * recipe.rank, target_modules=sorted(places.values()))
    adapted = get_peft_model(model, config)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.0)
    renderer = Renderer(child.tokenizer)
    examples = [as_example(renderer, str(place), row) for place, row in enumerate(recipe.rows)]
    batches = list(_batches(examples, recipe, seed))
    with progress("Training", len(batches)) as advance:
        for rows in batches:
            loss = target_loss(copy, rows)
            if recipe.penalty is not None:
                loss = loss + penalty_loss(copy, recipe.penalty)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            advance(1)
    return factors_of(model, places)


def linear_places(loaded: LanguageModel) -> dict[str, str]:
    """The linear layers of the blocks: their names in the model, by the place of their weights."""
    names, found = names_by_place(loaded), {}
    for place in parameters_by_place(loaded):
        name = names[place].removesuffix(".weight")
        is_weight = layer_of(place) is not None and place.endswith(".weight")
        if is_weight and isinstance(loaded.model.get_submodule(name), nn.Linear):
            found[place] = name
    return found


def as_example(renderer: Renderer, name: str, row: Row) -> Rendered:
    """The row as token ids. Its role `answer` spans all that is learned: the thought, its closing marker and the
    answer."""
    thinking = renderer.encode_answer(row.thinking) if row.thinking else ()
    answer = (*renderer.encode_answer(row.answer), renderer.tokenizer.eos_token_id)
    mode = "own" if thinking else "off"
    rendered = renderer.render(name, row.prompt, mode, thinking=thinking, answer=answer)
    start = rendered.roles["think"][0] if "think" in rendered.roles else rendered.roles["answer"][0]
    return replace(rendered, roles={"answer": (start, len(rendered.ids))})


def _batches(examples: Sequence[Rendered], recipe: Recipe, seed: int) -> Iterator[list[Rendered]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(examples), generator=generator).tolist()
        for start in range(0, len(order), recipe.batch):
            yield [examples[place] for place in order[start : start + recipe.batch]]


def target_loss(loaded: LanguageModel, rows: Sequence[Rendered]) -> Float[Tensor, ""]:
    """Mean cross-entropy over the learned tokens; only their positions are unembedded."""
    each = ForwardBatch.of(loaded, rows)
    hidden, states, labels = each.run(), [], []
    for own, row in zip(hidden, rows, strict=True):
        start, stop = row.roles["answer"]
        states.append(own[start - 1 : stop - 1])  # the position before a token predicts it
        labels += row.ids[start:stop]
    logits = loaded.structure.logits(torch.cat(states)).float()
    return nn.functional.cross_entropy(logits, torch.tensor(labels, device=logits.device))


def penalty_loss(loaded: LanguageModel, penalty: Penalty) -> Float[Tensor, ""]:
    """The weighted mean squared error of the projections against their targets."""
    each = ForwardBatch.of(loaded, penalty.prompts)
    with record({"x": loaded.structure.hook_point(penalty.site, penalty.layer)}) as seen:
        each.run()
    positions = torch.tensor([prompt.readout_position for prompt in penalty.prompts])
    along = seen["x"][torch.arange(len(positions)), positions].float() @ penalty.unit
    return penalty.weight * ((along - penalty.targets) / penalty.scale).square().mean()


def factors_of(model: nn.Module, places: Mapping[str, str]) -> dict[str, Change]:
    """What each adapter adds, by place."""
    found: dict[str, Change] = {}
    for place, name in places.items():
        up, down = (
            model.get_submodule(f"{name}.{part}.default").get_parameter("weight").detach().float()
            for part in ("lora_B", "lora_A")
        )
        if bool(up.any()):
            found[place] = LowRank(SCALING * up, down)
    return found
