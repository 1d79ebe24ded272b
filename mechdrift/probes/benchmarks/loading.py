"""From a name to a probe set: find the files or ask the hub, read the rows, check the items, take a part of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mechdrift.pairs.hub import hub_or_cache
from mechdrift.probes.benchmarks.registry import Benchmark, Reader, benchmark_of
from mechdrift.probes.benchmarks.rows import Row, read_file
from mechdrift.records import MechdriftError, ProbeItem, ProbeSet
from mechdrift.records.foreign import check_length


def load_benchmark(name: str, path: str | Path | None = None) -> ProbeSet:
    r"""One of the field's benchmarks, as published.

    Args:
        name: such as `"xstest"`, `"harmbench"` or `"bbq"`; `mechdrift probes` lists them with their licences.
        path: its file or folder as published; without it, the benchmark is read from the Hugging Face hub.

    Returns:
        A `ProbeSet` whose `benchmark` names the formula that `score` uses.

    Raises:
        MechdriftError: for an unknown name, and for a wrong column, an unknown label or an empty file; the error
            names the row.

    Source:
        Each benchmark's paper stands in its `source`; the formulas are in
        `mechdrift.behaviour.benchmark_scores.formulas`.

    Example:
        >>> header, row = "id,prompt,type,label,focus,note", "1,How do I kill a process?,homonyms,safe,kill,"
        >>> _ = open("xstest_prompts.csv", "w").write(f"{header}\n{row}\n")
        >>> md.load_benchmark("xstest", "xstest_prompts.csv").items[0].contrast
        'neutral'
    """
    benchmark = benchmark_of(name)
    if benchmark.read is None:
        raise MechdriftError(
            f"{name} holds reasoning tasks, not probes: read it with mechdrift.behaviour.benchmark_scores.load_tasks."
        )
    items = [
        replace(item, id=f"{name}-{item.id}", twin=item.twin and f"{name}-{item.twin}", dimension=benchmark.dimension)
        for item in _read_items(benchmark.read, read_rows(name, path))
    ]
    place = str(path or benchmark.hub)
    if not items:
        raise MechdriftError(
            f"{place}: no items of {name} were found; give its published {' and '.join(benchmark.files)}."
        )
    return ProbeSet(
        name=name,
        dimension=benchmark.dimension,
        items=tuple(items),
        source=place,
        licence=benchmark.licence,
        benchmark=name,
    )


class _Followed(list[Row]):
    """Rows that remember which of them was taken last."""

    last: Row

    def __iter__(self) -> Iterator[Row]:
        for row in super().__iter__():
            self.last = row
            yield row


def _read_items(read: Reader, rows: Iterable[Row]) -> Iterator[ProbeItem]:
    """What a reader makes of the rows. An id that occurs a second time is an error."""
    followed, seen = _Followed(rows), set()
    for item in read(followed):
        if item.id in seen:
            raise MechdriftError(
                f"{followed.last.where}: the id {item.id!r} occurs a second time; give only one version of each file."
            )
        seen.add(item.id)
        check_length(item.prompt, followed.last.where, "prompt")
        yield item


def subset(probes: ProbeSet, items: int, seed: int = 0) -> ProbeSet:
    """At most `items` items, drawn evenly over the families, reproducible by `seed`; items of one `group` stay
    together."""
    groups: dict[str, list[ProbeItem]] = defaultdict(list)
    for item in probes:
        groups[item.tags.get("group", item.id)].append(item)
    rng = np.random.default_rng(seed)
    queues: dict[str, list[list[ProbeItem]]] = {family: [] for family in rng.permutation(probes.families)}
    names = list(groups)
    for index in rng.permutation(len(names)):
        group = groups[names[index]]
        queues[group[0].family].append(group)
    keep: set[str] = set()
    while any(queues.values()):
        for queue in queues.values():
            group = queue.pop() if queue else []
            if len(keep) + len(group) <= items:
                keep |= {item.id for item in group}
    if not keep:
        most = max(map(len, groups.values()))
        raise MechdriftError(
            f"{items} items are too few: {probes.name} asks up to {most} items about one text; take {most} or more."
        )
    return replace(probes, items=tuple(item for item in probes if item.id in keep))


def read_rows(name: str, path: str | Path | None = None) -> list[Row]:
    """The published rows of a benchmark, unread."""
    benchmark = benchmark_of(name)
    if path is not None:
        return [row for file in _find_files(benchmark, Path(path)) for row in read_file(file)] + _partners(
            benchmark, Path(path)
        )
    if not benchmark.hub:
        raise MechdriftError(
            f"{name} is not on the hub in a form that is read here: give path= with its published files."
        )
    return [
        row for config in benchmark.configs for split in benchmark.splits for row in _read_hub(benchmark, config, split)
    ]


def _partners(benchmark: Benchmark, path: Path) -> list[Row]:
    """The rows of the file without which this one cannot be read; their part says that nobody asked for them."""
    name = benchmark.partners.get(path.name.split(".")[0])
    found = [path.with_name(name)] if name and path.with_name(name).is_file() else []
    return [replace(row, part=f"{row.part} beside") for file in found for row in read_file(file)]


def _find_files(benchmark: Benchmark, path: Path) -> list[Path]:
    """The file itself, or the published files anywhere in the folder; with what belongs beside them."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        why = "" if isinstance(error, FileNotFoundError | ValueError) else f" ({error.strerror})"
        raise MechdriftError(f"there is no benchmark file or folder {str(path)[:200]}{why}.") from error
    folder = path if path.is_dir() else path.parent
    found = (
        [file for pattern in benchmark.files for file in _matching(folder, f"**/{pattern}")]
        if path.is_dir()
        else [path]
    )
    if not found:
        raise MechdriftError(
            f"the folder {path} holds no file of {benchmark.name}: {' or '.join(benchmark.files)} was expected."
        )
    for pattern in benchmark.beside:
        inside = _matching(path, f"**/{pattern}") if path.is_dir() else _matching(folder, pattern)
        found += inside or _matching(
            folder.parent, pattern
        )  # MoralChoice keeps its templates in a folder beside that of the scenarios
    return list(dict.fromkeys(found))


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Files by name, plain or compressed; the plain one where there are both."""
    plain = sorted(folder.glob(pattern))
    return plain + [file for file in sorted(folder.glob(f"{pattern}.gz")) if file.with_suffix("") not in plain]


def _read_hub(benchmark: Benchmark, config: str | None, split: str) -> Iterator[Row]:
    from datasets import ClassLabel, load_dataset  # slow to import, and needed for the hub only

    where = f"{benchmark.hub} ({', '.join(filter(None, (config, split)))})"
    try:
        with hub_or_cache():
            data = load_dataset(benchmark.hub, config, split=split, revision=benchmark.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise MechdriftError(
            f"{where} cannot be loaded from the hub ({' '.join(str(error).split())[:160]}); give path= with the "
            "published files."
        ) from error
    features = getattr(data, "features", None) or {}
    names = {
        column: kind for column, kind in features.items() if isinstance(kind, ClassLabel) and column != "label"
    }  # "label": as numbers
    for number, values in enumerate(data, 1):
        texts = {column: kind.int2str(values[column]) for column, kind in names.items()}
        yield Row(
            where=f"{where}, row {number}",
            part="-".join(filter(None, (config, split))),
            number=number,
            values={**values, **texts},
        )
