"""`Run`: a run folder, open for reading; an audit writes through the same object.

The SHA-256 of every file is recorded in run.json when its stage ends. So a killed run goes on at the first unfinished
stage, and a damaged file is named and never read in part.
"""

import html
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from mechdrift.errors import MechdriftError, reason
from mechdrift.records.foreign import shown
from mechdrift.runs.files import PART, REMEDY, folder_lock, is_no_room, made, placed, remove_leftovers, sha256
from mechdrift.runs.manifest import read_manifest
from mechdrift.tables.registry import table_of

if TYPE_CHECKING:  # a manifest is read without them
    import pandas as pd
    from torch import Tensor

    from mechdrift.report.gallery import Figures

MOST_CELLS = 1_000_000_000  # of a table; the largest audits have a few million


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, open for reading; the audit writes through the same object."""

    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.folder)

    @property
    def finished(self) -> tuple[str, ...]:
        return tuple(self.manifest["stages"])

    def table(self, name: str) -> "pd.DataFrame":
        """A stored table with today's columns; raises, naming the file, where it is missing, is damaged, or does not
        fit its schema."""
        import pandas as pd
        import pyarrow.parquet as pq

        file, schema = self._checked(f"{name}.parquet"), self.manifest["schema"]
        try:
            shape = pq.read_metadata(file)
            if shape.num_rows * shape.num_columns > MOST_CELLS:  # a column of one value takes almost no room in a file
                raise MechdriftError(f"{file} unpacks to more than {MOST_CELLS:,} cells: it was changed; audit again.")
            table = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise MechdriftError(f"{file} is damaged: delete it and run the audit again.") from error
        table = table_of(name).upgraded(table, schema)
        if fault := table_of(name).fault(table):
            raise MechdriftError(f"{file} {fault}: it was changed, or is of another version; run the audit again.")
        return table

    def has(self, file_name: str) -> bool:
        """Whether a file is there; raises where a finished stage has written it and it is gone."""
        is_there = (self.folder / file_name).exists()
        if not is_there and any(file_name in stage["files"] for stage in self.manifest["stages"].values()):
            self._checked(file_name)
        return is_there

    def tensors(self, name: str) -> "dict[str, Tensor]":
        from safetensors.torch import load_file

        file = self._checked(f"{name}.safetensors")
        try:
            return load_file(file)
        except SafetensorError as error:
            raise MechdriftError(f"{file} is damaged: delete it and run the audit again.") from error

    def write_table(self, name: str, table: "pd.DataFrame") -> None:
        """Store a table; raises where it does not fit its schema. An empty table is stored with all its columns."""
        table = table_of(name).complete(table)
        table_of(name).check_new(table)
        with placed(self.folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)

    def write_tensors(self, name: str, tensors: "Mapping[str, Tensor]") -> None:
        from safetensors.torch import save_file

        with placed(self.folder / f"{name}.safetensors") as temporary:
            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)

    def write_text(self, file_name: str, text: str) -> Path:
        with placed(self.folder / file_name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return self.folder / file_name

    def finish(
        self, stage: str, seconds: float, files: tuple[str, ...] = (), *, keep: bool = False, **facts: Any
    ) -> None:
        """Record a finished stage: its time, its files' hashes, and facts to keep in the manifest.

        Only then is the stage's unfinished work (`<stage>-*.partial.*`) removed, so a kill before loses nothing. `keep`
        leaves it there, for a stage that may be run again.
        """
        manifest = self.manifest
        manifest["stages"][stage] = {
            "seconds": round(seconds, 2),
            "files": {file: sha256(self.folder / file) for file in files},
        }
        manifest.update(facts)
        self.write_manifest(manifest)
        self.remove_partials(() if keep else (stage,))

    def remove_partials(self, stages: Collection[str]) -> None:
        """Remove the unfinished work that these stages have kept."""
        for stage in stages:
            for partial in self.folder.glob(f"{stage}-*.partial.*"):
                partial.unlink()

    def forget(self, stages: Collection[str]) -> None:
        """Remove stages from the list of finished ones, because they or their input will be made again."""
        manifest = self.manifest
        manifest["stages"] = {name: stage for name, stage in manifest["stages"].items() if name not in stages}
        self.write_manifest(manifest)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self.write_text("run.json", json.dumps(manifest, indent=2) + "\n")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for files that a stage needs only while it runs. It lies in the run folder, where there is room, and
        is removed at the end of the block; what a killed stage left is removed when the next one starts."""
        for leftover in self.folder.glob(PART.format("scratch", "*")):
            shutil.rmtree(leftover, ignore_errors=True)
        folder = self.folder / PART.format("scratch", os.getpid())
        try:
            folder.mkdir()
            yield folder
        except (OSError, SafetensorError) as error:
            if not is_no_room(error):
                raise
            raise MechdriftError(f"{self.folder} could not be written to ({reason(error)}): {REMEDY}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def locked(self, who: str = "audit") -> Iterator[None]:
        """Inside the block, no other process writes to the folder; raises where one does.

        What a kill left half written is removed, because nobody else can be writing it now.
        """
        with folder_lock(self.folder, who):
            remove_leftovers(self.folder)
            yield

    @property
    def is_stress_test(self) -> bool:
        """Whether the folder belongs to a stress test, which has tables and a page of its own."""
        return "stress" in self.manifest["identity"]

    @property
    def is_price_list(self) -> bool:
        """Whether the folder is a price list of repairs, which has tables and a page of its own."""
        return "repairs of" in self.manifest["identity"]

    def check_is_audit(self) -> None:
        """Raise where the folder belongs to a stress test, repairs or a trajectory: it lacks an audit's tables, or its
        answers are judged in another way."""
        if self.is_price_list:
            raise MechdriftError(
                f"{self.folder} is a price list of repairs and no audit: read its repair.html, or draw that again with "
                "mechdrift report."
            )
        if self.is_stress_test:
            raise MechdriftError(
                f"{self.folder} belongs to a stress test and is no audit: read its stress.html, or hold it against "
                "limits with --max-lift."
            )
        if {"history", "history name"} & set(self.manifest["identity"]):
            raise MechdriftError(
                f"{self.folder} belongs to a trajectory and is no audit: read its trajectory.html, or audit the "
                "checkpoint with --adapter."
            )

    def check_has(self, table: str, kind: str) -> None:
        """Raise where this folder, a `kind` in words, has not come as far as this table."""
        if not self.has(f"{table}.parquet"):
            raise MechdriftError(
                f"{self.folder} is a {kind} that is not finished: start it again, it goes on where it stopped."
            )

    def report(self, out: Path | None = None) -> Path:
        """Write `report.html` (of a stress test `stress.html`) and `figures/` from the folder's tables, into the folder
        or into `out`. Loads no model."""
        if not self.is_stress_test:
            self.check_is_audit()
        with (Run(made(out)) if out else self).locked("report"):
            from mechdrift.report.of_run import write_page

            return write_page(self, out)

    def card(self) -> str:
        """A section for a model card, as Markdown: scores with intervals, what was found inside, limits, versions and
        hashes of weights; for a stress test its modes."""
        if not self.is_stress_test:
            self.check_is_audit()
        from mechdrift.report.of_run import card_of

        return card_of(self)

    @property
    def figures(self) -> "Figures":
        """The figures of the report by name, each drawn when it is asked for: `run.figures["patching"].show()`.

        `list(run.figures)` names them. Loads no model.

        Raises:
            MechdriftError: for a name that the run has no figure of, and where its table holds nothing to draw.
        """
        self.check_is_audit()
        from mechdrift.report.of_run import figures_of

        return figures_of(self)

    @property
    def summary(self) -> str:
        """The pair, the preset and the finished stages, in a line."""
        manifest = self.manifest
        preset = manifest["config"].get("preset", "no preset")
        done = ", ".join(manifest["stages"]) or "none"
        return f"{manifest['config'].get('pair', 'unnamed pair')}, {preset}, in {self.folder}; finished stages: {done}"

    def _repr_html_(self) -> str:
        """What this run is and its headline scores; `run.figures` and `run.report()` show the rest."""
        from mechdrift.records.answers import ScoreTable
        from mechdrift.records.notebook import as_html

        if not self.has("scores.parquet"):
            return f"<p><b>Run</b>: {html.escape(shown(self.summary))}</p>"
        return as_html("Run", self.summary, ScoreTable(frame=self.table("scores")).head)

    def _checked(self, file_name: str) -> Path:
        file = self.folder / file_name
        if not file.exists():
            raise MechdriftError(f"{file} is missing: run the audit again; it goes on where it stopped.")
        for stage in self.manifest["stages"].values():
            expected = stage["files"].get(file_name)
            if expected and sha256(file) != expected:
                raise MechdriftError(
                    f"{file} is damaged (its hash is not the recorded one): delete it and run the audit again."
                )
        return file

    def damaged_stages(self) -> tuple[str, ...]:
        """Finished stages that have a missing or changed file."""
        stages = self.manifest["stages"].items()
        return tuple(
            name
            for name, stage in stages
            if any(
                not (self.folder / file).exists() or sha256(self.folder / file) != value
                for file, value in stage["files"].items()
            )
        )

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"Run({self.folder}, pair={manifest['config']['pair']}, stages={', '.join(manifest['stages'])})"
