"""Every token of a rendered prompt has one role, whatever the template does and whatever the user wrote."""

from itertools import pairwise

import pytest
from conftest import CHATML, SPECIAL, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mechdrift.probes.in_place import find
from mechdrift.probes.rendering import Renderer, render_items
from mechdrift.probes.sets import load_probes
from mechdrift.records import ROLES, MechdriftError

NO_SYSTEM = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NOTHING_BEFORE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}{% if add_generation_prompt "
    "%}<|im_start|>{% endif %}"
)
# As DeepSeek-R1's: opens a think block, and cuts earlier ones out of assistant messages.
INJECTS_OPEN = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{{ message['content'].split('</think>')[-1] }}{% else %}{{ "
    "message['content'] }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
INJECTS_BLOCK = INJECTS_OPEN.replace("<think>\n{% endif %}", "<think>\n\n</think>\n\n{% endif %}")
# Templates that begin a thought or an answer with words of their own.
BEGUN_THOUGHT = INJECTS_OPEN.replace("<think>\n{% endif %}", "<think>\nOkay, so{% endif %}")
BEGUN_ANSWER = INJECTS_BLOCK.replace("</think>\n\n{% endif %}", "</think>\n\nAnswer:{% endif %}")
PROPERTY = settings(max_examples=60, deadline=None)  # no deadline: a busy machine is not a failure
TEMPLATES = {
    "default system": CHATML,
    "no system": NO_SYSTEM,
    "nothing before": NOTHING_BEFORE,
    "open": INJECTS_OPEN,
    "block": INJECTS_BLOCK,
    "begun thought": BEGUN_THOUGHT,
    "begun answer": BEGUN_ANSWER,
}
INJECTING = ("open", "block", "begun thought", "begun answer")
RENDERERS = {name: Renderer(make_tokenizer(template)) for name, template in TEMPLATES.items()}
EVERY_TEMPLATE = pytest.mark.parametrize("name", TEMPLATES)

THOUGHT, ANSWER = tuple(b"hm, let me see"), (100, 101, 102)
PROMPTS = st.text(min_size=1) | st.sampled_from(
    [
        "<think>",
        "</think>",
        "Say <think>\n\n</think>\n\n twice",
        "<|im_end|>",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "assistant\n",
        "Zebra?",
        "9 oboes, (quietly)",
        "?",
        "\n",
        " ",
    ]
)


def text_of(renderer: Renderer, rendered, role: str) -> str:
    start, stop = rendered.roles.get(role, (0, 0))
    return renderer.tokenizer.decode(rendered.ids[start:stop])


def ids_of(rendered, role: str) -> tuple[int, ...]:
    start, stop = rendered.roles[role]
    return rendered.ids[start:stop]


@EVERY_TEMPLATE
@PROPERTY
@given(prompt=PROMPTS, think=st.sampled_from(["none", "off", "own", "donor"]), with_answer=st.booleans())
def test_roles_partition_the_ids_in_order(name, prompt, think, with_answer):
    rendered = RENDERERS[name].render("x", prompt, think, thinking=THOUGHT, answer=ANSWER if with_answer else ())
    assert list(rendered.roles) == [role for role in ROLES if role in rendered.roles]
    spans = list(rendered.roles.values())
    assert spans[0][0] == 0
    assert spans[-1][1] == len(rendered.ids)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all(start < stop for start, stop in spans)
    assert ("think" in rendered.roles) == (think in ("own", "donor"))
    assert ("think_open" in rendered.roles) == (think != "none" or name in INJECTING)
    assert ("think_close" in rendered.roles) == (think != "none" or name in ("block", "begun answer"))
    assert ("answer" in rendered.roles) == with_answer


@EVERY_TEMPLATE
@PROPERTY
@given(prompt=PROMPTS)
def test_the_user_span_is_exactly_what_the_user_wrote(name, prompt):
    """A byte-level tokenizer without merges encodes the prompt alone as it does inside the template: an oracle for the
    span."""
    renderer = RENDERERS[name]
    rendered = renderer.render("x", prompt, "off")
    plain = renderer.render("x", "How are you", "off")
    assert ids_of(rendered, "user") == tuple(renderer.tokenizer.encode(prompt, add_special_tokens=False))
    for role in set(rendered.roles) - {"user"}:
        assert ids_of(rendered, role) == ids_of(plain, role)


@EVERY_TEMPLATE
@PROPERTY
@given(prompt=PROMPTS)
def test_without_thinking_the_ids_are_the_template_s_own(name, prompt):
    renderer = RENDERERS[name]
    messages = [{"role": "user", "content": prompt}]
    own = tuple(renderer.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
    assert renderer.render("x", prompt, "none").ids == own


@EVERY_TEMPLATE
@PROPERTY
@given(
    think=st.sampled_from(["none", "off", "own", "donor"]), answer=st.lists(st.integers(0, 257), max_size=4).map(tuple)
)
def test_the_readout_position_is_the_last_id_before_the_answer(name, think, answer):
    renderer = RENDERERS[name]
    without = renderer.render("x", "Why?", think, thinking=THOUGHT)
    rendered = renderer.render("x", "Why?", think, thinking=THOUGHT, answer=answer)
    assert rendered.ids == without.ids + answer
    assert rendered.readout_position == without.readout_position == len(without.ids) - 1


@pytest.mark.parametrize("name", ["no system", "open", "block"])
def test_what_a_template_injects_gives_way_to_the_think_mode_but_never_in_mode_none(name):
    renderer = RENDERERS[name]
    head = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    thought = tuple(renderer.tokenizer.encode("Hm.", add_special_tokens=False))
    wanted = {
        "none": {"open": "<think>\n", "block": "<think>\n\n</think>\n\n"}.get(name, ""),
        "off": "<think>\n\n</think>\n\n",
        "own": "<think>\nHm.\n</think>\n\n",
        "donor": "<think>\nHm.\n</think>\n\n",
    }
    for think, block in wanted.items():
        rendered = renderer.render("x", "Why?", think, thinking=thought)
        assert renderer.tokenizer.decode(rendered.ids) == head + block
        assert text_of(renderer, rendered, "system") == "<|im_start|>user\n"
        assert text_of(renderer, rendered, "template_tail") == "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "begun thought",
            {
                "none": "<think>\nOkay, so",
                "off": "<think>\nOkay, so\n</think>\n\n",
                "own": "<think>\nOkay, soHm.\n</think>\n\n",
            },
        ),
        ("begun answer", dict.fromkeys(("none", "off"), "<think>\n\n</think>\n\nAnswer:")),
    ],
)
def test_a_thought_or_an_answer_that_a_template_begins_is_neither_begun_nor_closed_twice(name, wanted):
    renderer = RENDERERS[name]
    thought = tuple(renderer.tokenizer.encode("Hm.", add_special_tokens=False))
    for think, block in wanted.items():
        text = renderer.tokenizer.decode(renderer.render("x", "Why?", think, thinking=thought).ids)
        assert text == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n" + block
    assert renderer.opens_a_block("none") == (name == "begun thought")


