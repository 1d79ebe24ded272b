"""How a question is rendered for both models, to be checked before any weights are loaded.

For each model this shows its think convention (read off its tokenizer and template, or given), and one question in
every think mode, cut into roles. Text that comes from a tokenizer or a template is not trusted: characters that are not
printable are shown as escapes, so that they can neither move the cursor nor hide anything.
"""

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from mechdrift.pairs.conventions import ThinkConvention, read_convention
from mechdrift.pairs.pair import Pair
from mechdrift.probes.in_place import text_of
from mechdrift.probes.rendering import Renderer
from mechdrift.records import ROLES, SIDES, Rendered, Role, Side, ThinkMode

if TYPE_CHECKING:
    import pandas as pd

QUESTION = "What is the capital of France?"
MODES: dict[ThinkMode, str] = {
    "none": "as the model is used",
    "off": "thinking is off, or its block is empty; activations are compared so, on the reasoning model's prompts",
    "own": "the model thinks; in think mode donor, the other model's thinking is put here",
}
# The 16 colours of a terminal, and the same in a notebook, light or dark.
COLOURS: dict[Role, tuple[int, str]] = {
    "system": (90, "#7a7a7a"),
    "user": (34, "#3b7dd8"),
    "template_tail": (36, "#159a9a"),
    "think_open": (35, "#b05ccc"),
    "think": (33, "#b8860b"),
    "think_close": (35, "#b05ccc"),
    "answer": (32, "#2e9b4f"),
}
WRITTEN: dict[Role, str] = {"think": "(here the model thinks)", "answer": "(here the model answers)"}
LABEL = max(map(len, ROLES)) + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One role of a rendered question: its number of tokens and their text; 0 and "" where the model is to write."""

    role: Role
    tokens: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAt:
    """One model: its think convention, how it is asked, the think mode in which an audit asks it, and the question in
    each mode."""

    side: Side
    name: str
    convention: ThinkConvention
    asked: str
    audited: ThinkMode
    modes: dict[ThinkMode, tuple[Part, ...]]

    @property
    def summary(self) -> str:
        return visible(f"{self.convention}; asked {self.asked}", keep="\\")

    def title(self, think: ThinkMode) -> str:
        return f"think mode {think}: {MODES[think]}{' [audits ask it so]' if think == self.audited else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one question is rendered for both models of a pair: `print(look)`, or `look.frame`."""

    pair: str
    sides: tuple[LookedAt, ...]
    notes: tuple[str, ...]

    @property
    def frame(self) -> "pd.DataFrame":
        """A row per side, think mode and role: `tokens`, `text`."""
        import pandas as pd

        rows = [
            {"side": each.side, "think": think, "role": part.role, "tokens": part.tokens, "text": part.text}
            for each in self.sides
            for think, parts in each.modes.items()
            for part in parts
        ]
        return pd.DataFrame(rows)

    def text(self, *, colour: bool = False) -> str:
        """For a terminal: a line per role, or per line of its text; roles in colour, if it has colours."""
        lines = [f"pair: {visible(self.pair)}"]
        for each in self.sides:
            lines += ["", f"{each.side} model: {visible(each.name)}", f"  {each.summary}"]
            for think, parts in each.modes.items():
                lines += ["", f"  {each.title(think)}"]
                lines += [line for part in parts for line in _lines(part, colour)]
        return "\n".join([*lines, "", *(f"note: {visible(note)}" for note in self.notes)]).rstrip() + "\n"

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        found = [f"<p><b>{escape(visible(self.pair))}</b></p>"]
        for each in self.sides:
            name = escape(visible(each.name))
            found.append(f"<p><b>{each.side} model: {name}</b><br>{escape(each.summary)}</p>")
            for think, parts in each.modes.items():
                spans = "".join(_span(part) for part in parts)
                found.append(f"<p>{each.title(think)}</p><pre style='white-space:pre-wrap'>{spans}</pre>")
        return "".join([*found, *(f"<p>{escape(visible(note))}</p>" for note in self.notes)])


