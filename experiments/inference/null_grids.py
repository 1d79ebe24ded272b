"""How often does `PatchGrid.inference()` find a cell where there is nothing? It promises at most 5 % of grids, whatever
the number of cells.

    python experiments/inference/null_grids.py > experiments/inference/null_grids.md

**Simulated grids.** Effects are symmetric about zero and look like real ones otherwise: neighbouring layers are alike
(AR(1), .9), roles share half of their variance, the prompts of a family share some of theirs, layers differ in size by
a factor of up to ten, families in size too (so that they are not exchangeable), and the noise is normal or heavy-tailed
(t with 3 degrees of freedom).

**Real grids.** Null children of the tiny aligned parent (`mechdrift.planting.tiny`): the parent with 2 % noise in all
of its matrices, and, for each of them, its mirror image, the parent *less* the same noise. Patches and grafts are
actually computed. A single child does move the readout of all prompts a little: that is no null. So in a null grid
every family takes its effects from a child of its own, drawn from all of them, and is as likely to meet a change as its
mirror image. What does not cancel is of second order in the noise. For comparison, the last column is one child for all
families: how often the test finds what a null child really changes. A test that finds such changes is not wrong; they
are small. It is why an audit also looks at the size of an effect.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from mechdrift.pairs.precision import fast_float32
from mechdrift.patching.grafts import graft
from mechdrift.patching.grid import patch
from mechdrift.planting.drift import matrix, random_like
from mechdrift.planting.parents import Parent, make_parent
from mechdrift.statistics.grids import infer

GRIDS, DRAWS = 600, 2000
CHILDREN, NOISE = 30, 0.02
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
SHAPES = [(families, layers, roles) for families in (8, 14, 24) for layers, roles in ((10, 1), (30, 8))]


def simulated(
    rng: np.random.Generator, families: int, layers: int, roles: int, heavy: bool, per_family: int = 2
) -> np.ndarray:
    """Effects `[prompt, layer, role]` of a null pair."""

    def noise(*shape: int) -> np.ndarray:
        return rng.standard_t(3, shape) if heavy else rng.standard_normal(shape)

    def field(count: int) -> np.ndarray:
        fresh, out = noise(count, layers, roles) + noise(count, layers, 1), np.empty((count, layers, roles))
        out[:, 0] = fresh[:, 0]
        for layer in range(1, layers):
            out[:, layer] = 0.9 * out[:, layer - 1] + np.sqrt(1 - 0.9**2) * fresh[:, layer]
        return out

    sizes = 10 ** rng.uniform(-1, 0, size=(layers, 1))
    spread = np.repeat(10 ** rng.uniform(-0.3, 0.3, size=families), per_family)[:, None, None]
    return (np.repeat(field(families), per_family, axis=0) + field(families * per_family)) * sizes * spread


def is_wrong(effect: np.ndarray, families: np.ndarray, is_trigger: np.ndarray, seed: int) -> bool:
    """Whether any cell of a grid is found."""
    names = tuple(range(effect.shape[1])), tuple(f"role {i}" for i in range(effect.shape[2]))
    return bool(infer(effect, families, is_trigger, *names, draws=DRAWS, seed=seed).frame.significant.any())


def child_effects(parent: Parent, count: int, seed: int, way: Callable[..., object]) -> np.ndarray:
    """Grids of null children and of their mirror images, `[child, mirrored, prompt, layer, role]`."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        pair = [parent.copy(), parent.copy()]
        for layer in range(parent.aligned.n_layers):
            for name in MATRICES:
                change = NOISE * random_like(matrix(parent.aligned, layer, name), rng)
                for child, sign in zip(pair, (1, -1), strict=True):
                    matrix(child, layer, name).add_(sign * change)
        found.append([way(parent.pair(child), parent.probes, readout=parent.readout).effect for child in pair])
    return np.array(found)


def null_grids(effects: np.ndarray, families: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Grids `[prompt, layer, role]` in which every family comes from a child of its own."""
    rng, (_, family) = np.random.default_rng(seed), np.unique(families, return_inverse=True)
    for _ in range(count):
        child = rng.choice(len(effects), size=family.max() + 1, replace=False)
        mirrored = rng.integers(2, size=family.max() + 1)
        yield effects[child[family], mirrored[family], np.arange(len(families))]


def rate(wrong: list[bool]) -> str:
    low, high = stats.binomtest(sum(wrong), len(wrong)).proportion_ci(method="exact")
    return f"{np.mean(wrong):.1%} ({low:.1%} to {high:.1%})"


WAYS: dict[str, Callable[..., object]] = {
    "patch resid_pre, every role": lambda pair, probes, **options: patch(pair, probes, **options),
    "patch resid_pre, whole prompt, into the parent": lambda pair, probes, **options: patch(
        pair, probes, donor="reasoning", recipient="instruct", roles="all", **options
    ),
    "patch mlp_out, last position": lambda pair, probes, **options: patch(
        pair, probes, site="mlp_out", roles=("think_close[-1]",), **options
    ),
    "graft of layers": lambda pair, probes, **options: graft(pair, probes, **options),
}


def print_simulated() -> None:
    print("| families | layers × roles | normal noise | heavy tails |\n|---:|---:|---:|---:|")
    for families, layers, roles in SHAPES:
        cells = []
        for heavy in (False, True):
            rng, names = np.random.default_rng(families + layers), np.repeat(np.arange(families), 2)
            trigger = np.ones(len(names), dtype=bool)
            cells.append(
                rate(
                    [
                        is_wrong(simulated(rng, families, layers, roles, heavy), names, trigger, seed)
                        for seed in range(GRIDS)
                    ]
                )
            )
        print(f"| {families} | {layers} × {roles} | {' | '.join(cells)} |", flush=True)


def print_real() -> None:
    parent = make_parent("tiny", 0)
    families = np.array([item.family for item in parent.probes])
    trigger = np.array([item.is_trigger for item in parent.probes])
    print(
        "\n| grid | triggers | triggers less neutral twins | one child for all families, triggers "
        "|\n|---|---:|---:|---:|"
    )
    for name, way in WAYS.items():
        effects = child_effects(parent, CHILDREN, 0, way)
        wrong = [
            is_wrong(grid[trigger], families[trigger], trigger[trigger], 0)
            for grid in null_grids(effects, families, GRIDS, 1)
        ]
        less = [is_wrong(grid, families, trigger, 0) for grid in null_grids(effects, families, GRIDS, 2)]
        same = [is_wrong(grid[trigger], families[trigger], trigger[trigger], 0) for grid in effects[:, 0]]
        print(f"| {name} | {rate(wrong)} | {rate(less)} | {rate(same)} |", flush=True)


if __name__ == "__main__":
    print("# Null grids\n\nShare of grids with any significant cell, with 95 % intervals; by promise 5 %.")
    print(f"{GRIDS:,} grids in each number, {CHILDREN} children and their mirror images behind the real ones.\n")
    with fast_float32():
        print_simulated()
        print_real()