@pytest.mark.parametrize("name", ["open", "block"])
@pytest.mark.parametrize("otherwise", ["{{ raise_exception('prompts only') }}", "<|im_start|>assistant\n{block}"])
def test_a_template_that_always_begins_an_answer_or_renders_nothing_else_is_read_at_its_end(name, otherwise):
    injecting = TEMPLATES[name]
    block = injecting.rpartition("assistant\n")[2].removesuffix("{% endif %}")
    always = injecting.removesuffix("{% endif %}") + "{% else %}" + otherwise.replace("{block}", block) + "{% endif %}"
    renderer = Renderer(make_tokenizer(always))
    for think in ("none", "off", "own"):
        rendered, wanted = (each.render("x", "Why?", think, thinking=THOUGHT) for each in (renderer, RENDERERS[name]))
        assert (rendered.ids, rendered.roles) == (wanted.ids, wanted.roles)


def test_think_spans_hold_their_markers():
    renderer = RENDERERS["default system"]
    off = renderer.render("x", "Why?", "off")
    assert text_of(renderer, off, "system") == "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
    assert (text_of(renderer, off, "think_open"), text_of(renderer, off, "think_close")) == (
        "<think>\n\n",
        "</think>\n\n",
    )
    own = renderer.render(
        "x", "Why?", "own", thinking=renderer.encode_answer("Hm."), answer=renderer.encode_answer("So.")
    )
    texts = [text_of(renderer, own, role) for role in ("think_open", "think", "think_close", "answer")]
    assert texts == ["<think>\n", "Hm.", "\n</think>\n\n", "So."]


