"""What `collect` keeps equals Hugging Face's hidden states of each prompt run alone, whatever the batch, the padding
and the roles."""

from types import MappingProxyType

import pytest
import torch
from conftest import CHATML, FAMILIES, make_model, make_pair, make_tokenizer, save_model
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from mechdrift.activations import recording
from mechdrift.activations.batching import batches, pad
from mechdrift.activations.capture import collect, collect_sites
from mechdrift.activations.one_model import collect_one
from mechdrift.activations.readouts import readout_logits
from mechdrift.activations.recording import Means, record_roles, standard_sites
from mechdrift.activations.store import weights_digest
from mechdrift.directions.finders import find_directions
from mechdrift.hooks import HookPoint, edit, record
from mechdrift.pairs.loading import LanguageModel, ModelSource
from mechdrift.pairs.pair import Pair
from mechdrift.pairs.structure import find_structure
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.roles import role_columns, role_span
from mechdrift.probes.sets import load_probes
from mechdrift.records import Completion, Completions, MechdriftError, ProbeItem, ProbeSet, Rendered

INJECTS_THINK = CHATML.replace("assistant\\n", "assistant\\n<think>\\n")  # as DeepSeek-R1's template does
ROLES = ("system", "user", "template_tail", "think_open", "think_close[-1]")
WORDS = ("a", "why me", "ten green bottles hang", "go", "a somewhat longer question about nothing much at all")


def make_probes(n_pairs: int = 4, ends: tuple[str, str] = ("!", "?")) -> ProbeSet:
    """Twins of the same words in families of their own; triggers and neutrals end in different signs."""
    items = [
        ProbeItem(
            id=f"{i}-{contrast[0]}",
            dimension="safety",
            family=f"family {i}",
            contrast=contrast,
            twin=f"{i}-{other}",
            prompt=f"{WORDS[i % len(WORDS)]} {i}{end}",
            aligned=("No",),
            misaligned=("Yes",),
        )
        for i in range(n_pairs)
        for contrast, other, end in (("trigger", "n", ends[0]), ("neutral", "t", ends[1]))
    ]
    return ProbeSet(name="tiny", dimension="safety", items=tuple(items))


def load(model) -> LanguageModel:
    return LanguageModel(
        source=ModelSource(name="tiny", path="tiny"),
        model=model,
        tokenizer=make_tokenizer(),
        structure=find_structure(model),
        max_surface_error=0.0,
    )


def pair_of(instruct, reasoning) -> Pair:
    """A pair of models in memory."""
    return Pair.of_loaded("tiny", load(instruct), load(reasoning))


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
            assert_close(
                ours[:, index], states[:, start:stop].mean(1), rtol=0, atol=2e-5, msg=f"{prompt.item_id} {column}"
            )


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
            assert_close(
                states[row, offset : offset + len(prompt.ids)],
                alone[layer],
                rtol=0,
                atol=2e-5,
                msg=f"{prompt.item_id} {layer}",
            )


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
        assert_close(
            acts.of(side)[5, :, acts.roles.index("user")], states[[3, 1], start:stop].mean(1), rtol=0, atol=2e-5
        )


def test_answers_and_thinking_become_roles(tiny_pair):
    probes = make_probes(2)
    rows = [
        Completion(
            item_id=item.id,
            side="reasoning",
            think="own",
            thinking="",
            answer="",
            closed=True,
            finished=True,
            thinking_ids=(30, 31 + i),
            answer_ids=(50 + i, 60),
        )
        for i, item in enumerate(probes)
    ]
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


PROMPT = Rendered(
    item_id="p",
    ids=tuple(range(10)),
    roles=MappingProxyType({"system": (0, 2), "user": (2, 6), "template_tail": (6, 10)}),
)


