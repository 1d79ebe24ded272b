"""Directions as files for other tools: safetensors with their provenance, steering vectors, llama.cpp's control
vectors. Nothing is pickled.

    save_directions      everything but the activations, in one safetensors file; `load_directions` reads it back. The
                         header's `mechdrift` entry is JSON: schema, dimension, method, site, layers, roles, versions,
                         and the `provenance` given by the caller (such as pair and fingerprints of the weights).
    to_steering_vectors  the fields of `steering_vectors.SteeringVector`: a vector per block and `layer_type`. The
                         package has no file format (its users pickle the object), so the file is safetensors: tensor
                         `<block>`, and `layer_type` in the header. `SteeringVector(**read_steering_vectors(path))`
                         loads it.
    to_gguf              a GGUF control vector as repeng and llama.cpp write it: architecture `controlvector`, keys
                         `controlvector.model_hint` (the model's architecture, such as `llama`) and
                         `controlvector.layer_count`, tensors `direction.<layer>` in float32, one dimension.

**Numbering of layers.** Both tools add their vector to the *output* of a block, and number n is the block with index n,
from 0. But llama.cpp starts at `direction.1`, the second block: its loader refuses 0. The residual stream between two
blocks has two names here:

    site         layer l is            is written as block     left out
    resid_pre    input of block l      l - 1                   layer 0, the embedding, which no block writes
    resid_post   output of block l     l                       nothing; but llama.cpp cannot take block 0

Directions at other sites are not in the stream between blocks, and are refused.

Vectors are unit vectors times `scale`. With `scale=None` they have the length of the class difference, so that one of
them, with a multiplier of 1, moves a neutral item by the distance between the classes. Vectors at several layers add up
in the stream, so export few layers. Both formats have one vector per layer; `role` chooses which.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mechdrift.records import Directions, MechdriftError, Side
from mechdrift.runs import placed, version_of

SCHEMA = 1
REMEDY = "free space, or give another path."
TENSORS = ("instruct", "reasoning", "norm_instruct", "norm_reasoning", "split_instruct", "split_reasoning")
PACKAGES = ("mechdrift", "torch", "transformers", "safetensors")
BLOCK_OF_LAYER = {"resid_pre": -1, "resid_post": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedDirections:
    """`Directions` as read from a file: everything but the activations, and their provenance."""

    dimension: str
    method: str
    site: str
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    instruct: Float[Tensor, "layer role d_model"]
    reasoning: Float[Tensor, "layer role d_model"]
    norm_instruct: Float[Tensor, "layer role"]
    norm_reasoning: Float[Tensor, "layer role"]
    split_instruct: Float[Tensor, "split half layer role d_model"]
    split_reasoning: Float[Tensor, "split half layer role d_model"]
    versions: Mapping[str, str]
    provenance: Mapping[str, Any]

    def of(self, side: Side) -> Float[Tensor, "layer role d_model"]:
        return self.instruct if side == "instruct" else self.reasoning


def save_directions(
    directions: Directions | SavedDirections, path: str | Path, provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write directions to one safetensors file, with where they come from.

    Args:
        directions: from `find_directions` or `load_directions`.
        path: the file.
        provenance: anything that JSON can hold, such as the pair's name and the fingerprints of the weights.

    Returns:
        The path. The file holds all tensors but the activations; its header holds dimension, method, site, layers,
        roles, versions and `provenance`.

    Raises:
        MechdriftError: when `provenance` cannot be written as JSON, or the file cannot be written.

    Source:
        The safetensors format, https://github.com/huggingface/safetensors.

    Example:
        >>> path = md.save_directions(dirs, "safety.safetensors", {"pair": pair.name})
        >>> md.load_directions(path).provenance["pair"] == pair.name
        True
    """
    header = {
        "schema": SCHEMA,
        "dimension": directions.dimension,
        "method": directions.method,
        "site": directions.site,
        "layers": directions.layers,
        "roles": directions.roles,
        "versions": {name: version_of(name) for name in PACKAGES},
        "provenance": provenance or {},
    }
    try:
        text = json.dumps(header)
    except TypeError as error:
        raise MechdriftError(f"The provenance of directions must be plain JSON values: {error}.") from error
    tensors = {name: getattr(directions, name).contiguous() for name in TENSORS}
    return _write(tensors, path, {"format": "pt", "mechdrift": text})


def load_directions(path: str | Path) -> SavedDirections:
    """Read directions that `save_directions` wrote.

    Args:
        path: the file.

    Returns:
        `SavedDirections`: the fields of `Directions` without the activations, with `versions` and `provenance`.

    Raises:
        MechdriftError: when the file is missing, damaged, or does not hold directions of this version.

    Source:
        The safetensors format, https://github.com/huggingface/safetensors.

    Example:
        >>> saved = md.load_directions(md.save_directions(dirs, "safety.safetensors"))
        >>> bool((saved.instruct == dirs.instruct).all())
        True
    """
    tensors, metadata = _read(path)
    header = json.loads(metadata.get("mechdrift", "{}"))
    if header.get("schema") != SCHEMA or set(TENSORS) - set(tensors):
        raise MechdriftError(
            f"{path} does not hold directions that this version of mechdrift can read: save them again."
        )
    fields = {name: header[name] for name in ("dimension", "method", "site", "versions", "provenance")}
    axes = {name: tuple(header[name]) for name in ("layers", "roles")}
    return SavedDirections(**fields, **axes, **{name: tensors[name] for name in TENSORS})