def test_thinking_survives_a_template_that_drops_think_blocks():
    """Were the thinking passed through the template as a message, this one would cut it out."""
    renderer = RENDERERS["open"]
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nSo."}]
    assert "Hm." not in renderer.tokenizer.apply_chat_template(messages, tokenize=False)
    thought, answer = (renderer.encode_answer(text) for text in ("Hm.", "So."))
    rendered = renderer.render("x", "Why?", "own", thinking=thought, answer=answer)
    assert (ids_of(rendered, "think"), ids_of(rendered, "answer")) == (thought, answer)


def test_a_template_without_a_generation_prompt_or_user_text_is_an_error():
    hides = make_tokenizer("{% for message in messages %}<|im_start|>{{ message['role'] }}<|im_end|>{% endfor %}")
    bare = make_tokenizer("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    trims = make_tokenizer(NO_SYSTEM.replace("message['content']", "message['content'] | trim"))
    for tokenizer, prompt in ((hides, "Why?"), (bare, "Why?"), (trims, "  \n"), (make_tokenizer(), "")):
        with pytest.raises(MechdriftError, match="hides the user's text"):
            Renderer(tokenizer).render("x", prompt, "none")


def glueing_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Merges `>` with the line breaks that follow it, as the tokenizers of Llama 3 and Qwen 2.5 do with `</think>`."""
    symbols = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), ">Ċ", ">ĊĊ"]
    tokenizer = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(symbols)}, merges=[(">", "Ċ"), (">Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[0], bos_token=SPECIAL[1], pad_token=SPECIAL[0]
    )
    fast.chat_template = template
    return fast


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", " So."])
def test_markers_are_found_although_a_tokenizer_glues_line_breaks_to_them(ending):
    renderer = Renderer(glueing_tokenizer(NO_SYSTEM))
    before = renderer.encode_answer("Hm.\n")
    assert find(renderer.encode_answer("Hm.\n</think>" + ending), renderer.close_marker) == len(before)
    assert find(renderer.encode_answer("<think>" + ending), renderer.open_marker) == 0


@pytest.mark.parametrize("template", [NO_SYSTEM, INJECTS_OPEN, INJECTS_BLOCK])
def test_a_glueing_tokenizer_gives_the_same_texts_and_roles(template):
    glueing, plain = Renderer(glueing_tokenizer(template)), Renderer(make_tokenizer(template))
    for think in ("none", "off", "own"):
        rendered = [
            renderer.render(
                "x", "Why?", think, thinking=renderer.encode_answer("Hm."), answer=renderer.encode_answer("So.")
            )
            for renderer in (glueing, plain)
        ]
        texts = [
            {role: text_of(renderer, r, role) for role in r.roles}
            for renderer, r in zip((glueing, plain), rendered, strict=True)
        ]
        assert texts[0] == texts[1]


def test_markers_that_are_special_tokens_are_single_ids():
    tokenizer = make_tokenizer(INJECTS_OPEN)
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    renderer = Renderer(tokenizer)
    assert len(renderer.open_marker) == len(renderer.close_marker) == 1
    assert text_of(renderer, renderer.render("x", "Why?", "off"), "think_close") == "</think>\n\n"


def test_render_items_renders_each_in_order():
    items = load_probes("safety").items[:3]
    renderer = RENDERERS["no system"]
    rendered = render_items(renderer, items, "off")
    assert [prompt.item_id for prompt in rendered] == [item.id for item in items]
    assert [text_of(renderer, prompt, "user") for prompt in rendered] == [item.prompt for item in items]


@PROPERTY
@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=3))
def test_find_agrees_with_search_in_text(ids, part):
    text, wanted = "".join(map(str, ids)), "".join(map(str, part))
    assert find(ids, part) == (text.find(wanted) if wanted in text else None)
