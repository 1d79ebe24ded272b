"""Activations on disk are those in memory; what is there is not computed again, what is damaged is; memory stays that
of a block."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_model
from test_capture import load, make_probes, render_all
from torch.testing import assert_close

from mechdrift.activations import recording
from mechdrift.activations.capture import collect
from mechdrift.activations.one_model import collect_one
from mechdrift.activations.recording import record_roles
from mechdrift.activations.store import load_blocks, weights_digest
from mechdrift.activations.to_disk import collect_to
from mechdrift.probes.roles import role_columns
from mechdrift.records import MechdriftError
from mechdrift.runs import files

SITES, ROLES = ("resid_pre", "z"), ("user", "template_tail[-1]")


@pytest.fixture
def loaded():
    return load(make_model())


@pytest.fixture
def passes(monkeypatch):
    """How many prompts were run, each time the model was."""
    counts: list[int] = []
    plain = recording._record_batch
    monkeypatch.setattr(
        recording,
        "_record_batch",
        lambda each, *rest: counts.append(len(each.prompts)) or plain(each, *rest),
    )
    return counts


def fill(folder: Path, loaded, rendered, **changes):
    return collect_to(folder, loaded, rendered, **({"sites": SITES, "roles": ROLES, "prompts_per_block": 3} | changes))


def test_blocks_hold_what_is_recorded_in_memory(tmp_path, loaded):
    rendered = render_all(make_probes())
    blocks = fill(tmp_path, loaded, iter(rendered), readout=True)  # a generator will do
    expected = record_roles(loaded, rendered, SITES, range(4), ROLES, readout=True)
    assert (len(blocks), blocks.counts) == (8, (3, 3, 2))
    assert blocks.items == tuple(prompt.item_id for prompt in rendered)
    for site in SITES:
        assert_close(blocks.read(site), expected.sites[site], rtol=0, atol=2e-5)
        assert_close(blocks.cell(site, 2, "user"), expected.sites[site][:, 2, 0], rtol=0, atol=2e-5)
    assert_close(blocks.readout(), expected.readout, rtol=0, atol=2e-5)
    first = next(iter(blocks))
    assert_close(torch.from_numpy(first.numpy("z").copy()), blocks.read("z")[:3], rtol=0, atol=0)
    again = load_blocks(tmp_path)
    assert again == replace(blocks, folder=tmp_path)
    with pytest.raises(MechdriftError, match="was not recorded"):
        blocks.cell("z", 2, "answer")
    with pytest.raises(MechdriftError, match="lacks what was asked for"):
        blocks.read("mlp_out")


def test_the_same_block_is_read_and_not_computed(tmp_path, loaded, passes):
    rendered = render_all(make_probes())
    first = fill(tmp_path, loaded, rendered)
    done = sum(passes)
    assert fill(tmp_path, loaded, rendered).files == first.files
    assert sum(passes) == done == 8
    longer = [*rendered, *(replace(prompt, item_id=f"new {prompt.item_id}") for prompt in rendered[:1])]
    fill(tmp_path, loaded, longer)
    assert sum(passes) == done + 3  # the last block alone, which has one more prompt


@pytest.mark.parametrize("change", ["sites", "layers", "roles", "dtype", "readout", "ids", "spans", "weight", "config"])
def test_whatever_decides_a_number_is_in_the_key(tmp_path, loaded, passes, change):
    rendered = render_all(make_probes())[:3]
    fill(tmp_path, loaded, rendered)
    options = {"sites": ("resid_pre",), "layers": (0, 1), "roles": ("user",), "dtype": "bfloat16", "readout": True}
    if change == "ids":
        rendered[1] = replace(rendered[1], ids=(*rendered[1].ids[:5], 7, *rendered[1].ids[6:]))
    elif change == "spans":
        rendered[1] = replace(rendered[1], roles={**rendered[1].roles, "user": (3, 5)})
    elif change == "weight":  # rows exchanged: every sum stays
        weight = loaded.model.model.layers[3].mlp.up_proj.weight.data
        weight[[0, 1]] = weight[[1, 0]]
    elif change == "config":
        loaded.model.config.rms_norm_eps = 0.5
    fill(tmp_path, loaded, rendered, **({change: options[change]} if change in options else {}))
    assert sum(passes) == 6


def test_a_killed_collection_goes_on(tmp_path, loaded, passes, monkeypatch):
    rendered, run = render_all(make_probes()), recording._record_batch

    def killed(each, *rest):
        if "3-t" in [prompt.item_id for prompt in each.prompts]:  # in the third block
            raise KeyboardInterrupt
        return run(each, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(recording, "_record_batch", killed)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path, loaded, rendered)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    with pytest.raises(MechdriftError, match="0 finished collections"):
        load_blocks(tmp_path)
    blocks = fill(tmp_path, loaded, rendered)
    assert sum(passes) == 8
    assert_close(blocks.read("z"), record_roles(loaded, rendered, "z", range(4), ROLES).roles, rtol=0, atol=2e-5)


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "removed"])
def test_a_damaged_block_is_recorded_again_and_said_to_be(tmp_path, loaded, passes, damage, recwarn):
    rendered = render_all(make_probes())
    before = fill(tmp_path, loaded, rendered)
    expected, file = before.read("z"), tmp_path / before.files[1]
    data = file.read_bytes()
    bad = {"cut": data[:-9], "changed": data[:-1] + bytes([data[-1] ^ 1]), "emptied": b""}
    file.unlink() if damage == "removed" else file.write_bytes(bad[damage])
    (tmp_path / f".{file.stem.partition('-')[0]}.1.part").write_bytes(b"left behind by a kill")
    after = fill(tmp_path, loaded, rendered)
    assert sum(passes) == 8 + 3
    assert [str(w.message) for w in recwarn if "recorded again" in str(w.message)] == (
        []
        if damage == "removed"
        else [f"{file} is damaged (its hash is not the one in its name): this block is recorded again."]
    )
    assert torch.equal(after.read("z"), expected)
    assert after.files == before.files
    assert not list(tmp_path.glob(".*.part"))


def test_one_process_at_a_time_collects_into_a_folder(tmp_path, loaded, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.01)
    with (
        files.folder_lock(tmp_path),
        pytest.raises(MechdriftError, match=r"another collection is writing to .*: wait for it"),
    ):
        fill(tmp_path, loaded, render_all(make_probes(1)))


def test_collect_reads_from_its_store(tmp_path, tiny_pair, passes):
    probes = make_probes()
    plain = collect(tiny_pair, probes, readout=True)
    passes.clear()
    stored = [collect(tiny_pair, probes, readout=True, store=tmp_path) for _ in range(2)][1]
    assert sum(passes) == 2 * len(probes)  # both models once
    for side in ("instruct", "reasoning"):
        assert_close(stored.of(side), plain.of(side), rtol=0, atol=2e-5)
        assert_close(stored.readout[side], plain.readout[side], rtol=0, atol=2e-5)
    one = collect_one(tiny_pair.open("reasoning"), probes, readout=True, store=tmp_path)
    assert sum(passes) == 2 * len(probes)  # the pair's blocks serve the single model
    assert torch.equal(one.of("resid_pre"), stored.reasoning)


def test_stored_numbers_are_finite_and_of_a_dtype_that_holds_them(tmp_path, loaded):
    rendered = render_all(make_probes())
    half = fill(tmp_path, loaded, rendered, dtype="bfloat16")
    assert next(iter(half)).of("z").dtype == torch.bfloat16
    assert_close(half.read("z"), record_roles(loaded, rendered, "z", range(4), ROLES).roles, rtol=2**-8, atol=1e-5)
    with pytest.raises(MechdriftError, match="stored as float32 or bfloat16"):
        fill(tmp_path, loaded, rendered, dtype="float16")
    loaded.model.model.layers[1].mlp.down_proj.weight.data[0] = float("nan")
    with pytest.raises(MechdriftError, match=r"the tiny model produced a NaN .* layer 2, role user"):
        fill(tmp_path / "new", loaded, rendered, sites=("resid_pre",))
    assert not list((tmp_path / "new").glob("*.safetensors"))


def test_folders_and_files_that_cannot_be_used_are_named(tmp_path, loaded):
    (tmp_path / "file").write_text("")
    with pytest.raises(MechdriftError, match="cannot be made"):
        fill(tmp_path / "file", loaded, render_all(make_probes(1)))
    (tmp_path / "collection-0.json").write_text('{"schema": 1, "blocks": 3}')
    with pytest.raises(MechdriftError, match="not a collection of blocks"):
        load_blocks(tmp_path)
    (tmp_path / "collection-0.json").write_text('{"schema": 1, "recipe": {}, "blocks": [["../secret.safetensors", 1]]}')
    with pytest.raises(MechdriftError, match="not a collection of blocks"):
        load_blocks(tmp_path)


def test_equal_weights_have_equal_digests_wherever_they_were_loaded_from():
    assert (
        weights_digest(load(make_model()))
        == weights_digest(load(make_model()))
        != weights_digest(load(make_model(seed=1)))
    )


GROWTH = """
import resource, sys
import torch
torch.set_num_threads(1)
from conftest import make_model
from test_capture import load
from mechdrift.activations.to_disk import collect_to
from mechdrift.records import Rendered

