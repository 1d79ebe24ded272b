"""Activations on disk: blocks of prompts that are recorded once, found again by their content, and mapped into memory.

A hundred thousand prompts do not fit in memory and do not need to. `fill` takes a few hundred prompts at a time and
writes the recorded tensors of each such block to one safetensors file before it asks for the next. So memory depends on
the block, not on the number of prompts.

    <key>-<sha256>.safetensors     one tensor per site, [prompt, layer, role, width]; the prompts' ids in its metadata
    collection-<key>.json          the files of one collection in their order, and what was recorded in it

The *key* is a hash of everything that decides the numbers: every weight and the config, token ids and role spans,
sites, layers, roles and the stored dtype. So a block that was recorded before is not recorded again: a killed
collection resumes where it stopped, and only appended prompts are computed. The second half of the name is the hash of
the file itself: a block that does not match it is recorded again, with a warning. A key covers weights, not hooks:
never store activations that were recorded under an `edit`.

Files are written under a temporary name and moved into place. `Blocks` maps them into memory and reads only what is
asked for.
"""

import hashlib
import json
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mechdrift.pairs.loading import LanguageModel
from mechdrift.records import MechdriftError, Rendered
from mechdrift.records.foreign import DATA_LIMIT, is_one_name, read_whole
from mechdrift.runs import folder_lock, move_into_place, part_of, placed, remove_leftovers, sha256

SCHEMA = 1
REMEDY = "free space or give another folder; the collection resumes where it stopped when you start it again."
DIGITS = 24  # of each hash, in a file's name
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # float16 ends at 65504, and residual streams do not
Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is recorded of each prompt: the part of a key that all blocks of a collection share."""

    model: str
    weights: str
    sites: tuple[str, ...]
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    dtype: str = "float32"
    readout: bool = False

    def key(self, prompts: Sequence[Rendered], spans: Sequence[Spans]) -> str:
        """The content hash of one block."""
        what = [SCHEMA, self.weights, self.sites, self.layers, self.roles, self.dtype, self.readout]
        digest = hashlib.sha256(json.dumps(what).encode())
        for prompt, own in zip(prompts, spans, strict=True):
            name = prompt.item_id.encode()
            digest.update(
                array("q", [len(name), len(prompt.ids), *prompt.ids, prompt.readout_position, *chain(*own)]).tobytes()
                + name
            )
        return digest.hexdigest()[:DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One file of a collection. `items` are the ids of its prompts; `of` maps a site's tensor into memory."""

    file: Path
    items: tuple[str, ...]

    def of(self, site: str) -> Tensor:
        """`[prompt, layer, role, width]` of a site, or `[prompt, d_model]` of `readout`. Pages are read from disk when
        they are used."""
        with _opened(self.file) as tensors:
            return tensors.get_tensor(site)

    def numpy(self, site: str) -> np.ndarray:
        """The same as an array: mapped where it was stored in float32, else widened to float32, because numpy has no
        bfloat16."""
        return self.of(site).float().numpy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """A collection on disk. Iterating gives its `Block`s in the order of the prompts; `len` is the number of
    prompts."""

    folder: Path
    name: str
    files: tuple[str, ...]
    counts: tuple[int, ...]
    recipe: Recipe

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[Block]:
        for file in self.files:
            with _opened(self.folder / file) as tensors:
                items = tuple(json.loads(tensors.metadata()["items"]))
            yield Block(file=self.folder / file, items=items)

    @property
    def items(self) -> tuple[str, ...]:
        return tuple(item for block in self for item in block.items)

    def read(self, site: str) -> Float[Tensor, "prompt layer role width"]:
        """All prompts of a site at once, in float32: for collections that fit in memory."""
        return torch.cat([block.of(site).float() for block in self])

    def cell(self, site: str, layer: int, role: str) -> Float[Tensor, "prompt width"]:
        """All prompts at one layer and role, in float32; nothing else is read."""
        if layer not in self.recipe.layers or role not in self.recipe.roles:
            raise MechdriftError(
                f"layer {layer}, role {role!r} was not recorded: {self.folder / self.name} says what was."
            )
        place = self.recipe.layers.index(layer), self.recipe.roles.index(role)
        return torch.cat([block.of(site)[:, *place].float() for block in self])

    def readout(self) -> Float[Tensor, "prompt d_model"]:
        """The final states at the readout positions, if they were recorded."""
        return torch.cat([block.of("readout").float() for block in self])