def block_vectors(
    directions: Directions | SavedDirections, side: Side, role: str, scale: float | None = None
) -> dict[int, Float[Tensor, " d_model"]]:
    """The vector to add to each block's output, by block from 0; blocks without a direction are left out."""
    if directions.site not in BLOCK_OF_LAYER:
        raise MechdriftError(
            f"Directions at {directions.site!r} cannot be added to a block's output: collect at "
            f"{' or '.join(BLOCK_OF_LAYER)}."
        )
    if role not in directions.roles:
        raise MechdriftError(f"There are no directions at role {role!r}: choose one of {', '.join(directions.roles)}.")
    column = directions.roles.index(role)
    norms = directions.norm_instruct if side == "instruct" else directions.norm_reasoning
    vectors = {}
    for index, layer in enumerate(directions.layers):
        block, unit = layer + BLOCK_OF_LAYER[directions.site], directions.of(side)[index, column]
        if block >= 0 and unit.any():
            vectors[block] = (unit * (norms[index, column] if scale is None else scale)).float().clone()
    if not vectors:
        raise MechdriftError(
            f"The {side} model has no direction at the output of any block, role {role!r}: collect more layers."
        )
    return vectors


def to_steering_vectors(
    directions: Directions | SavedDirections,
    side: Side,
    role: str,
    path: str | Path | None = None,
    scale: float | None = None,
) -> dict[str, Any]:
    """One model's directions as the fields of a `steering_vectors.SteeringVector`, also as a file.

    Args:
        directions: at site `resid_pre` or `resid_post`.
        side: the model whose directions are written.
        role: the role column whose directions are written.
        path: a safetensors file to write them to, if any.
        scale: the length of every vector; by default the class difference of its layer.

    Returns:
        `{"layer_activations": {block: vector [d_model]}, "layer_type": "decoder_block"}`:
        `SteeringVector(**fields)` takes it. A vector is added to the *output* of its block.

    Raises:
        MechdriftError: for another site, an unknown role, or a file that cannot be written.

    Source:
        The package steering-vectors, https://github.com/steering-vectors/steering-vectors.

    Example:
        >>> fields = md.to_steering_vectors(dirs, "instruct", "think_close[-1]")
        >>> sorted(fields["layer_activations"])  # resid_pre of layer l is the output of block l - 1
        [0, 1, 2]
    """
    vectors = block_vectors(directions, side, role, scale)
    if path is not None:
        _write(
            {str(block): vector for block, vector in vectors.items()},
            path,
            {"format": "pt", "layer_type": "decoder_block"},
        )
    return {"layer_activations": vectors, "layer_type": "decoder_block"}


def read_steering_vectors(path: str | Path) -> dict[str, Any]:
    """The fields of a `SteeringVector` from the file that `to_steering_vectors` wrote."""
    tensors, metadata = _read(path)
    if "layer_type" not in metadata:
        raise MechdriftError(f"{path} holds no steering vectors: write them with to_steering_vectors.")
    blocks = sorted(int(name) for name in tensors)
    return {"layer_activations": {block: tensors[str(block)] for block in blocks}, "layer_type": metadata["layer_type"]}


def to_gguf(
    directions: Directions | SavedDirections,
    side: Side,
    role: str,
    path: str | Path,
    model_hint: str,
    scale: float | None = None,
) -> Path:
    """Write one model's directions as a control vector for llama.cpp (`llama-cli --control-vector`).

    Args:
        directions: at site `resid_pre` or `resid_post`.
        side: the model whose directions are written.
        role: the role column whose directions are written.
        path: the file.
        model_hint: the architecture, such as `"llama"` or `"qwen2"`.
        scale: the length of every vector; by default the class difference of its layer.

    Returns:
        The path. llama.cpp adds vector n to the output of block n, and does not accept block 0, so that one is left
        out.

    Raises:
        MechdriftError: for another site, an unknown role, or when no layer is left.

    Source:
        The format of repeng, https://github.com/vgel/repeng, as llama.cpp reads it.

    Example:
        >>> md.to_gguf(dirs, "instruct", "think_close[-1]", "refuse.gguf", model_hint="llama").name
        'refuse.gguf'
    """
    from gguf import GGUFWriter

    vectors = {block: vector for block, vector in block_vectors(directions, side, role, scale).items() if block > 0}
    if not vectors:
        raise MechdriftError(
            "llama.cpp does not accept a control vector at the first block, and there is no other: collect more layers."
        )
    with placed(Path(path), REMEDY) as temporary:
        writer = GGUFWriter(str(temporary), "controlvector")
        writer.add_string("controlvector.model_hint", model_hint)
        writer.add_uint32("controlvector.layer_count", len(vectors))
        for block, vector in vectors.items():
            writer.add_tensor(f"direction.{block}", vector.numpy().astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return Path(path)


def _write(tensors: Mapping[str, Tensor], path: str | Path, metadata: dict[str, str]) -> Path:
    with placed(Path(path), REMEDY) as temporary:
        save_file(dict(tensors), temporary, metadata=metadata)
    return Path(path)


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise MechdriftError(f"{path} is not a readable safetensors file ({error}): write it again.") from error