one_layer = dict(num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
model = load(make_model(hidden_size=128, intermediate_size=16, **one_layer))

def prompts(n):
    for i in range(n):
        ids = (i % 250, i // 250 % 250, i // 62500, 4, 5, 6)[: 5 + i % 2]
        yield Rendered(item_id=str(i), ids=ids, roles={"user": (0, 3), "template_tail": (3, 5)})

def peak(n):
    roles = ("user", "user[quarters]", "template_tail[-1]")
    blocks = collect_to(sys.argv[1], model, prompts(n), sites=("resid_pre", "z"), roles=roles)
    assert len(blocks) == n
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

small, large = peak(4_000), peak(40_000)
print(small, large)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the operating system's record of peak memory")
def test_memory_does_not_grow_with_the_number_of_prompts(tmp_path):
    """Forty thousand prompts' activations are 240 MB; ten times as many prompts as before add less than 50 MB to the
    peak."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    small, large = map(float, done.stdout.split()[-2:])
    assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) > 230e6
    assert large - small < 50
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()


# `role_columns` is what expands the roles of a collection: by the first block, so that a generator is never read ahead.


def test_roles_are_expanded_by_the_first_block(tmp_path, loaded):
    rendered = render_all(make_probes())
    blocks = fill(tmp_path, loaded, rendered, roles=("template_tail", "user[quarters]"))
    assert blocks.recipe.roles == role_columns(rendered, ("template_tail", "user[quarters]"))
