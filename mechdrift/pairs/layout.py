"""An architecture described by hand: where a decoder that TransformerLens does not know keeps its parts.

A `Layout` names modules by their paths, as `model.named_modules()` lists them: those of the decoder from the model
(`blocks`, `norm`, `head`, `embed`), those of a block from the block (`attn`, `mlp` and the norms before them), and the
matrices from attention or MLP (`o`, `down`, ...). A module that is left out cannot be patched; the others can:

    Layout(blocks="decoder.layers", norm="decoder.norm", attn="mixer", mlp="ffn", mlp_norm="norm2", o="out_proj")

In a TOML or JSON file the same names are keys. Nothing is taken on trust: at load every path has to exist in every
block, the recorded outputs of the blocks have to equal Hugging Face's hidden states, and the outputs of attention and
MLP have to add up to what their block adds to the residual stream (`structure.verify`, `structure.verify_layout`).
"""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from torch import nn

from mechdrift.records import MechdriftError
from mechdrift.records.foreign import SETTINGS_LIMIT, read_whole

IN_ATTENTION = ("q", "k", "v", "qkv", "o")
IN_MLP = {"gate": "gate", "up": "in", "down": "out"}  # our names, and those of TransformerLens


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a decoder, described as in TransformerLens' architecture adapters: its path, the parts inside it, and
    where its hooks are."""

    name: str
    submodules: "dict[str, Component]" = field(default_factory=dict)
    hook_aliases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Module paths of one architecture; see the module's text.

    Give `attn_out` and `mlp_out` where a module after attention or MLP, such as a second norm, writes to the residual
    stream in their place. Set `sums` to False where the block scales what they write, so that the sum cannot be
    checked. `n_heads` is by default read from the model's config.
    """

    blocks: str
    norm: str
    head: str = ""
    embed: str = ""
    attn: str = ""
    mlp: str = ""
    attn_norm: str = ""
    mlp_norm: str = ""
    attn_out: str = ""
    mlp_out: str = ""
    q: str = ""
    k: str = ""
    v: str = ""
    qkv: str = ""
    o: str = ""
    gate: str = ""
    up: str = ""
    down: str = ""
    sums: bool = True
    n_heads: int | None = None

    def __post_init__(self) -> None:
        for inner, outer in (*dict.fromkeys(IN_ATTENTION, "attn").items(), *dict.fromkeys(IN_MLP, "mlp").items()):
            if getattr(self, inner) and not getattr(self, outer):
                raise MechdriftError(f"the layout gives {inner}, which is a path from {outer}, but no {outer}.")

    def components(self) -> dict[str, Component]:
        """The layout in the shape of a TransformerLens component mapping."""
        attention = {name: Component(path) for name in IN_ATTENTION if (path := getattr(self, name))}
        mlp = {theirs: Component(path) for ours, theirs in IN_MLP.items() if (path := getattr(self, ours))}
        parts = {
            "attn": Component(self.attn, attention),
            "mlp": Component(self.mlp, mlp),
            "ln1": Component(self.attn_norm),
            "ln2": Component(self.mlp_norm),
            "attn_writer": Component(self.attn_out or self.attn),
            "mlp_writer": Component(self.mlp_out or self.mlp),
        }
        aliases = {
            "hook_resid_pre": "hook_in",
            "hook_resid_post": "hook_out",
            "hook_resid_mid": "ln2.hook_in",
            "hook_attn_out": "attn_writer.hook_out",
            "hook_mlp_out": "mlp_writer.hook_out",
        }
        block = Component(self.blocks, {name: part for name, part in parts.items() if part.name}, aliases)
        return {"blocks": block, "ln_final": Component(self.norm)} | (
            {"embed": Component(self.embed)} if self.embed else {}
        )

    def check(self, model: nn.Module) -> None:
        """Raise, naming the path, unless every module is where the layout says, in every block."""
        for name in ("blocks", "norm", "head", "embed"):
            self._check_path(model, type(model).__name__, name, getattr(self, name))
        blocks = model.get_submodule(self.blocks)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            raise MechdriftError(
                f"the layout's blocks={self.blocks!r} is a {type(blocks).__name__}: give the path of the blocks' list."
            )
        for index, block in enumerate(blocks):
            for name, path in self._inside_a_block():
                self._check_path(block, f"block {index}", name, path)

    def _inside_a_block(self) -> Iterator[tuple[str, str]]:
        for name in ("attn", "mlp", "attn_norm", "mlp_norm", "attn_out", "mlp_out"):
            yield name, getattr(self, name)
        for inner, outer in (*dict.fromkeys(IN_ATTENTION, "attn").items(), *dict.fromkeys(IN_MLP, "mlp").items()):
            yield inner, f"{getattr(self, outer)}.{getattr(self, inner)}" if getattr(self, inner) else ""

    def _check_path(self, root: nn.Module, where: str, name: str, path: str) -> None:
        reached, gone = root, ""
        for part in path.split(".") if path else ():
            children = dict(reached.named_children())
            if part not in children:
                raise MechdriftError(
                    f"the layout's {name}={getattr(self, name)!r} is not a module of {where}: {gone or 'it'} has "
                    f"{', '.join(children) or 'no modules inside'}."
                )
            reached, gone = children[part], f"{gone}.{part}".lstrip(".")


def read_layout(file: str | Path) -> Layout:
    """A layout from a TOML or JSON file; raises where the file holds none."""
    path = Path(file)
    try:
        text = read_whole(path, SETTINGS_LIMIT).decode("utf-8")
        given = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise MechdriftError(f"the layout {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise MechdriftError(f"the layout {path} is neither TOML nor JSON ({error!s:.100}).") from error
    needed, known = {"blocks", "norm"}, {known.name for known in fields(Layout)}
    if not isinstance(given, dict) or set(given) - known or not needed <= set(given):
        raise MechdriftError(
            f"the layout {path} should give blocks and norm, and may give {', '.join(sorted(known - needed))}."
        )
    for name, value in given.items():
        kind = {"sums": bool, "n_heads": int}.get(name, str)
        if not isinstance(value, kind):
            raise MechdriftError(f"the layout {path} has {name} = {value!r}: it should be a {kind.__name__}.")
    return Layout(**given)
