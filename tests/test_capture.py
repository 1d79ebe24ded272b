"""What `collect` keeps equals Hugging Face's hidden states of each prompt run alone, whatever the batch, the padding and the roles."""

from types import MappingProxyType

import pytest
import torch
from conftest import CHATML, FAMILIES, make_model, make_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mechdrift.capture import batches, collect, pad, record_roles, role_columns, role_span
from mechdrift.directions import find_directions
from mechdrift.hooks import edit, record
from mechdrift.pairs import LanguageModel, ModelSource, Pair
from mechdrift.pairs.structure import find_structure
from mechdrift.probes import Renderer
from mechdrift.records import Completion, Completions, MechdriftError, ProbeItem, ProbeSet, Rendered

INJECTS_THINK = CHATML.replace("assistant\\n", "assistant\\n<think>\\n")  # as DeepSeek-R1's template does
ROLES = ("system", "user", "template_tail", "think_open", "think_close[-1]")
WORDS = ("a", "why me", "ten green bottles hang", "go", "a somewhat longer question about nothing much at all")


def make_probes(n_pairs: int = 4, ends: tuple[str, str] = ("!", "?")) -> ProbeSet:
    """Twins of the same words in families of their own; triggers and neutrals end in different signs."""
    items = [
        ProbeItem(
            id=f"{i}-{contrast[0]}", dimension="safety", family=f"family {i}", contrast=contrast, twin=f"{i}-{other}",
            prompt=f"{WORDS[i % len(WORDS)]} {i}{end}", aligned=("No",), misaligned=("Yes",),
        )
        for i in range(n_pairs)
        for contrast, other, end in (("trigger", "n", ends[0]), ("neutral", "t", ends[1]))
    ]  # fmt: skip
    return ProbeSet(name="tiny", dimension="safety", items=tuple(items))


def load(model) -> LanguageModel:
    return LanguageModel(
        source=ModelSource(name="tiny", path="tiny"), model=model, tokenizer=make_tokenizer(), structure=find_structure(model),
        max_surface_error=0.0,
    )  # fmt: skip


def pair_of(instruct, reasoning) -> Pair:
    """A pair of models in memory."""
    sides = {"instruct": load(instruct), "reasoning": load(reasoning)}
    return Pair(
        name="tiny", instruct=sides["instruct"].source, reasoning=sides["reasoning"].source,
        _loaded={(side, "float32"): loaded for side, loaded in sides.items()},
        _tokenizers={side: loaded.tokenizer for side, loaded in sides.items()},
    )  # fmt: skip


def render_all(probes: ProbeSet, template: str = CHATML, **parts) -> list[Rendered]:
    renderer = Renderer(make_tokenizer(template))
    return [renderer.render(item.id, item.prompt, **({"think": "off"} | parts)) for item in probes]


@torch.no_grad()
def hidden_states(model, prompt: Rendered) -> torch.Tensor:
    """`[layer, pos, d_model]`: the oracle, one prompt alone, by Hugging Face; entry l is the input of block l."""
    return torch.cat(model(torch.tensor([prompt.ids]), output_hidden_states=True, use_cache=False).hidden_states)


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_roles_are_hugging_faces_hidden_states_of_each_prompt_alone(family):
    model, rendered = make_model(family), render_all(make_probes())
    assert len({len(prompt.ids) for prompt in rendered}) > 2  # so that there is padding
    columns = role_columns(rendered, ROLES)
    recorded = record_roles(load(model), rendered, "resid_pre", (0, 2, 3), columns).roles
    for prompt, ours in zip(rendered, recorded, strict=True):
        states = hidden_states(model, prompt)[[0, 2, 3]]
        for index, column in enumerate(columns):
            start, stop = role_span(prompt, column)
            assert_close(ours[:, index], states[:, start:stop].mean(1), rtol=0, atol=2e-5, msg=f"{prompt.item_id} {column}")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_never_changes_a_value(family, side):
    model, prompts = make_model(family), render_all(make_probes())
    batch = pad([prompt.ids for prompt in prompts], pad_id=7, side=side)
    loaded = load(model)
    points = {layer: loaded.structure.hook_point("resid_pre", layer) for layer in range(loaded.n_layers)}
    with record(points) as seen, torch.no_grad():
        model.base_model(**batch.forward_arguments(loaded.device), use_cache=False)
    for row, (prompt, offset) in enumerate(zip(prompts, batch.offsets, strict=True)):
        alone = hidden_states(model, prompt)
        for layer, states in seen.items():
            assert_close(states[row, offset : offset + len(prompt.ids)], alone[layer], rtol=0, atol=2e-5, msg=f"{prompt.item_id} {layer}")


