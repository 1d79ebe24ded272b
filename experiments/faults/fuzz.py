"""How does reading a damaged file end: in a result, in one sentence, or in a traceback?

    python experiments/faults/fuzz.py --cases 400 --out experiments/faults/fuzz.csv

Each case changes one good file at random and reads it as a command does: values of a JSON or TOML file left out or
replaced by strange ones, or bytes cut off, turned over and put in; of a table a column left out, or its bytes. A run
folder is read by `card`, `gate` and, one case in twenty, `report`. Each case has a seed of its own, so a traceback can
be reproduced."""

import argparse
import copy
import csv
import json
import random
import shutil
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from synthetic_run import build_run

from mechdrift.behaviour.judges.files import load_judge
from mechdrift.comparisons.gate import gate
from mechdrift.errors import MechdriftError
from mechdrift.pairs.layout import read_layout
from mechdrift.pairs.pair_files import read_pair_file
from mechdrift.probes.sets import load_probes
from mechdrift.runs import load_run, sha256
from mechdrift.studies.study import read_study
from mechdrift.trajectories.history import read_history

STRANGE = (
    None,
    True,
    -1,
    0,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "\x1b[31m\u202e",
    "../../x",
    [],
    {},
    [[]],
)
STRANGE += ([1] * 50, {"a": {"b": []}}, "é\ud800", 1.5, [None], {"": None})
JUDGE = {
    "kind": "chat", "base_url": "http://127.0.0.1:9/v1", "model": "m", "timeout": 5.0, "retries": 2, "concurrency": 4,
    "labels": {"refusal": "refusal"}, "options": {"temperature": 0},
}  # fmt: skip
PAIR = {
    "name": "a", "think_open": "<t>", "instruct": {"model": "org/a", "system": "s", "revision": "main"},
    "reasoning": {"model": "org/b", "template_args": {"x": True}},
}  # fmt: skip
LAYOUT = {"blocks": "model.layers", "norm": "model.norm", "attn": "self_attn", "mlp": "mlp", "n_heads": 4, "sums": True}
STUDY = {
    "name": "a", "out": "out", "seeds": [0, 1], "presets": ["quick"], "shards": 2, "stress": [], "repairs": [],
    "audit": {"dimensions": ["safety"], "think": 96, "device": "cpu"},
    "pairs": [{"pair": "smollm2-sft"}, {"name": "b", "instruct": "org/b", "checkpoints": ["org/b-1", "org/b-2"]}],
}  # fmt: skip
HISTORY = {
    "name": "a", "route": "SFT", "parent": "smollm2-aligned", "parent_sha256": "", "seed": 0, "steps": [5, 10],
    "unit": "steps", "tokens": [50, 100],
}  # fmt: skip


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all values inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, entry in inside for place in places(entry, (*path, key))]


def changed(value: Any, rng: random.Random) -> Any:
    """A copy in which one to three values are gone or strange."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        found = places(value)
        if not found:
            return copy.deepcopy(rng.choice(STRANGE))
        *way, last = rng.choice(found)
        holder = value
        for key in way:
            holder = holder[key]
        if rng.random() < 0.3:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(rng.choice(STRANGE))
    return value


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes cut off, turned over, put in or doubled."""
    kind, place = rng.randrange(4), rng.randrange(len(data) + 1)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if kind == 2:
        return data[:place] + bytes(rng.randrange(256) for _ in range(rng.randint(1, 40))) + data[place:]
    return data[:place] + data[max(0, place - 30) :]


def toml(value: Any) -> str:
    """A value as TOML, as far as TOML can say it; JSON's scalars and lists are spelt alike."""
    if not isinstance(value, dict):
        return json.dumps(value)
    lines = [f"{json.dumps(key)} = {toml_inline(entry)}" for key, entry in value.items()]
    return "\n".join(lines) + "\n"


def toml_inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml_inline(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_inline, value)) + "]"
    if isinstance(value, float) and value != value:
        return "nan"
    return "inf" if value == float("inf") else json.dumps(value)


def text_case(good: Any, name: str, read: Callable[[Path], Any]) -> Callable[[Path, random.Random | None], None]:
    """A case of a file that holds one JSON or TOML object; without random numbers, of the good one."""

    def case(folder: Path, rng: random.Random | None) -> None:
        write = toml if name.endswith(".toml") else json.dumps
        text = write(good if rng is None or rng.random() < 0.3 else changed(good, rng)).encode("utf-8", "replace")
        if rng is not None:
            for _ in range(rng.randrange(3)):
                text = damaged(text, rng)
        (folder / name).write_bytes(text)
        read(folder / name)

    return case


