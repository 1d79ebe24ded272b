#!/usr/bin/env bash
# pyvene: a state that is patched with itself through its principal components loses all that the components leave out.
#
# `PCARotatedSpaceIntervention` swaps coordinates in the space of given principal components. It projects base and source on
# the components, swaps, and multiplies back. What lies outside the components, which is most of a hidden state where a few of
# hundreds are kept, is not put back: every intervention also ablates it, even one whose source is the base itself, or that
# swaps nothing but one component. The effect that is measured is that of the ablation with the swap. The low-rank rotation of
# the same package adds the difference to the base and leaves the rest alone; with as many components as dimensions PCA does so,
# too. `noise_level` of the package's `NoiseIntervention`, as an aside, is read under a misspelt name and has no effect. Nothing
# warns. Nothing was found on either upstream.
#
# Versions: pyvene 0.1.8, transformers 5.24.0, torch 2.13.0, Python 3.11.
# Seen, GPT-2 of 16 dimensions, source = base, largest difference of the logits to no intervention as a share of the largest:
# 16 components and low-rank rotation less than .0001, 4 components more than .1. What the patched state lacks is the state's
# part outside of the components, to .0001. Noise of level 0 and level 10: the same, and not 0. Ends with 1 if that is no
# longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "pyvene==0.1.8" "transformers==5.24.0"
cat > "$work/look.py" <<'PY'
import sys
from types import SimpleNamespace

import pyvene
import torch
from transformers import GPT2Config, GPT2LMHeadModel

WIDTH, PLACE = 16, 2
torch.manual_seed(0)
size = dict(vocab_size=64, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2)
model = GPT2LMHeadModel(GPT2Config(**size)).eval()
ids = torch.randint(3, 64, (8, 5), generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    whole = model(ids, output_hidden_states=True)
plain, states = whole.logits, whole.hidden_states[1]
seen = states.flatten(0, 1)
mean = seen.mean(0)
directions = torch.linalg.svd(seen - mean).Vh  # principal components, the largest first


def components(count: int) -> dict:
    return dict(pca=SimpleNamespace(components_=directions[:count]), pca_mean=mean, pca_std=torch.ones(WIDTH))


def share(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max())


@torch.no_grad()
def with_itself(intervention) -> float:
    """How far the logits move where a position's state is swapped for the same state."""
    asked = pyvene.IntervenableConfig([dict(layer=0, component="block_output", intervention=intervention)])
    patched = pyvene.IntervenableModel(asked, model)
    where = {"sources->base": ([[[PLACE]] * len(ids)], [[[PLACE]] * len(ids)])}
    return share(patched({"input_ids": ids}, [{"input_ids": ids}], where)[1].logits, plain)


few, full = (pyvene.PCARotatedSpaceIntervention(embed_dim=WIDTH, **components(count)) for count in (4, WIDTH))
rotated = pyvene.LowRankRotatedSpaceIntervention(embed_dim=WIDTH, low_rank_dimension=4)
erased, kept, low = with_itself(few), with_itself(full), with_itself(rotated)
print(f"source = base: 4 components {erased:.2f}, {WIDTH} components {kept:.0e}, rotation {low:.0e} (right: rounding)")
with torch.no_grad():
    state = states[:, PLACE]
    lacks = state - few(state.clone(), state.clone())
    centred = state - few.pca_mean
    rest = centred - centred @ few.pca_components.T @ few.pca_components
    left_out = share(lacks, rest)
    size_of_it = float(lacks.norm() / centred.norm())
    quiet, loud = (pyvene.NoiseIntervention(embed_dim=WIDTH, noise_level=level)(torch.zeros(1, 4, WIDTH)) for level in (0.0, 10.0))
print(f"lost against the part outside the components: {left_out:.0e}; {size_of_it:.2f} of the state's deviation (right: 0)")
print(f"noise of level 0: {float(quiet.std()):.2f}, of level 10: {float(loud.std()):.2f} (right: 0 and about 10)")
same = torch.equal(quiet, loud) and float(quiet.std()) > 0.05
sys.exit(0 if max(kept, low, left_out) < 1e-4 and erased > 0.1 and same else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: what the components leave out is erased"