@pytest.mark.parametrize(
    ("column", "span"),
    [
        ("user", (2, 6)),
        ("user[0]", (2, 3)),
        ("user[3]", (5, 6)),
        ("user[-1]", (5, 6)),
        ("user[-4]", (2, 3)),
        ("system[1]", (1, 2)),
    ],
)
def test_role_spans_are_counted_from_the_roles_own_ends(column, span):
    assert role_span(PROMPT, column) == span


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("assistant", "unknown role"),
        ("user[", "unknown role"),
        ("user[x]", "unknown role"),
        ("", "unknown role"),
        ("think", "no role 'think'"),
        ("user[4]", "outside"),
        ("user[-5]", "outside"),
        ("user[-0]", "outside"),
    ],
)
def test_roles_that_do_not_exist_are_refused_in_one_sentence(column, says):
    with pytest.raises(MechdriftError, match=says) as error:
        role_span(PROMPT, column)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_the_template_tail_becomes_as_many_columns_as_the_shortest_has():
    short = Rendered(item_id="q", ids=(0, 1, 2), roles={"user": (0, 1), "template_tail": (1, 3)})
    assert role_columns([PROMPT, short], ("user", "template_tail")) == (
        "user",
        "template_tail[-2]",
        "template_tail[-1]",
    )
    with pytest.raises(MechdriftError, match="no role 'template_tail'"):
        role_columns([Rendered(item_id="r", ids=(0,), roles={"user": (0, 1)})], ("template_tail",))


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"site": "stream"}, "unknown site"),
        ({"roles": ("me",)}, "unknown role"),
        ({"layers": (0, 4)}, "no layer 4"),
        ({"layers": (-1,)}, "no layer -1"),
    ],
)
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
    with pytest.raises(
        MechdriftError, match=r"reasoning model .* layer 3, role template_tail\[-\d+\], item 0-t"
    ) as error:
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
    """A vector is added to the residual stream that enters block 2, at all positions of the trigger prompts of one
    model only."""
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

    with edit(
        {
            structure.hook_point("resid_pre", 0): look,
            structure.hook_point("resid_pre", planted): lambda hidden: (
                hidden + vector * triggers["rows"][:, None, None]
            ),
        }
    ):
        directions = find_directions(collect(pair, probes))
    cosine = {side: torch.cosine_similarity(directions.of(side), vector, dim=-1) for side in ("instruct", "reasoning")}
    assert cosine["reasoning"][planted].min() >= 0.95
    assert cosine["reasoning"][:planted].abs().max() < 0.7
    assert cosine["instruct"].abs().max() < 0.7
    assert_close(directions.norm_reasoning[planted], vector.norm().expand(len(directions.roles)), rtol=0.15, atol=0)


# Several sites, roles of thinking, and one model alone.

ALL = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")


def own_answers(probes: ProbeSet, side: str, first: int, n_thinking: int = 6) -> Completions:
    """Answers to `probes` of which every token is one of the model's own."""
    rows = [
        Completion(
            item_id=item.id,
            side=side,
            think="own",
            thinking="",
            answer="",
            closed=True,
            finished=True,
            thinking_ids=tuple(range(first, first + n_thinking)),
            answer_ids=(first + 20, first + 21 + i),
        )
        for i, item in enumerate(probes)
    ]
    return Completions(side=side, think="own", rows=tuple(rows))


@pytest.mark.parametrize("family", FAMILIES)
def test_many_sites_in_one_pass_are_what_each_is_alone(family):
    loaded, rendered = load(make_model(family)), render_all(make_probes())
    sites = standard_sites(loaded)
    assert set(ALL) - set(sites) <= {"resid_mid"}  # attention and MLP in parallel
    columns = ("user", "template_tail[-1]", "think_close[-1]")
    together = record_roles(loaded, rendered, sites, (3, 1), columns).sites
    for site in sites:
        points = {layer: loaded.structure.hook_point(site, layer) for layer in (3, 1)}
        for row, prompt in enumerate(rendered):
            with record(points) as seen, torch.no_grad():
                loaded.model(torch.tensor([prompt.ids]))
            for place, layer in enumerate((3, 1)):
                for index, column in enumerate(columns):
                    expected = seen[layer][0, slice(*role_span(prompt, column))].mean(0)
                    assert_close(
                        together[site][row, place, index], expected, rtol=0, atol=2e-5, msg=f"{site} {layer} {column}"
                    )


