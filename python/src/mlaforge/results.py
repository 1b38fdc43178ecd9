"""Many records at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Union

import pandas as pd
import xarray as xr

from .record import Record

PathLike = Union[str, "os.PathLike[str]"]
#: Columns that say which record a row is of, before those of the record's own grid.
IDENTITY = ["experiment", "cell", "status", "content_hash", "model"]


def _find(path: Path) -> List[Path]:
    """In the order of `mlaforge-report`: by the names of folders, from the first on."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder")
    found: List[Path] = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder) / name for name in files if name.endswith(".h5")]
    return sorted(found, key=lambda file: file.parts)


class Results:
    """The records of some folders, in order of path. ``skipped`` says which files are none, and why."""

    def __init__(self, records: List[Record], skipped: Dict[Path, str]) -> None:
        self.records = records
        self.skipped = skipped

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __repr__(self) -> str:
        return f"<Results: {len(self.records)} records>"

    def where(self, keep: Callable[[Record], bool]) -> "Results":
        """Those that ``keep`` is true of: ``results.where(lambda record: record.status == "complete")``."""
        return Results([record for record in self.records if keep(record)], self.skipped)

    def settings(self) -> List[str]:
        """The config paths in which the records' grids differ, in the order met."""
        paths: Dict[str, None] = {}
        for record in self.records:
            paths.update(dict.fromkeys(record.overrides))
        return list(paths)

    def _identity(self, record: Record, settings: List[str]) -> Dict[str, Any]:
        row: Dict[str, Any] = {"experiment": record.experiment, "cell": record.cell, "status": record.status,
                               "content_hash": record.content_hash, "model": record.model}
        for path in settings:
            value = record.overrides.get(path)
            row[path] = json.dumps(value, separators=(",", ":"), ensure_ascii=False) if isinstance(value, (dict, list)) else value
        return row

    def _stack(self, part: Callable[[Record], pd.DataFrame]) -> pd.DataFrame:
        settings = self.settings()
        frames: List[pd.DataFrame] = []
        columns: List[str] = []
        units: Dict[str, str] = {}
        for record in self.records:
            frame = part(record)
            columns = columns or list(frame.columns)
            units.update(frame.attrs.get("units", {}))
            if frame.empty:
                continue
            identity = self._identity(record, settings)
            before = pd.DataFrame({name: [value] * len(frame) for name, value in identity.items()}, index=frame.index)
            frames.append(pd.concat([before, frame], axis=1))
        whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=IDENTITY + settings + columns)
        whole.attrs["units"] = units
        return whole

    def cells(self) -> pd.DataFrame:
        """One row per record: what identifies it, its settings, where it lies."""
        settings = self.settings()
        return pd.DataFrame([{**self._identity(record, settings), "path": str(record.path)} for record in self.records],
                            columns=IDENTITY + settings + ["path"])

    def scores(self) -> pd.DataFrame:
        """As ``mlaforge-report export --what scores``."""
        return self._stack(Record.scores)

    def samples(self, stage: str = "", task: str = "", metric: str = "") -> pd.DataFrame:
        """As ``mlaforge-report export --what samples``; of the scores named alone, empty: all."""
        return self._stack(lambda record: record.samples(stage, task, metric))

    def training(self) -> pd.DataFrame:
        """As ``mlaforge-report export --what training``."""
        return self._stack(Record.training)

    def training_scores(self) -> pd.DataFrame:
        """As ``mlaforge-report export --what training_scores``."""
        return self._stack(Record.training_scores)

    def layers(self) -> pd.DataFrame:
        """As ``mlaforge-report export --what layers``."""
        return self._stack(Record.layers)

    def spectra(self) -> pd.DataFrame:
        """As ``mlaforge-report export --what spectra``."""
        return self._stack(Record.spectra)

    def cache(self) -> pd.DataFrame:
        """Bytes of caches and weights, one row per record and stage."""
        return self._stack(Record.cache)

    def timing(self) -> pd.DataFrame:
        """Seconds, one row per record and stage."""
        frame = self._stack(lambda record: record.timing().rename_axis("stage").reset_index())
        frame.attrs["units"] = {"seconds": "s"}
        return frame

    def scores_array(self, task: str, metric: str, stage: str = "") -> xr.DataArray:
        """One score with a dimension for each setting in which the records differ; NaN where there is no cell.

        ``stage`` empty: the last one that each record has the score of. Raises KeyError where no record has it, and
        ValueError where two records have the same settings.
        """
        frame = self.scores()
        frame = frame[(frame["task"] == task) & (frame["metric"] == metric)]
        if stage:
            frame = frame[frame["stage"] == stage]
        if frame.empty:
            raise KeyError(f"no record has {task}/{metric}")
        # Records keep their stages in the order of the run.
        frame = frame.groupby(["experiment", "cell", "content_hash"]).tail(1)
        settings = [path for path in self.settings() if frame[path].nunique(dropna=False) > 1]
        if not settings:
            settings = ["cell"]
        if frame.duplicated(settings).any():
            raise ValueError(f"two records have the same {', '.join(settings)}; choose some by Results.where()")
        array: xr.DataArray = frame.set_index(settings)["value"].to_xarray()
        array.name = metric
        array.attrs["units"] = str(frame["unit"].iloc[0])
        array.attrs["long_name"] = f"{task} {metric}"
        return array


def open_results(*paths: PathLike) -> Results:
    """The records under folders, and single ones. Files that are no records stand in ``skipped``."""
    records: List[Record] = []
    skipped: Dict[Path, str] = {}
    files = {file for path in paths for file in _find(Path(path))}
    for file in sorted(files, key=lambda one: one.parts):
        try:
            records.append(Record(file))
        except (OSError, ValueError, KeyError) as error:
            skipped[file] = str(error)
    return Results(records, skipped)