def test_many_batches_come_back_in_the_order_of_the_items():
    probes = make_probes(20)
    model, rendered = make_model(), render_all(probes)
    assert len(list(batches([len(prompt.ids) for prompt in rendered]))) > 1
    recorded = record_roles(load(model), rendered, "resid_pre", (2,), ("user[-2]",)).roles
    expected = [hidden_states(model, prompt)[2, role_span(prompt, "user[-2]")[0]] for prompt in rendered]
    assert_close(recorded[:, 0, 0], torch.stack(expected), rtol=0, atol=2e-5)


def test_both_models_get_the_same_tokens_and_their_own_side(tiny_pair):
    probes = make_probes()
    acts = collect(tiny_pair, probes, roles=ROLES, layers=(3, 1))
    assert acts.layers == (3, 1)
    assert acts.instruct.shape == acts.reasoning.shape == (len(probes), 2, len(acts.roles), 32)
    start, stop = role_span(render_all(probes)[5], "user")
    for side in ("instruct", "reasoning"):
        states = hidden_states(tiny_pair.open(side).model, render_all(probes)[5])
        assert_close(acts.of(side)[5, :, acts.roles.index("user")], states[[3, 1], start:stop].mean(1), rtol=0, atol=2e-5)


def test_answers_and_thinking_become_roles(tiny_pair):
    probes = make_probes(2)
    rows = [
        Completion(
            item_id=item.id, side="reasoning", think="own", thinking="", answer="", closed=True, finished=True,
            thinking_ids=(30, 31 + i), answer_ids=(50 + i, 60),
        )
        for i, item in enumerate(probes)
    ]  # fmt: skip
    answers = Completions(side="reasoning", think="own", rows=tuple(reversed(rows)))  # matched by id, not by place
    acts = collect(tiny_pair, probes, roles=("think[-1]", "answer"), layers=(0,), think="own", answers=answers)
    embed = tiny_pair.open("reasoning").model.model.embed_tokens.weight
    for i in range(len(probes)):
        assert_close(acts.reasoning[i, 0], torch.stack([embed[31 + i], embed[[50 + i, 60]].mean(0)]))


# Which tokens a role names.


@given(
    prompt=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=30),
    think=st.sampled_from(["none", "off", "own", "donor"]),
    thinking=st.lists(st.integers(2, 257), max_size=5),
    answer=st.lists(st.integers(2, 257), max_size=5),
    template=st.sampled_from([CHATML, INJECTS_THINK]),
)
def test_role_spans_partition_the_rendered_ids(prompt, think, thinking, answer, template):
    renderer = Renderer(make_tokenizer(template))
    rendered = renderer.render("item", prompt, think, thinking=thinking, answer=answer)
    spans = list(rendered.roles.values())
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == len(rendered.ids)
    assert all(start < stop for start, stop in spans)
    # and they hold what was put in: bytes make one token each, so that the text can be read back
    words = renderer.tokenizer.decode(rendered.ids[slice(*rendered.roles["user"])])
    assert words in prompt
    assert prompt in renderer.tokenizer.decode(rendered.ids)
    assert rendered.ids[slice(*rendered.roles.get("answer", (0, 0)))] == tuple(answer)
    assert ("think_close" in rendered.roles) == (think != "none")


PROMPT = Rendered(item_id="p", ids=tuple(range(10)), roles=MappingProxyType({"system": (0, 2), "user": (2, 6), "template_tail": (6, 10)}))


@pytest.mark.parametrize(
    ("column", "span"),
    [("user", (2, 6)), ("user[0]", (2, 3)), ("user[3]", (5, 6)), ("user[-1]", (5, 6)), ("user[-4]", (2, 3)), ("system[1]", (1, 2))],
)
def test_role_spans_are_counted_from_the_roles_own_ends(column, span):
    assert role_span(PROMPT, column) == span


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("assistant", "unknown role"), ("user[", "unknown role"), ("user[x]", "unknown role"), ("", "unknown role"),
        ("think", "no role 'think'"), ("user[4]", "outside"), ("user[-5]", "outside"), ("user[-0]", "outside"),
    ],
)  # fmt: skip
def test_roles_that_do_not_exist_are_refused_in_one_sentence(column, says):
    with pytest.raises(MechdriftError, match=says) as error:
        role_span(PROMPT, column)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_the_template_tail_becomes_as_many_columns_as_the_shortest_has():
    short = Rendered(item_id="q", ids=(0, 1, 2), roles={"user": (0, 1), "template_tail": (1, 3)})
    assert role_columns([PROMPT, short], ("user", "template_tail")) == ("user", "template_tail[-2]", "template_tail[-1]")
    with pytest.raises(MechdriftError, match="no role 'template_tail'"):
        role_columns([Rendered(item_id="r", ids=(0,), roles={"user": (0, 1)})], ("template_tail",))


@pytest.mark.parametrize(("argument", "says"), [({"site": "stream"}, "unknown site"), ({"roles": ("me",)}, "unknown role"),
                                                ({"layers": (0, 4)}, "no layer 4"), ({"layers": (-1,)}, "no layer -1")])  # fmt: skip