def test_heads_of_z_are_those_that_the_attention_writes_with():
    loaded, rendered = load(make_model()), render_all(make_probes())
    acts = collect_one(loaded, rendered, sites=("z", "attn_out"), roles=("user", "template_tail[-1]"))
    z = acts.heads()
    assert z.shape == (len(rendered), 4, 2, 4, 8)
    for layer, block in enumerate(loaded.structure.blocks):
        weight = block.self_attn.o_proj.weight.data.unflatten(1, (4, 8))  # [d_model, head, d_head]
        assert_close(
            torch.einsum("prhd,mhd->prm", z[:, layer], weight), acts.of("attn_out")[:, layer], rtol=0, atol=2e-5
        )
    assert set(acts.frame.columns) == {"item", "layer", "role", "site", "norm"}
    assert len(acts.frame) == 2 * len(rendered) * 4 * 2


def test_component_hooks_are_sites_and_heads_on_their_own_axis_come_side_by_side():
    loaded, rendered = load(make_model("qwen3")), render_all(make_probes(1))
    acts = collect_one(
        loaded, rendered, sites=("attn.q.hook_out", "attn.q_norm.hook_out"), roles=("user[0]",), layers=(2,)
    )
    q, normed = acts.heads("attn.q.hook_out"), acts.heads("attn.q_norm.hook_out")
    assert_close(normed, loaded.structure.blocks[2].self_attn.q_norm(q), rtol=0, atol=1e-5)


def test_one_model_is_its_side_of_the_pair(tiny_pair):
    probes = make_probes()
    both = collect_sites(tiny_pair, probes, sites=("resid_mid", "z"), layers=(1, 2), readout=True)
    one = collect_one(tiny_pair.open("reasoning"), probes, sites=("resid_mid", "z"), layers=(1, 2), readout=True)
    for site in ("resid_mid", "z"):
        assert torch.equal(one.of(site), both[site].reasoning)
    assert torch.equal(one.readout, both["z"].readout["reasoning"])
    assert (one.model, one.items) == (tiny_pair.reasoning.name, tuple(item.id for item in probes))
    assert torch.equal(collect_one(tiny_pair.open("reasoning"), probes, sites="z", layers=(1, 2)).of("z"), one.of("z"))
    assert torch.equal(collect(tiny_pair.open("reasoning"), probes, site="z", layers=(1, 2)).of("z"), one.of("z"))
    with pytest.raises(MechdriftError, match="go with a pair"):
        collect(tiny_pair.open("reasoning"), probes, answers={})
    with pytest.raises(MechdriftError, match="already hold"):
        collect_one(tiny_pair.open("reasoning"), render_all(probes), think="own")
    with pytest.raises(MechdriftError, match="nothing to record"):
        collect_one(tiny_pair.open("reasoning"), [], roles=("user",))


@pytest.mark.parametrize("think", ["own", "donor"])
def test_each_model_can_read_its_own_thinking_or_the_others(tiny_pair, think):
    probes = make_probes(2)
    own = {"instruct": own_answers(probes, "instruct", 30), "reasoning": own_answers(probes, "reasoning", 100)}
    given = own if think == "own" else {"instruct": own["reasoning"], "reasoning": own["instruct"]}
    roles = ("user[0]", "think[0]", "think[quarters]", "answer[0]", "think_close[-1]")
    acts = collect(tiny_pair, probes, roles=roles, layers=(0,), think=think, answers=given)
    for side in ("instruct", "reasoning"):
        embed = tiny_pair.open(side).model.model.embed_tokens.weight
        first = given[side].rows[0].thinking_ids[0]
        assert_close(acts.of(side)[:, 0, acts.roles.index("think[0]")], embed[[first] * 4])
        assert_close(
            acts.of(side)[0, 0, acts.roles.index("think[q2]")], embed[[first + 1, first + 2]].mean(0)
        )  # 6 tokens: 1 2 1 2
        assert_close(acts.of(side)[0, 0, acts.roles.index("answer[0]")], embed[first + 20])
    with pytest.raises(MechdriftError, match="keys instruct and reasoning"):
        collect(tiny_pair, probes, think=think, answers={"instruct": own["instruct"]})
    with pytest.raises(MechdriftError, match="2 of 6 items have no answer"):
        collect(tiny_pair, make_probes(3), think=think, answers=given)


