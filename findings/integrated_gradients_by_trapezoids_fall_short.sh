#!/usr/bin/env bash
# With captum 0.9.0, `method="riemann_trapezoid"` attributes a share of 1/n too little, n being the number of steps: a fifth
# with 5 steps, 2 % with 50.
#
# n points have n - 1 spaces between them. Captum puts n points from the baseline to the input, ends included, as a
# trapezoid rule does, but gives each of them 1/n (the ends half of that) instead of 1/(n - 1), so that the weights add
# up to (n - 1)/n. The gradient of a linear and of a quadratic function is constant and linear along the path, where
# the trapezoid rule is exact; there the attributions should add up to the change of the output, and do with every
# other rule that is exact for it. Integrated gradients of inputs and of layers share the weights. More steps
# hide it, and the order of attributions of one input is right; sums, completeness, `delta`, and comparisons between
# runs with other numbers of steps are not.
#
# Versions: captum 0.9.0, torch 2.13.0, Python 3.11.
# Seen: sum of attributions by the change of the output. Linear: 1.0000 with left, right, middle and Gauss-Legendre, and
# 0.8000 (5 steps) or 0.9800 (50) with trapezoids. Quadratic: 1.0000 with middle and Gauss-Legendre, and the same 0.8000 and
# 0.9800. With weights of 1/(n - 1) by hand: 1.0000. Ends with 1 if that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0"
"$work/venv/bin/pip" install -q "captum==0.9.0"
cat > "$work/look.py" <<'PY'
import sys

import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from torch import nn

torch.manual_seed(0)


class Powers(nn.Module):
    """The sum of a linear layer's outputs, or of their squares."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.layer, self.power = nn.Linear(4, 3, bias=False).double(), power

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layer(values).pow(self.power).sum(-1)


TRAPEZOID, STEPS = "riemann_trapezoid", (5, 50)
RULES = ("riemann_left", "riemann_right", "riemann_middle", "gausslegendre", TRAPEZOID)
EXACT = {1: RULES[:4], 2: RULES[2:4]}  # beside the trapezoid rule
point = torch.randn(1, 4, dtype=torch.float64)


def share(method, model: nn.Module, rule: str, steps: int) -> float:
    found = method.attribute(point, baselines=torch.zeros_like(point), n_steps=steps, method=rule)
    return float(found.sum() / model(point))


def by_hand(model: nn.Module, steps: int) -> float:
    """The trapezoid rule: n points, n - 1 spaces."""
    total = torch.zeros_like(point)
    for number, part in enumerate(torch.linspace(0, 1, steps, dtype=torch.float64)):
        place = (part * point).requires_grad_()
        (gradient,) = torch.autograd.grad(model(place).sum(), place)
        total += gradient * (0.5 if number in (0, steps - 1) else 1.0) / (steps - 1)
    return float((total * point).sum() / model(point))


def near(value: float, due: float) -> bool:
    return abs(value - due) < 1e-6


as_described = True
for power, name in ((1, "linear"), (2, "quadratic")):
    model = Powers(power)
    methods = IntegratedGradients(model), LayerIntegratedGradients(model, model.layer)
    for steps in STEPS:
        right = [share(methods[0], model, rule, steps) for rule in EXACT[power]]
        short = [share(method, model, TRAPEZOID, steps) for method in methods]
        hand = by_hand(model, steps)
        print(name, steps, "steps: others", *(f"{value:.4f}" for value in right), "trapezoids", end=" ")
        print(*(f"{value:.4f}" for value in short), f"by hand {hand:.4f}")
        as_described &= near(hand, 1) and all(near(value, 1) for value in right)
        as_described &= all(near(value, (steps - 1) / steps) for value in short)
sys.exit(0 if as_described else 1)
PY
"$work/venv/bin/python" "$work/look.py" 2>/dev/null
echo "as described: the weights of the trapezoid rule add up to (n - 1)/n"