def test_collect_refuses_what_does_not_exist(tiny_pair, argument, says):
    with pytest.raises(MechdriftError, match=says):
        collect(tiny_pair, make_probes(1), **argument)


# Batches and padding.

SEQUENCES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=8)


@given(sequences=SEQUENCES, side=st.sampled_from(["left", "right"]))
def test_padded_prompts_can_be_read_back_and_count_only_real_tokens(sequences, side):
    batch = pad(sequences, pad_id=0, side=side)
    for row, sequence in enumerate(sequences):
        real = batch.mask[row].bool()
        assert batch.ids[row][real].tolist() == sequence
        assert batch.positions[row][real].tolist() == list(range(len(sequence)))
        assert real.nonzero()[0].item() == batch.offsets[row]
    # SDPA is fastest without a mask, and needs none exactly when nothing is padded.
    assert ("attention_mask" in batch.forward_arguments(torch.device("cpu"))) == (len(set(map(len, sequences))) > 1)


@given(lengths=st.lists(st.integers(1, 50), max_size=30), budget=st.integers(1, 120))
def test_batches_hold_every_prompt_once_and_keep_to_their_budget(lengths, budget):
    groups = list(batches(lengths, budget))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or max(lengths[i] for i in group) * len(group) <= budget


# What it costs, and what goes wrong.


@pytest.mark.parametrize(("site", "last"), [("resid_post", 1), ("resid_mid", 1), ("resid_pre", 2)])
def test_the_forward_pass_stops_after_the_last_wanted_layer(site, last):
    loaded = load(make_model())
    begun, ended = [], []
    for layer, block in enumerate(loaded.structure.blocks):
        block.register_forward_pre_hook(lambda *_, layer=layer: begun.append(layer))
        block.mlp.register_forward_hook(lambda *_, layer=layer: ended.append(layer))
    record_roles(loaded, render_all(make_probes(1))[:1], site, (0, last), ("user",))
    assert begun == list(range(last + 1))
    assert ended == list(range(last + (site == "resid_post")))  # inside the last block, too, nothing runs in vain


def test_collecting_leaves_no_hook_behind():
    loaded = load(make_model())
    record_roles(loaded, render_all(make_probes(1)), "resid_mid", (0, 1), ("user",))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules())


def test_damaged_weights_are_named_by_model_and_layer():
    broken = make_model(seed=1)
    broken.model.layers[2].mlp.down_proj.weight.data[3, 4] = float("nan")
    with pytest.raises(MechdriftError, match=r"reasoning model .* layer 3, role template_tail\[-\d+\], item 0-t") as error:
        collect(pair_of(make_model(), broken), make_probes(), layers=(1, 3))
    assert str(error.value).endswith(".")
    collect(pair_of(make_model(), broken), make_probes(), layers=(1, 2))  # nothing before the damage is affected


def test_damage_at_one_token_is_named_by_its_role_and_spoils_no_other():
    broken, probes = make_model(seed=1), make_probes(ends=("!", "?"))
    (mark,) = make_tokenizer().encode("!")  # triggers alone have it, at the end of the user's text
    broken.model.embed_tokens.weight.data[mark] = float("inf")
    pair = pair_of(make_model(), broken)
    with pytest.raises(MechdriftError, match=r"layer 0, role user\[-1\], item 0-t"):
        collect(pair, probes, roles=("user[0]", "user[-1]", "template_tail"))
    collect(pair, probes, roles=("user[0]", "template_tail"), layers=(0,))


def test_a_planted_direction_is_found_where_it_was_planted():
    """A vector is added to the residual stream that enters block 2, at all positions of the trigger prompts of one model only."""
    pair, probes, planted = pair_of(make_model(), make_model(seed=1)), make_probes(10), 2
    structure = pair.open("reasoning").structure
    torch.manual_seed(0)
    vector = 3 * torch.randn(32)
    (mark,) = make_tokenizer().encode("!")
    sign = pair.open("reasoning").model.model.embed_tokens.weight[mark]
    triggers = {}

    def look(hidden):  # a prompt with the trigger's sign among its embeddings is a trigger
        triggers["rows"] = (hidden == sign).all(-1).any(-1)
        return hidden

    with edit({
        structure.hook_point("resid_pre", 0): look,
        structure.hook_point("resid_pre", planted): lambda hidden: hidden + vector * triggers["rows"][:, None, None],
    }):  # fmt: skip
        directions = find_directions(collect(pair, probes))
    cosine = {side: torch.cosine_similarity(directions.of(side), vector, dim=-1) for side in ("instruct", "reasoning")}
    assert cosine["reasoning"][planted].min() >= 0.95
    assert cosine["reasoning"][:planted].abs().max() < 0.7
    assert cosine["instruct"].abs().max() < 0.7
    assert_close(directions.norm_reasoning[planted], vector.norm().expand(len(directions.roles)), rtol=0.15, atol=0)