def lines_case(
    good: list[dict], name: str, read: Callable[[Path], Any]
) -> Callable[[Path, random.Random | None], None]:
    """The same of a file with an object on each line."""

    def case(folder: Path, rng: random.Random | None) -> None:
        rows = good if rng is None or rng.random() < 0.3 else changed(good, rng)
        text = "\n".join(map(json.dumps, rows if isinstance(rows, list) else [rows])).encode()
        if rng is not None:
            for _ in range(rng.randrange(3)):
                text = damaged(text, rng)
        (folder / name).write_bytes(text)
        read(folder / name)

    return case


def read_checkpoints(file: Path) -> Any:
    """A history with the two checkpoints that the good one names."""
    for step in (5, 10):
        folder = file.parent / f"step-{step:05d}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"")
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": HISTORY["parent"]}))
    return read_history(file.parent)


def run_case(base: Path, pages: float = 0.05) -> Callable[[Path, random.Random | None], None]:
    def case(folder: Path, rng: random.Random | None) -> None:
        for file in base.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        if rng is None:
            load_run(folder).card()
            return
        kind, tables = rng.random(), sorted(folder.glob("*.parquet"))
        manifest = json.loads((folder / "run.json").read_text())
        if kind < 0.6:
            (folder / "run.json").write_text(json.dumps(changed(manifest, rng)))
        elif kind < 0.7:
            (folder / "run.json").write_bytes(damaged((folder / "run.json").read_bytes(), rng))
        else:
            change_table(folder, rng.choice(tables), manifest, rng)
        if rng.random() < pages:
            load_run(folder).report()
        elif rng.random() < 0.5:
            load_run(folder).card()
        else:
            gate(load_run(folder), {"safety": 0.05})

    return case


def change_table(folder: Path, file: Path, manifest: dict, rng: random.Random) -> None:
    """A table with other bytes or without a column; in half of the cases with its hash put right."""
    import pandas as pd

    if rng.random() < 0.4:
        file.write_bytes(damaged(file.read_bytes(), rng))
    else:
        table = pd.read_parquet(file)
        table.drop(columns=rng.choice(list(table.columns))).to_parquet(file, index=False)
    if rng.random() < 0.7:
        for stage in manifest["stages"].values():
            if file.name in stage["files"]:
                stage["files"][file.name] = sha256(file)
        (folder / "run.json").write_text(json.dumps(manifest))


def probe_rows() -> list[dict]:
    data = Path(str(sys.modules["mechdrift.probes.sets"].__file__)).parent / "data" / "safety.jsonl"
    return [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()[:2]]


TEXTS = {
    "pair files": text_case(PAIR, "pair.toml", read_pair_file),
    "study files": text_case(STUDY, "study.toml", lambda file: list(read_study(file).audits())),
    "histories": text_case(HISTORY, "history.json", read_checkpoints),
    "judge files": text_case(JUDGE, "judge.toml", load_judge),
    "layouts": text_case(LAYOUT, "layout.toml", read_layout),
    "probe files": lines_case(probe_rows(), "mine.jsonl", lambda file: load_probes("safety", file)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("fuzz.csv"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = build_run(Path(temporary) / "base", pairs=2).folder
        kinds = {"run folders": run_case(base)} | TEXTS
        rows = [count(name, case, args, Path(temporary)) for name, case in kinds.items()]
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def count(name: str, case: Callable[[Path, random.Random | None], None], args: argparse.Namespace, work: Path) -> dict:
    """How the cases of one kind ended."""
    ends = Counter()
    folder = work / "case"
    folder.mkdir()
    case(folder, None)  # what is not changed can be read
    shutil.rmtree(folder)
    for number in range(args.cases):
        folder.mkdir()
        try:
            case(folder, random.Random(zlib.crc32(f"{name} {args.seed} {number}".encode())))
            ends["read"] += 1
        except MechdriftError:
            ends["one sentence"] += 1
        except Exception:  # noqa: BLE001 - this is what is counted
            ends["traceback"] += 1
            print(f"-- {name} {number}\n{traceback.format_exc(limit=-4)}", file=sys.stderr)
        shutil.rmtree(folder)
    print(name, dict(ends), flush=True)
    return {"kind": name, "cases": args.cases} | {end: ends[end] for end in ("read", "one sentence", "traceback")}


if __name__ == "__main__":
    main()
