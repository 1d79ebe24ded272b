"""What is read off models: prompts and roles, activations, readouts, divergence, directions, weights, words."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import torch
from build import IS_NEW, Inputs, Numbers, module


def measure_rendering(found: Numbers, given: Inputs) -> None:
    roles = module("probes.roles")
    prompts = {think: given.rendered(think) for think in ("none", "off")} | {"own": given.thought}
    for think, rendered in prompts.items():
        where = f"{given.setting}, {think}"
        found.add("rendering", "token ids", np.concatenate([prompt.ids for prompt in rendered]), where)
        spans = [f"{role} {span}" for prompt in rendered for role, span in prompt.roles.items()]
        found.add("rendering", "spans of roles", spans, where)
        found.add("rendering", "readout position", [prompt.readout_position for prompt in rendered], where)
        present = [role for role in ("user", "template_tail", "think[quarters]", "answer") if _has(rendered, role)]
        columns = roles.role_columns(rendered, present)
        found.add("rendering", "role columns", list(columns), where)
        ends = [roles.role_span(prompt, column) for prompt in rendered for column in columns]
        found.add("rendering", "spans of role columns", np.array(ends), where)


def _has(rendered: Sequence[Any], role: str) -> bool:
    return all(role.partition("[")[0] in prompt.roles for prompt in rendered)


def measure_activations(found: Numbers, given: Inputs, folder: Path, layers: Sequence[int] | None = None) -> None:
    import mechdrift as md

    capture = module("capture")
    loaded = given.pair.open("instruct")
    sites = importlib.import_module(f"mechdrift.{'activations.recording' if IS_NEW else 'recording'}").standard_sites
    found.add("activations", "sites that the model has", list(sites(loaded)), given.setting)
    for think, answers in (("off", None), ("own", given.answers["reasoning"])):
        roles = ("user", "template_tail", *(("think[quarters]", "answer") if think == "own" else ()))
        both = md.collect_sites(
            given.pair,
            given.probes,
            sites=sites(loaded),
            roles=roles,
            layers=layers,
            think=think,
            answers=answers,
            readout=True,
        )
        for site, recorded in both.items():
            for side in ("instruct", "reasoning"):
                where = f"{given.setting}, {think}, {side}"
                found.add("activations", f"collect_sites: {site}", recorded.of(side), where)
                found.add("activations", "states at the readout", recorded.readout[side], where)
    one = capture.collect_one(loaded, given.thought, sites=("resid_pre", "z"), roles=("all",), layers=layers)
    found.add("activations", "collect_one", {site: one.of(site) for site in ("resid_pre", "z")}, given.setting)
    blocks = md.collect_to(folder, loaded, given.rendered(), roles=("user",), layers=layers, prompts_per_block=5)
    read = [block.of("resid_pre") for block in blocks]
    found.add("activations", "collect_to", torch.cat([torch.as_tensor(part) for part in read]), given.setting)


def measure_readouts(found: Numbers, given: Inputs) -> None:
    readouts = module("readouts")
    readout, items = given.readout, [item.id for item in given.probes]
    comply = readout.comply_ids if IS_NEW else readout.plain_ids
    found.add("readouts", "token sets", [str(readout.trigger_ids[i]) + str(comply[i]) for i in items], given.setting)
    for side in ("instruct", "reasoning"):
        loaded, where = given.pair.open(side), f"{given.setting}, {side}"
        states = readouts.readout_states(loaded, given.rendered())
        logits = readouts.unembed(loaded, states)
        found.add("readouts", "states", states, where)
        found.add("readouts", "logits", logits, where)
        found.add("readouts", "log-odds", readouts.measure(readout, logits, items), where)
        by_state = [readouts.read_states(loaded, readout, states[i], item) for i, item in enumerate(items)]
        found.add("readouts", "log-odds of states", np.array(by_state), where)
        aligned = [number % 3 > 0 for number in range(len(items))]
        observed = readouts.observe(given.probes, given.answers[side], aligned)
        calibrated = readouts.make_readout(given.renderer, given.probes, observed)
        found.add("readouts", "calibrated token sets", [str(calibrated.trigger_ids[i]) for i in items], where)
        valid = readouts.validate(given.renderer, given.probes, dict(zip(items, logits, strict=True)), observed)
        named = ("auroc", "low", "high", "n", "n_behaving")
        found.add("readouts", "validate", {name: getattr(valid, name) for name in named}, where)


def measure_batches(found: Numbers, given: Inputs) -> None:
    """Prompts of many lengths, more than one batch of them: both builds sort and pad them."""
    probes, setting = inputs.many_prompts(), f"{given.setting}, 96 prompts"
    loaded, rendered = given.pair.open("reasoning"), render(given.renderer, probes)
    found.add("readouts", "states", module("readouts").readout_states(loaded, rendered), setting)
    one = module("capture").collect_one(loaded, rendered, roles=("user", "template_tail[-1]"))
    found.add("activations", "collect_one", {"resid_pre": one.of("resid_pre")}, setting)


def render(renderer: Any, probes: Any) -> list[Any]:
    return module("probes.rendering").render_items(renderer, probes.items, "off")


def measure_kl(found: Numbers, given: Inputs) -> None:
    import mechdrift as md

    table = md.kl_drift(given.pair, given.probes, given.answers["instruct"])
    found.add("divergence", "kl_drift", table, given.setting)
    found.add("divergence", "summarise_kl", module("summaries").summarise_kl(table, seed=0), given.setting)


# Directions


def find_all(given: Inputs, layers: Sequence[int] | None = None) -> dict[str, Any]:
    import mechdrift as md

    acts = md.collect(given.pair, given.probes, roles=("user", "template_tail[0]", "template_tail[-1]"), layers=layers)
    return {method: md.find_directions(acts, method, splits=3) for method in module("directions").FINDERS}


def measure_directions(found: Numbers, given: Inputs, by_method: Mapping[str, Any], folder: Path) -> None:
    import mechdrift as md

    for method, directions in by_method.items():
        where = f"{given.setting}, {method}"
        for name in ("instruct", "reasoning", "norm_instruct", "norm_reasoning", "split_instruct", "split_reasoning"):
            found.add("directions", f"find_directions: {name}", getattr(directions, name), where)
        found.add("directions", "compare_directions", md.compare_directions(directions, draws=40).frame, where)
        cones = md.direction_cones(directions, draws=8)
        found.add("directions", "direction_cones", cones, where)
    found_by_mean = by_method["mean_difference"]
    acts = md.collect(given.pair, given.other, roles=found_by_mean.roles, layers=found_by_mean.layers)
    other = md.find_directions(acts)
    found.add(
        "directions", "compare_dimensions", md.compare_dimensions([found_by_mean, other], draws=40), given.setting
    )
    exchange = module("exchange")
    role = found_by_mean.roles[-1]
    vectors = exchange.block_vectors(found_by_mean, "instruct", role)
    found.add("directions", "block_vectors", torch.stack(list(vectors.values())), given.setting)
    file = exchange.to_gguf(found_by_mean, "instruct", role, folder / "vector.gguf", "llama")
    found.add("directions", "to_gguf: the file's bytes", np.frombuffer(file.read_bytes(), np.uint8), given.setting)
    saved = exchange.load_directions(exchange.save_directions(found_by_mean, folder / "found.safetensors"))
    kept = {name: getattr(saved, name) for name in ("instruct", "reasoning", "norm_instruct", "split_reasoning")}
    found.add("directions", "save_directions", kept, given.setting)


def measure_thinking(found: Numbers, given: Inputs, directions: Any) -> None:
    import mechdrift as md

    layer, role = directions.layers[1], directions.roles[-1]
    try:
        drift = md.along_thinking(
            given.pair, given.probes, given.answers["reasoning"], directions, layer, role, draws=50
        )
    except md.MechdriftError as error:  # a random parent may have no direction there; both builds then say so
        found.add("directions", "along_thinking: error", str(error)[:60], given.setting)
        return
    found.add("directions", "along_thinking", {"instruct": drift.instruct, "reasoning": drift.reasoning}, given.setting)
    found.add("directions", "along_thinking", drift.frame, given.setting)


# Weights


def measure_weights(found: Numbers, given: Inputs) -> None:
    lineage = module("pairs.lineage")
    weights = importlib.import_module("mechdrift.pairs.weight_change") if IS_NEW else lineage
    change = weights.weight_change(given.pair).sort_values(["layer", "module"], ignore_index=True)
    found.add("weights", "weight_change", change, given.setting)
    found.add("weights", "layer_change", weights.layer_change(change), given.setting)
    audited = lineage.audit_pair(given.pair, [item.prompt for item in given.probes])
    found.add("weights", "audit_pair: same_tokens", audited.same_tokens, given.setting)
    found.add("weights", "audit_pair: fingerprints", list(audited.fingerprints.values()), given.setting)
    for side in ("instruct", "reasoning"):
        facts = {name: str(value) for name, value in audited.facts[side].items()}
        found.add("weights", "audit_pair: facts", facts, f"{given.setting}, {side}")
        digest = module("blocks").weights_digest(given.pair.open(side))
        found.add("weights", "weights_digest", digest, f"{given.setting}, {side}")


def measure_generation(found: Numbers, given: Inputs, think: int = 12, answer: int = 8) -> None:
    import mechdrift as md

    for side in ("instruct", "reasoning"):
        written = md.generate(
            given.pair, given.probes, side, budget=md.Budget(think=think, answer=answer), dtype="float32"
        )
        ids = [i for row in written for i in (*row.thinking_ids, -1, *row.answer_ids, -2)]
        found.add("generation", "greedy token ids", [str(ids)], f"{given.setting}, {side}")
        found.add(
            "generation", "closed, finished", [(row.closed, row.finished) for row in written], given.setting + side
        )


def measure_likelihoods(found: Numbers, given: Inputs) -> None:
    likelihoods = module("behaviour.benchmark_scores.likelihoods")
    loaded = given.pair.open("instruct")
    sentences = [item.prompt for item in given.probes]
    contexts = [("Well. " if number % 2 else "") for number in range(len(sentences))]
    for per_token in (False, True):
        values = likelihoods.log_likelihoods(loaded, sentences, contexts, per_token=per_token)
        found.add("behaviour", "log_likelihoods", values, f"{given.setting}, {per_token}")
