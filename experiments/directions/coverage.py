"""How often does the interval of the angle between two directions contain the true angle? Simulated pairs with a known
angle.

    python experiments/directions/coverage.py > experiments/directions/coverage.md

Each row of the table is one kind of noise at one angle, each number the range over family counts, dimensions and signal
sizes: the share of 90 % intervals (of `mechdrift.statistics.angles.noiseless_angle`) that contain it, among pairs that
show a direction at all, and its mean width.
"""

from itertools import product

import numpy as np

from mechdrift.statistics.angles import noiseless_angle

LEVEL, CELLS = 0.9, 400
ANGLES = (0, 5, 20, 60)
SHAPES = [(families, pairs, width) for families in (8, 16, 32) for pairs, width in ((2, 64), (4, 576))]
SIGNALS = (2.0, 4.0)  # halves of the data agree at cosines of about .3 to .5, and of .6 to .9
KINDS = {
    "noise of its own in each model": {"shared": 0.0},
    "noise that the models share": {"shared": 1.0},
    "half shared, heavy tails (t with 4 degrees)": {"shared": 0.5, "heavy": True},
    "0.8 shared, decaying over the axes": {"shared": 0.8, "decay": 1.0},
    "0.8 shared, decaying, family effects in 10 dimensions": {"shared": 0.8, "decay": 1.0, "own": 0.3},
    "not shared, decaying, family effects in 10 dimensions": {"shared": 0.0, "decay": 1.0, "own": 0.3},
}


def simulate(
    rng: np.random.Generator,
    degrees: float,
    families: int,
    pairs: int,
    width: int,
    signal: float,
    shared: float,
    decay: float = 0.0,
    own: float = 0.0,
    heavy: bool = False,
) -> np.ndarray:
    """Inner products of both models' family differences; the reasoning model's direction is 1.3 times as long."""
    scale = rng.permutation(np.arange(1, width + 1) ** (-decay / 2))
    scale *= np.sqrt(width / (scale**2).sum())

    def noise() -> np.ndarray:
        shape = (CELLS, families, width)
        within = rng.standard_t(4, shape) / np.sqrt(2) if heavy else rng.standard_normal(shape)
        effects = np.zeros(shape)
        effects[..., :10] = own * np.sqrt(width / 10) * rng.standard_normal((CELLS, families, 10))
        return within * scale * np.sqrt(2 / pairs) + effects

    common, *single = noise(), noise(), noise()
    u, v = np.linalg.qr(rng.standard_normal((width, 2)))[0].T
    angle, size = np.radians(degrees), signal * (width / 64) ** 0.25
    directions = size * u, 1.3 * size * (np.cos(angle) * u + np.sin(angle) * v)
    both = [w + np.sqrt(shared) * common + np.sqrt(1 - shared) * e for w, e in zip(directions, single, strict=True)]
    sides = np.stack(both, axis=1).reshape(CELLS, 2 * families, width)
    return (sides @ sides.transpose(0, 2, 1)).reshape(CELLS, 2, families, 2, families).swapaxes(2, 3)


def main() -> None:
    print(
        "# Do 90 % intervals of the angle hold it?\n\nMade by `coverage.py`; the text in its head says what "
        "the numbers are.\n"
    )
    print("| noise | true angle | held: least | mean | most | width in degrees |\n|---|---|---|---|---|---|")
    everything = []
    for number, ((kind, settings), degrees) in enumerate(product(KINDS.items(), ANGLES)):
        held, widths = [], []
        for place, ((families, pairs, width), signal) in enumerate(product(SHAPES, SIGNALS)):
            rng = np.random.default_rng([number, place])
            found = noiseless_angle(simulate(rng, degrees, families, pairs, width, signal, **settings), LEVEL)
            known = np.isfinite(found["angle"])
            inside = (found["angle_low"] <= degrees + 1e-6) & (degrees - 1e-6 <= found["angle_high"])
            held.append(inside[known].mean())
            widths.append((found["angle_high"] - found["angle_low"])[known].mean())
        everything += held if degrees else []
        least, mean, most = (f"{value:.0%}" for value in (min(held), np.mean(held), max(held)))
        print(f"| {kind} | {degrees}° | {least} | {mean} | {most} | {min(widths):.0f} to {max(widths):.0f} |")
    inside = np.mean([0.85 <= value <= 0.95 for value in everything])
    print(
        f"\nWithout the angle of 0: {np.mean(everything):.1%} on average; 85 to 95 % in {inside:.0%} of "
        f"{len(everything)} settings."
    )


if __name__ == "__main__":
    main()