@given(n=st.integers(1, 40))
def test_quarters_cover_a_span_and_are_never_empty(n):
    prompt = Rendered(item_id="p", ids=(0,) * (n + 3), roles={"system": (0, 3), "think": (3, n + 3)})
    spans = [role_span(prompt, f"think[q{k}]") for k in (1, 2, 3, 4)]
    assert spans[0][0] == 3
    assert spans[-1][1] == n + 3
    assert all(start < stop for start, stop in spans)
    if n >= 4:
        assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
        assert max(stop - start for start, stop in spans) - min(stop - start for start, stop in spans) <= 1
    short = {1: [0, 0, 0, 0], 2: [0, 0, 1, 1], 3: [0, 0, 1, 2]}
    if n in short:
        assert [(start - 3, stop - 3) for start, stop in spans] == [(i, i + 1) for i in short[n]]


# Numbers: dtypes, outliers, weights that do not fit in memory.


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_too_batches_are_what_each_prompt_is_alone(family):
    """Rounding differs between kernels, and by what it does to later layers; the mean of what Hugging Face gives is
    exact."""
    model, rendered = make_model(family).to(torch.bfloat16), render_all(make_probes())
    columns = ("user", "template_tail[-1]", "think_close[-1]")
    together = record_roles(load(model), rendered, "resid_pre", (0, 1, 3), columns).roles
    assert together.dtype == torch.float32
    for row, prompt in enumerate(rendered):
        alone = record_roles(load(model), [prompt], "resid_pre", (0, 1, 3), columns).roles[0]
        states = hidden_states(model, prompt)[[0, 1, 3]].float()
        expected = torch.stack([states[:, slice(*role_span(prompt, column))].mean(1) for column in columns], dim=1)
        assert_close(alone, expected, rtol=1e-6, atol=1e-6)
        assert (together[row] - expected).norm() <= 0.03 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_massive_activations_neither_overflow_nor_swallow_the_rest_of_a_mean(dtype):
    """One activation of 6e4 among 300 of 1: a sum in bfloat16 would lose the ones, one in float16 would be infinite."""
    hidden = torch.ones(2, 301, 8, dtype=dtype)
    hidden[:, 0], hidden[:, 1] = 6e4, 6e4
    batch = pad([[1] * 301, [1] * 301], 0)
    means = Means.over([[(0, 301), (1, 301)], [(2, 301), (0, 2)]], batch).of(hidden)
    large = hidden[0, 0, 0].double()  # as the dtype rounds it
    expected = torch.tensor([[(2 * large + 299) / 301, (large + 299) / 300], [1.0, large]])
    assert_close(means, expected[..., None].expand(2, 2, 8).float(), rtol=1e-6, atol=0)


def test_a_massive_activation_in_the_stream_is_recorded_in_bfloat16():
    model = make_model().to(torch.bfloat16)
    model.model.embed_tokens.weight.data[:, 5] = 1e5
    rendered = render_all(make_probes())
    recorded = record_roles(load(model), rendered, "resid_pre", (0, 1), ("user", "user[0]")).roles
    assert recorded[..., 5].min() > 0.9e5
    assert torch.isfinite(recorded).all()
    assert_close(recorded[:, 0, 0, 5], recorded[:, 0, 1, 5], rtol=1e-6, atol=0)


