"""Everything that is measured of the fixed inputs, by whichever build of mechdrift the interpreter finds.

    PYTHONPATH=CHECKOUT python measure.py INPUTS OUT.npz --probes FOLDER [--pair NAME]

`same_numbers.py` starts it twice. Each `measure_*` function calls one stage and hands all that comes back to `Numbers`,
which keeps arrays by (stage, quantity, setting); a table is kept column by column.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import answers
import changing
import inputs
import reading
import torch
from build import Inputs, Numbers, module, tiny


def measure_pair(found: Numbers, given: Inputs, folder: Path, layers: Sequence[int] | None = None) -> None:
    """Everything that needs models."""
    (folder / given.setting).mkdir()
    reading.measure_rendering(found, given)
    reading.measure_activations(found, given, folder / given.setting / "blocks", layers)
    reading.measure_readouts(found, given)
    reading.measure_batches(found, given)
    reading.measure_kl(found, given)
    by_method = reading.find_all(given, layers)
    directions = by_method["mean_difference"]
    reading.measure_directions(found, given, by_method, folder / given.setting)
    reading.measure_thinking(found, given, directions)
    changing.measure_patching(found, given, changing.patch_cases(directions.instruct[1, -1]))
    changing.measure_grids(found, given)
    changing.measure_attribution(found, given)
    changing.measure_grafts(found, given)
    changing.measure_decomposition(found, given)
    changing.measure_steering(found, given, directions)
    changing.measure_sweeps(found, given, directions)
    changing.measure_edits(found, given, directions)
    reading.measure_weights(found, given)
    reading.measure_generation(found, given)
    reading.measure_likelihoods(found, given)


def measure_without_models(found: Numbers, probes: Path) -> None:
    sets = answers.old_sets(probes)
    answers.measure_probe_files(found, sets)
    answers.measure_scores(found, answers.measure_judges(found, sets))
    answers.measure_changed_rules(found)
    answers.measure_tasks(found)
    answers.measure_formulas(found)
    answers.measure_statistics(found)
    answers.measure_geometry(found)
    answers.measure_half_steps(found)


def measure_embedded(found: Numbers, name: str, probes: Path) -> None:
    """The main stages on an embedded pair: four twin pairs of the old safety set, at four layers."""
    import mechdrift as md

    load = module("probes.sets").load_probes
    sets = [load(one, probes / f"{one}.jsonl").sample(4) for one in ("safety", "toxicity")]
    given, layers = Inputs(md.load_pair(name), name, *sets), (0, 8, 16, 24)
    reading.measure_rendering(found, given)
    reading.measure_readouts(found, given)
    reading.measure_kl(found, given)
    acts = md.collect(given.pair, given.probes, layers=layers, roles=("user", "template_tail"), readout=True)
    for side in ("instruct", "reasoning"):
        found.add("activations", "collect_sites: resid_pre", acts.of(side), f"{name}, {side}")
    directions = md.find_directions(acts, splits=2)
    found.add("directions", "find_directions: instruct", directions.instruct, name)
    found.add("directions", "find_directions: reasoning", directions.reasoning, name)
    found.add("directions", "compare_directions", md.compare_directions(directions, draws=20).frame, name)
    few = {"layers": layers, "roles": ("user", "template_tail[-1]")}
    changing.measure_patching(found, given, {"resid_pre": few, "mlp_out": {"site": "mlp_out", **few}})
    found.add("patching", "attribute: effect", md.attribute(given.pair, given.probes, **few).effect, name)
    found.add("patching", "graft: effect", md.graft(given.pair, given.probes, layers=layers).effect, name)
    reading.measure_weights(found, given)
    reading.measure_generation(found, given, think=6, answer=4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--probes", type=Path, required=True)
    parser.add_argument("--pair")
    given = parser.parse_args()
    folder, found = given.out.with_suffix(""), Numbers()
    folder.mkdir()
    torch.set_num_threads(1)
    if given.pair:
        measure_embedded(found, given.pair, given.probes)
    else:
        measure_without_models(found, given.probes)
        for family in inputs.FAMILIES:
            measure_pair(found, tiny(given.inputs, family), folder)
    found.save(given.out)


if __name__ == "__main__":
    main()