def fill(
    folder: Path,
    recipe: Recipe,
    prompts: Iterable[Rendered],
    size: int,
    spans: Callable[[Rendered], Spans],
    compute: Callable[[Sequence[Rendered]], Mapping[str, Tensor]],
    advance: Callable[[int], object],
) -> Blocks:
    """Write the tensors of `compute` for each block of `size` prompts, unless they are there. `prompts` may be a
    generator of any length. One process at a time writes to a folder."""
    _make(folder)
    files, counts = [], []
    with folder_lock(folder, "collection", REMEDY):
        remove_leftovers(folder)
        for group in chunks(prompts, size):
            key = recipe.key(group, [spans(prompt) for prompt in group])
            file = _whole(folder, key)
            if file is None:
                tensors = {name: value.to(DTYPES[recipe.dtype]) for name, value in compute(group).items()}
                file = _write(folder, key, tensors, group)
            files.append(file.name)
            counts.append(len(group))
            advance(len(group))
        name = f"collection-{hashlib.sha256(json.dumps(files).encode()).hexdigest()[:DIGITS]}.json"
        blocks = Blocks(folder=folder, name=name, files=tuple(files), counts=tuple(counts), recipe=recipe)
        _write_manifest(blocks)
    return blocks


def chunks(prompts: Iterable[Rendered], size: int) -> Iterator[list[Rendered]]:
    """Yields `size` prompts at a time, and takes no more than that from the iterable."""
    rest = iter(prompts)
    while group := list(islice(rest, size)):
        yield group


def load_blocks(path: str | Path) -> Blocks:
    """Open a finished collection: its `collection-….json`, or a folder that holds exactly one. Reads no tensor."""
    found = sorted(Path(path).glob("collection-*.json")) if Path(path).is_dir() else [Path(path)]
    if len(found) != 1:
        raise MechdriftError(f"{path} holds {len(found)} finished collections: give the collection-….json of one.")
    try:
        manifest = json.loads(read_whole(found[0], DATA_LIMIT).decode("utf-8"))
        recipe = {
            name: tuple(value) if isinstance(value, list) else value for name, value in manifest["recipe"].items()
        }
        files, counts = zip(*manifest["blocks"], strict=True)
        if manifest["schema"] != SCHEMA:
            raise MechdriftError(
                f"{found[0]} has schema {manifest['schema']}, this version reads schema {SCHEMA}: record it again."
            )
        if not all(is_one_name(file) and isinstance(count, int) for file, count in manifest["blocks"]):
            raise ValueError("blocks should be names of files in this folder, with their numbers of prompts")
        return Blocks(folder=found[0].parent, name=found[0].name, files=files, counts=counts, recipe=Recipe(**recipe))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MechdriftError(f"{found[0]} is not a collection of blocks, or is damaged: record it again.") from error


@torch.inference_mode()
def weights_digest(loaded: LanguageModel) -> str:
    """A hash of every byte of the weights, also of weights that accelerate keeps on disk, and of the config: any change
    gives another key."""
    from accelerate.utils import align_module_device

    config = {
        key: value
        for key, value in loaded.model.config.to_dict().items()
        if key not in ("_name_or_path", "transformers_version")
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    seen: set[int] = set()  # tied weights are hashed once
    for path, module in loaded.model.named_modules():
        here = {id(tensor) for tensor in _tensors(module).values() if tensor.device.type != "meta"}
        with align_module_device(module):  # loads this module's weights where accelerate keeps them on disk
            for name, tensor in _tensors(module).items():
                if id(tensor) not in seen:
                    digest.update(f"{path}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        seen |= here
    return digest.hexdigest()[:DIGITS]


def _tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    return dict(chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False)))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MechdriftError(f"{folder} cannot be made ({error.strerror}): give another folder.") from error


def _whole(folder: Path, key: str) -> Path | None:
    """The block's file, if it exists and its bytes match its name. A damaged file is removed, with a warning."""
    for file in folder.glob(f"{key}-*.safetensors"):
        if sha256(file)[:DIGITS] == file.stem.partition("-")[2]:
            return file
        warnings.warn(
            f"{file} is damaged (its hash is not the one in its name): this block is recorded again.", stacklevel=3
        )
        file.unlink(missing_ok=True)
    return None


def _write(folder: Path, key: str, tensors: Mapping[str, Tensor], prompts: Sequence[Rendered]) -> Path:
    """Write one block's file, whole or not at all; its name ends with the hash of its bytes."""
    items = json.dumps([prompt.item_id for prompt in prompts])
    with part_of(folder / key, REMEDY) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, metadata={"items": items})
        target = folder / f"{key}-{sha256(temporary)[:DIGITS]}.safetensors"
        move_into_place(temporary, target)
    return target


def _write_manifest(blocks: Blocks) -> None:
    recipe = {name: getattr(blocks.recipe, name) for name in Recipe.__slots__}
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "recipe": recipe,
        "blocks": list(zip(blocks.files, blocks.counts, strict=True)),
    }
    with placed(blocks.folder / blocks.name, REMEDY) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """`safe_open`, with one sentence for a missing, truncated or foreign file."""
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise MechdriftError(
            f"{file} is missing, damaged or lacks what was asked for ({error}): record its collection again."
        ) from error
