"""What a repair is: a method with its paper, what it needs, and exactly one of four shapes.

    weights   evidence, strength -> a change of the child's weights (`changes`)
    edit      evidence, strength -> a change of activations while the model runs (`editing`)
    tokens    evidence, strength -> words put into the thinking (`words`)
    data      evidence, strength -> rows to train on, and how (`training`); what is trained is a change of weights again

`evidence` is all that a method may look at (`evidence`): the pair, the seen families of the probe sets, and judged
answers to them. The families on which a repair is reported are not in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mechdrift.records import MechdriftError, make_tuples

if TYPE_CHECKING:
    from mechdrift.repairs.changes import Change
    from mechdrift.repairs.editing import Editing
    from mechdrift.repairs.evidence import Evidence
    from mechdrift.repairs.training import Recipe
    from mechdrift.repairs.words import Words

Kind = Literal["weights", "edit", "tokens", "data"]
KINDS: tuple[Kind, ...] = ("weights", "edit", "tokens", "data")
NEEDS: Mapping[str, str] = {
    "parent": "the parent's weights",
    "base": "the model before alignment (--base), whose difference from the parent is the alignment",
    "probes": "trigger items and their neutral twins",
    "harmless": "harmless prompts",
    "answers": "judged answers of both models, as an audit's run folder holds them",
    "gradients": "gradients of the child",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One method that brings alignment back.

    Args:
        name: as in `--methods`.
        title: its name on the page.
        paper: where it comes from, with a link.
        about: what it does, in one sentence.
        needs: what it needs, of `NEEDS`.
        strengths: the strengths that are tried by default.
        limits: the least and the greatest strength.
        dose: the unit of a strength, in words.
        is_baseline: whether it is in the table for comparison only, and never picked.
        weights, edit, tokens, data: exactly one of them is given; it is the method, and its name is the kind of
            repair.
    """

    name: str
    title: str
    paper: str
    about: str
    needs: tuple[str, ...]
    strengths: tuple[float, ...]
    limits: tuple[float, float]
    dose: str
    is_baseline: bool = False
    weights: "Callable[[Evidence, float], Mapping[str, Change]] | None" = None
    edit: "Callable[[Evidence, float], Editing] | None" = None
    tokens: "Callable[[Evidence, float], Words] | None" = None
    data: "Callable[[Evidence, float], Recipe] | None" = None

    def __post_init__(self) -> None:
        make_tuples(self, "needs", "strengths")
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise MechdriftError(
                f"the repair {self.name!r} should have exactly one of {', '.join(KINDS)}; it has "
                f"{' and '.join(given) or 'none'}."
            )
        if unknown := set(self.needs) - set(NEEDS):
            raise MechdriftError(f"the repair {self.name!r} needs {min(unknown)!r}: name one of {', '.join(NEEDS)}.")
        for strength in self.strengths:
            self.check(strength)

    @property
    def kind(self) -> Kind:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    def make(self, evidence: "Evidence", strength: float) -> Any:
        """What the method's function gives at one strength."""
        self.check(strength)
        return getattr(self, self.kind)(evidence, strength)

    def check(self, strength: float) -> None:
        """Raise for a strength outside of the method's range."""
        least, most = self.limits
        if not least <= strength <= most:
            raise MechdriftError(
                f"the strength of {self.name} ({self.dose}) should be from {least:g} to {most:g}; it is {strength:g}."
            )
