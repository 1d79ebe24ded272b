#!/usr/bin/env bash
# pyvene with another subspace for each text of a batch patches every text in all of them.
#
# `subspaces` names for each example which parts of a hidden state are taken from the source. Where the examples name the same
# part, or different numbers of parts, that is what happens. Where they name different parts, equally many, the indices of all
# examples are put into one array and laid over the positions instead of over the examples: with one position patched, each
# example gets the parts of all others, too, and with as many positions as examples the first position gets the first
# example's parts in every example. The effect of one part, measured in a batch that swaps one part here and another there,
# is the effect of both. Nothing warns; the code for examples one by one, which would be right, is not reached. Vanilla,
# additive, subtractive, zero and rotated interventions and those of autoencoders share this code. Nothing was found on it
# upstream.
#
# Versions: pyvene 0.1.8, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, GPT-2, a block's output cut in halves, two texts, one position, largest difference of the logits to each text on its
# own as a share of the largest: first half for both less than .0001; first half for one, second half for the other more than
# .1, and less than .0001 to both halves for both. Of zeros patched with ones, three rows and three positions: row 1 is
# patched in the parts of rows 1, 2 and 3 by position. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "pyvene==0.1.8" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys

import pyvene
import torch
from transformers import GPT2Config, GPT2LMHeadModel

HALVES = [[0, 8], [8, 16]]
torch.manual_seed(0)
size = dict(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2)
place = pyvene.RepresentationConfig(0, "block_output", "pos", 1, subspace_partition=HALVES)
wanted = pyvene.IntervenableConfig(place, pyvene.VanillaIntervention)
model = pyvene.IntervenableModel(wanted, GPT2LMHeadModel(GPT2Config(**size)).eval())
bases, sources = torch.randint(3, 64, (2, 2, 5), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def patched(rows: list[int], halves: list[list[int]]) -> torch.Tensor:
    """Logits of these rows with halves of their third position taken from the source, each row its own."""
    where = {"sources->base": ([[[2]] * len(rows)], [[[2]] * len(rows)])}
    given = {"input_ids": bases[rows]}, [{"input_ids": sources[rows]}]
    return model(*given, where, subspaces=[halves])[1].logits


def one_by_one(halves: list[list[int]]) -> torch.Tensor:
    return torch.cat([patched([row], [halves[row]]) for row in range(2)])


def share(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max())


same, other, both = [[0], [0]], [[0], [1]], [[0, 1], [0, 1]]
mixed = patched([0, 1], other)
equal, apart, union = share(patched([0, 1], same), one_by_one(same)), share(mixed, one_by_one(other)), share(mixed, one_by_one(both))
print(f"the same half in both texts, batch and one by one: {equal:.0e} (right: rounding)")
print(f"another half in each text, batch and one by one: {apart:.2f} (right: rounding)")
print(f"another half in each text, batch, and both halves in both, one by one: {union:.0e}")
swap = pyvene.VanillaIntervention(embed_dim=4, subspace_partition=[[0, 2], [2, 4]])
found = swap(torch.zeros(3, 3, 4), torch.ones(3, 3, 4), subspaces=[[0], [1], [1]])
right = torch.tensor([[1.0, 1, 0, 0]] * 3)
print("row 1 of three, by position:", found[0].tolist(), "(right:", right.tolist(), end=")\n")
by_place = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
as_described = max(equal, union) < 1e-4 and apart > 0.1 and torch.equal(found, by_place.expand(3, 3, 4))
sys.exit(0 if as_described else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: every text is patched in the subspaces of all"
