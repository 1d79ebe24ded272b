"""First-order estimates against finite differences of exact patches, and against models that are linear where it
matters."""

import numpy as np
import pytest
import torch
from conftest import FAMILIES, make_model
from test_capture import make_probes, pair_of
from test_patching import models_that_differ_in

from mechdrift.patching.attribution import attribute
from mechdrift.patching.grid import patch
from mechdrift.records import MechdriftError

ROLES = ("user", "template_tail[-1]", "think_close")


def nudged(scale: float, family: str = "llama") -> tuple:
    """Two models that differ by a little everywhere."""
    first, second, third = (make_model(family, seed) for seed in (0, 0, 1))
    with torch.no_grad():
        for parameter, other in zip(second.parameters(), third.parameters(), strict=True):
            parameter.add_(scale * other)
    return first, second


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "z"])
def test_small_differences_are_attributed_as_exact_patches_measure_them(family, site):
    """The error of a first-order estimate falls with the square of the difference, the effect with the difference
    itself."""
    probes, errors = make_probes(3), []
    for scale in (1e-3, 1e-4):
        pair = pair_of(*nudged(scale, family))
        exact, estimate = (function(pair, probes, site=site, roles=ROLES) for function in (patch, attribute))
        np.testing.assert_allclose(estimate.recipient_readout, exact.recipient_readout, atol=1e-4)
        np.testing.assert_allclose(estimate.donor_readout, exact.donor_readout, atol=1e-4)
        errors.append(np.abs(estimate.effect - exact.effect).max() / np.abs(exact.effect).max())
    assert errors[0] < 0.2
    assert errors[1] < 0.03  # float32 rounding of the exact difference is in it
    assert (estimate.engine, estimate.roles, estimate.layers) == ("first order", exact.roles, exact.layers)


def test_heads_are_attributed_one_by_one():
    pair, probes = pair_of(*nudged(1e-3)), make_probes(2)
    exact, estimate = (
        function(pair, probes, site="z", heads="all", roles=("think_close[-1]", "user"))
        for function in (patch, attribute)
    )
    assert estimate.roles == exact.roles
    assert np.corrcoef(estimate.effect.ravel(), exact.effect.ravel())[0, 1] > 0.99


def test_integrated_gradients_of_a_layer_add_up_to_the_exact_effect_of_patching_all_its_positions():
    """Completeness: the integral of the gradient along a straight path is the difference at its ends, however far they
    are apart."""
    pair, probes, roles = pair_of(*nudged(0.02)), make_probes(2), ("user", "template_tail", "think_open", "think_close")
    joint = patch(pair, probes, roles=("all",)).effect[:, :, 0]
    plain = attribute(pair, probes, roles=(*roles, "system")).effect.sum(axis=2)
    exact = attribute(pair, probes, roles=(*roles, "system"), steps=24)
    assert exact.engine == "integrated gradients, 24 steps"
    assert np.abs(joint).max() > 0.01
    assert np.abs(exact.effect.sum(axis=2) - joint).max() < 0.02 * np.abs(joint).max() < np.abs(plain - joint).max()


def test_what_the_screen_says_is_checked_by_exact_patches():
    pair, probes = pair_of(*nudged(0.01)), make_probes(3)
    grid = attribute(pair, probes, roles=ROLES, verify=3, seed=1)
    exact, found = patch(pair, probes, roles=ROLES).effect.mean(axis=0), grid.verification
    assert found is not None
    assert (found.frame.top.sum(), len(found.frame), found.unscreened) == (3, 6, exact.size - 3)
    for row in found.frame.itertuples():
        place = grid.layers.index(row.layer), grid.roles.index(row.role)
        assert row.exact == pytest.approx(exact[place], abs=1e-5)
        assert row.estimate == pytest.approx(grid.effect.mean(axis=0)[place])
    smallest = found.frame[found.frame.top].exact.abs().min()
    share = (found.frame[~found.frame.top].exact.abs() > smallest).mean()
    assert found.missed == pytest.approx(share * found.unscreened)
    assert found.missed < found.missed_at_most <= found.unscreened
    assert -1 <= found.rank_correlation <= 1
    assert patch(pair, probes, roles=ROLES).verification is None


def test_single_heads_are_verified_too():
    pair, probes = pair_of(*nudged(0.01)), make_probes(2)
    options = {"site": "z", "heads": (0, 3), "roles": ("user", "think_close[-1]")}
    grid, exact = attribute(pair, probes, verify=4, **options), patch(pair, probes, **options)
    for row in grid.verification.frame.itertuples():
        place = exact.layers.index(row.layer), exact.roles.index(row.role)
        assert row.exact == pytest.approx(exact.effect.mean(axis=0)[place], abs=1e-5)


def test_layers_that_do_not_differ_are_attributed_nothing():
    grid = attribute(pair_of(*models_that_differ_in((2,))), make_probes(2), roles=ROLES)
    np.testing.assert_array_equal(grid.effect[:, :3], 0)
    assert np.abs(grid.effect[:, 3]).max() > 0.01


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"steps": 0}, "steps should be 1"),
        ({"verify": -1}, "verify 0"),
        ({"source": "random"}, "use patch"),
        ({"layers": (9,)}, "no layer 9"),
    ],
)
def test_attribute_refuses_what_makes_no_sense(tiny_pair, argument, says):
    with pytest.raises(MechdriftError, match=says):
        attribute(tiny_pair, make_probes(1), **argument)