def look(pair: Pair, prompt: str = QUESTION) -> Look:
    """How is a question rendered for both models, in each think mode? Loads no weights.

    Args:
        pair: the pair, from `load_pair`.
        prompt: the question, any text.

    Returns:
        A `Look`: print it, or read its `.frame`. `notes` say what should be known before an audit.

    Raises:
        MechdriftError: where a template cannot render the question.

    Source:
        The roles are those of `mechdrift.probes.rendering`; think conventions are read as `mechdrift.pairs.conventions`
        says.

    Example:
        >>> seen = md.look(pair, "Is the sky blue?")
        >>> rows = seen.frame.query("side == 'reasoning' and think == 'off'")
        >>> dict(zip(rows.role, rows.text))["user"]
        'Is the sky blue?'
    """
    audited: dict[Side, ThinkMode] = {"instruct": "none", "reasoning": "own" if pair.child_thinks else "none"}
    renderers = {side: Renderer(pair.tokenizer(side)) for side in SIDES}
    sides = tuple(
        LookedAt(
            side=side,
            name=pair.source(side).name,
            convention=read_convention(renderer.tokenizer),
            asked=str(pair.source(side).chat),
            audited=audited[side],
            modes={think: _parts(renderer, prompt, think) for think in MODES},
        )
        for side, renderer in renderers.items()
    )
    return Look(pair=pair.name, sides=sides, notes=(*pair.warnings, *_notes(pair, renderers, prompt)))


def _parts(renderer: Renderer, prompt: str, think: ThinkMode) -> tuple[Part, ...]:
    rendered = renderer.render("look", prompt, think)
    found = {role: _part(renderer, rendered, role) for role in ROLES if role in rendered.roles}
    for role in ("think", "answer") if renderer.opens_a_block(think) else ("answer",):
        found[role] = Part(role=role, tokens=0, text="")
    return tuple(found[role] for role in ROLES if role in found)


def _part(renderer: Renderer, rendered: Rendered, role: Role) -> Part:
    start, stop = rendered.roles[role]
    return Part(role=role, tokens=stop - start, text=text_of(renderer.tokenizer, rendered.ids[start:stop]))


def _notes(pair: Pair, renderers: dict[Side, Renderer], prompt: str) -> list[str]:
    """What a user should know before an audit of this pair."""
    notes = []
    for side, renderer in renderers.items():
        thinks = side == "reasoning" and pair.child_thinks
        if thinks and renderer.convention.source == "assumed" and not renderer.settings.apart:
            notes.append(
                f"nothing in the tokenizer or the template of {pair.source(side).name} says how it thinks: give "
                "--think-open and --think-close, or --think-open none if it has no markers; until then <think> is "
                "tried, and given up where no answer closes its block."
            )
    ids = renderers["reasoning"].render("look", prompt, "off").ids
    ours, theirs = (renderer.tokenizer.convert_ids_to_tokens(list(ids)) for renderer in renderers.values())
    if ours != theirs:
        notes.append(
            "some ids of the reasoning model's prompts are other tokens to the instruct model: when activations are "
            "compared, each model reads its own template's prompts, and positions correspond by role."
        )
    return notes


def _lines(part: Part, colour: bool) -> list[str]:
    start, stop = (f"\x1b[{COLOURS[part.role][0]}m", "\x1b[0m") if colour else ("", "")
    count = f"{part.tokens:4}" if part.tokens else "    "
    texts = visible(part.text).replace("\\n", "\\n\n").splitlines() if part.text else [WRITTEN.get(part.role, "")]
    heads = [f"    {part.role:{LABEL}}{count}  "] + [" " * (LABEL + 10)] * (len(texts) - 1)
    return [f"{start}{head}{text}{stop}" for head, text in zip(heads, texts, strict=True)]


def _span(part: Part) -> str:
    text = escape(visible(part.text).replace("\\n", "\\n\n") or WRITTEN.get(part.role, ""))
    return f"<span title='{part.role}, {part.tokens} tokens' style='color:{COLOURS[part.role][1]}'>{text}</span>"


def visible(text: str, keep: str = "") -> str:
    """A text that a terminal only prints: characters that are not printable, and backslashes, are written as escapes,
    except those in `keep`."""
    return "".join(c if c in keep or (c.isprintable() and c != "\\") else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