def test_weights_that_are_kept_on_disk_give_the_same_numbers(tmp_path):
    folder, rendered = save_model(tmp_path / "model"), render_all(make_probes())
    whole = load(make_model())
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        device_map="auto",
        max_memory={"cpu": 60_000},
        offload_folder=str(tmp_path / "offload"),
    )
    assert "disk" in model.hf_device_map.values()
    assert any(parameter.device.type == "meta" for parameter in model.parameters())
    offloaded = load(model.eval())
    for layers in ((0, 1, 2, 3), (1,)):
        ours, expected = (
            record_roles(side, rendered, ALL, layers, ("user", "think_close[-1]")) for side in (offloaded, whole)
        )
        for site in ALL:
            assert_close(ours.sites[site], expected.sites[site], rtol=0, atol=1e-6)
    assert torch.equal(
        *(record_roles(side, rendered, "z", (0,), ("user",), readout=True).readout for side in (offloaded, whole))
    )
    # The digest reads what lies on disk, so that two such models of one shape are not taken for each other.
    assert weights_digest(offloaded) == weights_digest(
        load(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    )


def test_nothing_is_unembedded_and_no_attention_matrix_is_asked_for(monkeypatch):
    loaded, rendered = load(make_model()), render_all(make_probes())
    assert loaded.model.config._attn_implementation == "sdpa"
    asked, plain = [], loaded.model.model.forward
    monkeypatch.setattr(loaded.model.model, "forward", lambda **given: asked.append(given) or plain(**given))
    loaded.structure.unembed.register_forward_hook(lambda *_: pytest.fail("unembedded"))
    record_roles(loaded, rendered, ALL, range(4), ("user",), readout=True)
    record_roles(loaded, rendered, ALL, range(4), ("user",))
    assert len(asked) > 1
    assert all(set(given) <= {"input_ids", "position_ids", "attention_mask", "use_cache"} for given in asked)


@pytest.mark.parametrize(
    ("sites", "ended"), [(ALL, 2), (("resid_post", "resid_pre"), 2), (("z", "resid_mid"), 1), (("attn_out",), 1)]
)
def test_a_pass_over_several_sites_stops_after_the_last_of_them(sites, ended):
    loaded, seen = load(make_model()), []
    for layer, block in enumerate(loaded.structure.blocks):
        block.mlp.register_forward_hook(lambda *_, layer=layer: seen.append(layer))
    record_roles(loaded, render_all(make_probes(1))[:1], sites, (0, 1), ("user",))
    assert seen == list(range(ended))


def test_sites_without_positions_are_refused():
    with pytest.raises(MechdriftError, match=r"not \[prompt, pos"):
        Means.over([[(0, 1)]], pad([[1, 2]], 0)).of(torch.zeros(2, 8))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_prompt_read_in_parts_is_the_same(tmp_path, family, monkeypatch):
    """Sliding windows too: only what looks at each position alone is read in parts. Also beside hooks inside it."""
    loaded = make_pair(tmp_path, family).open("instruct")
    rendered = render_items(Renderer(loaded.tokenizer), load_probes("safety").sample(2).items, "off")
    sites = standard_sites(loaded)
    settings = (sites, range(loaded.n_layers), ("user", "all", "template_tail[-1]"))
    whole = record_roles(loaded, rendered, *settings).sites
    monkeypatch.setattr(recording, "POSITIONS_AT_ONCE", 7)
    parts = record_roles(loaded, rendered, *settings).sites
    for site in sites:
        assert (parts[site] - whole[site]).abs().max() <= 1e-5 * whole[site].abs().max()
    logits = readout_logits(loaded, rendered)
    monkeypatch.setattr(recording, "POSITIONS_AT_ONCE", 10_000)
    torch.testing.assert_close(logits, readout_logits(loaded, rendered), atol=1e-5, rtol=1e-5)
    mlps = recording.position_wise(loaded, {})
    assert len(mlps) == loaded.n_layers
    assert all("forward" not in vars(mlp) for mlp in mlps)
    inner = next(module for module in mlps[0].modules() if module is not mlps[0])
    assert mlps[0] not in recording.position_wise(loaded, {("inner", 0): HookPoint(inner, "output")})
