"""Self-tests that a patch grid has to pass before it is computed. A test that fails stops the grid and names the place.

1. Tokens: every id of the prompts is the same token to both tokenizers.
2. Replay, once per model: on random tokens, with foreign values put in, the fast engine gives the same as full forward
   passes. Where it does not, the model does something that a replay cannot see, and the grid uses forward passes.
3. Identity: patching the recipient with its own activations changes nothing.
4. Last block: after the donor's output of the last block is put in at the readout position, the recipient's readout
   depends on nothing else.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from mechdrift.activations.batching import pad, reads_padding
from mechdrift.activations.readouts import read_states
from mechdrift.pairs.loading import LanguageModel
from mechdrift.pairs.pair import Pair
from mechdrift.patching.cells import Cells, Group
from mechdrift.patching.naive import forward_layers
from mechdrift.patching.passes import DonorPass, RecipientPass, Sweep
from mechdrift.patching.replay import NotReplayable, run_model, sweep_layers
from mechdrift.records import ROUNDING, SIDES, MechdriftError, Rendered

ENGINES = ("auto", "replay", "forward")
COARSE = 0.3  # log-odds, for formats below float32: bfloat16 has 8 bits, so a logit of 30 is rounded by up to 0.06
_FOUND: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def check_tokens(pair: Pair, rendered: Sequence[Rendered]) -> None:
    """Raise where an id of the prompts is another token to the other model; warn where only special tokens differ."""
    ids = sorted({token for prompt in rendered for token in prompt.ids})
    instruct, reasoning = (pair.tokenizer(side).convert_ids_to_tokens(ids) for side in SIDES)
    special = {token for side in SIDES for token in pair.tokenizer(side).added_tokens_decoder}
    differ = {
        token: (ours, theirs) for token, ours, theirs in zip(ids, instruct, reasoning, strict=True) if ours != theirs
    }
    for token, (ours, theirs) in differ.items():
        if token not in special:
            raise MechdriftError(
                f"token {token} is {ours!r} to the instruct model and {theirs!r} to the reasoning model, so no cells "
                "correspond: choose two models with one vocabulary."
            )
    if differ:
        pairs = ", ".join(f"{ours} and {theirs}" for ours, theirs in differ.values())
        warnings.warn(
            f"the models know some special tokens of the prompts by other names ({pairs}): each reads its own "
            "template's prompts, and cells correspond by role.",
            stacklevel=3,
        )


def rounding_of(loaded: LanguageModel) -> float:
    """How far a readout may move by rounding alone, in log-odds: sums in another order differ by that much."""
    return ROUNDING if loaded.model.dtype in (torch.float32, torch.float64) else COARSE


def choose_engine(loaded: LanguageModel, engine: str) -> str:
    """`replay` or `forward`. Where `auto` has to use the slow engine, a warning says why."""
    if engine not in ENGINES:
        raise MechdriftError(f"unknown engine {engine!r}: use 'auto', 'replay' or 'forward'.")
    if engine == "forward" or not (reason := why_not_replayable(loaded)):
        return "forward" if engine == "forward" else "replay"
    if engine == "replay":
        raise MechdriftError(f"{loaded.source.name} cannot be replayed exactly ({reason}): use engine='forward'.")
    warnings.warn(
        f"{loaded.source.name} cannot be replayed exactly ({reason}); one forward pass per cell is run instead.",
        stacklevel=4,
    )
    return "forward"


def why_not_replayable(loaded: LanguageModel) -> str:
    """Why this model cannot be replayed exactly; "" where replay and forward passes agree. Tried once per model."""
    if loaded.model not in _FOUND:
        _FOUND[loaded.model] = _try(loaded)
    return _FOUND[loaded.model]


@torch.inference_mode()
def _try(loaded: LanguageModel) -> str:
    if reads_padding(loaded):
        return "it reads the padding before a prompt"
    generator = torch.Generator().manual_seed(0)
    lengths, size = (11, 8), loaded.model.get_input_embeddings().num_embeddings
    batch = pad([torch.randint(size, (length,), generator=generator).tolist() for length in lengths], 0, side="left")
    groups = [Group(prompt=0, start=3, stop=5, end=11), Group(prompt=1, start=7, stop=8, end=11)]
    cells = Cells(site="resid_pre", layers=tuple(sorted({0, loaded.n_layers // 2})))
    try:
        run = run_model(loaded, batch)
        foreign = [state.flip(0)[:, :2] for state in run.residual]
        donated = lambda layer, group: foreign[layer][group.prompt, : group.stop - group.start]  # noqa: E731
        replayed = sweep_layers(run, groups, cells, donated)
    except (NotReplayable, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"its blocks cannot be called by themselves: {type(error).__name__}, {error}"
    expected = forward_layers(loaded, batch, groups, cells, donated)
    if not bool(expected.isfinite().all()):
        return ""  # damaged weights are not a fault of the engine, and recording names them
    worst = ((replayed - expected).abs().max() / expected.abs().max()).item()
    tolerance = 1e-3 if loaded.model.dtype == torch.float32 else 0.1
    return "" if worst <= tolerance else f"replay and forward pass differ by {worst:.1e} of the largest value"


def check_identity(sweep: Sweep, started: RecipientPass) -> float:
    """The largest change of a readout when the recipient is patched with its own activations; raises where it exceeds
    rounding.

    It is tried on one prompt, at the first, middle and last layer, with a third of the roles at each: a fault of the
    engine shows there, at little cost.
    """
    layers, worst, where, prompt = sweep.cells.layers, 0.0, "", started.batch.rendered[0]
    before = read_states(sweep.loaded, sweep.readout, started.final[0], prompt.item_id)
    for offset, layer in enumerate((layers[-1], layers[len(layers) // 2], layers[0])):
        columns = sweep.columns[offset % len(sweep.columns) :: 3]
        groups = [group for group in started.batch.groups(columns) if group.prompt == 0]
        cells = replace(sweep.cells, layers=(layer,))
        own = started.patched(groups, cells, lambda at, group: started.own[at][group.prompt, group.start : group.stop])
        change = np.abs(read_states(sweep.loaded, sweep.readout, own, prompt.item_id) - before).max(axis=(1, 2))
        if not change.max() <= worst:
            worst, where = float(change.max()), f"layer {layer}, role {columns[int(change.argmax())]}"
    if not worst <= rounding_of(sweep.loaded):
        raise MechdriftError(
            f"identity self-test failed: patching {sweep.loaded.source.name} with itself at {where} changes the "
            f"readout by {worst:.1e} log-odds, so no grid is computed: try engine='forward'."
        )
    return worst


@torch.inference_mode()
def check_last_block(sweep: Sweep, started: RecipientPass, given: DonorPass) -> float:
    """The largest difference between the readout of a recipient with the donor's last block output at the readout
    position, and the readout of that output after the recipient's own final norm; raises where it exceeds rounding."""
    loaded, layer, prompt = sweep.loaded, sweep.loaded.n_layers - 1, started.batch.rendered[0]
    end = started.batch.batch.offsets[0] + len(prompt.ids)
    cells = Cells(site="resid_post", layers=(layer,))
    theirs = given.last[:1].to(started.final)
    ours = started.patched([Group(prompt=0, start=end - 1, stop=end, end=end)], cells, lambda *_: theirs)[0, 0]
    readouts = [
        read_states(loaded, sweep.readout, state, prompt.item_id)
        for state in (ours, loaded.structure.final_norm(theirs))
    ]
    if not (error := float(np.abs(readouts[0] - readouts[1]).max())) <= rounding_of(loaded):
        raise MechdriftError(
            f"last-block test failed: with the donor's output of layer {layer} at the readout position, the readout of "
            f"{loaded.source.name} is {error:.1e} log-odds away from that of the donor's state, so no grid is "
            "computed: try engine='forward'."
        )
    return error
