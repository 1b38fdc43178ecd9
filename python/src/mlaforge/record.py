"""One record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union

import h5py
import numpy as np
import pandas as pd
import xarray as xr

FORMAT = "mlaforge run record"
SPECTRA = ("singular_values", "value_singular_values")


def _plain(value: Any) -> Any:
    """An attribute as Python has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        return value.item()
    return value


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class Record:
    """What a record says; arrays are read when they are asked for.

    The file is opened for each question and closed after it, so that any number of records can be held.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"]) -> None:
        self.path = Path(path)
        with self._open() as file:
            if _plain(file.attrs.get("format")) != FORMAT:
                raise ValueError(f"{self.path}: an HDF5 file, but no run record")
            self.attributes: Dict[str, Any] = {name: _plain(file.attrs[name]) for name in file.attrs if name != "fields"}
            self.config: Any = json.loads(_text(file["config"][()]))
            self.overrides: Dict[str, Any] = json.loads(_text(file["overrides"][()])) if "overrides" in file else {}

    def __repr__(self) -> str:
        return f"<Record {self.experiment}/{self.cell}: {self.status}>"

    def _open(self) -> h5py.File:
        return h5py.File(self.path, "r")

    @property
    def experiment(self) -> str:
        return str(self.attributes.get("experiment", ""))

    @property
    def cell(self) -> str:
        return str(self.attributes.get("cell", ""))

    @property
    def status(self) -> str:
        """complete, diverged, failed or interrupted."""
        return str(self.attributes.get("status", ""))

    @property
    def content_hash(self) -> str:
        return str(self.attributes.get("content_hash", ""))

    @property
    def model(self) -> str:
        """The name of the source model's folder or file."""
        model = self.config.get("model", "") if isinstance(self.config, dict) else ""
        path = model.get("path", "") if isinstance(model, dict) else model
        return Path(path).name if isinstance(path, str) and path else ""

    @property
    def provenance(self) -> Dict[str, Any]:
        with self._open() as file:
            if "provenance" not in file:
                return {}
            values = {name: _plain(value) for name, value in file["provenance"].attrs.items() if name != "fields"}
        for name in ("libraries", "data_hashes"):
            if isinstance(values.get(name), str):
                values[name] = json.loads(values[name])
        return values

    def fields(self, group: str) -> Dict[str, str]:
        """What the scalars and arrays of a group mean, by name; ``/`` is the record itself."""
        with self._open() as file:
            found = file[group]
            meanings: Dict[str, str] = json.loads(_text(found.attrs["fields"])) if "fields" in found.attrs else {}
            for name, member in found.items():
                if isinstance(member, h5py.Dataset) and "description" in member.attrs:
                    meanings[name] = _text(member.attrs["description"])
        return meanings

    def _scores(self, file: h5py.File) -> Iterator[Tuple[str, str, str, h5py.Group]]:
        if "evaluation" not in file:
            return
        for stage, tasks in file["evaluation"].items():
            for task, metrics in tasks.items():
                for metric, score in metrics.items():
                    if isinstance(score, h5py.Group) and "value" in score.attrs:
                        yield stage, task, metric, score

    def units(self) -> Dict[str, str]:
        """The unit of each score, by ``task/metric``."""
        with self._open() as file:
            return {f"{task}/{metric}": _text(_plain(score.attrs.get("unit", "")))
                    for _, task, metric, score in self._scores(file)}

    def scores(self) -> pd.DataFrame:
        """One row per score: stage, task, metric, value, standard_error, n, unit, higher_is_better."""
        rows: List[Dict[str, Any]] = []
        with self._open() as file:
            for stage, task, metric, score in self._scores(file):
                error = score.attrs.get("standard_error")
                rows.append({
                    "stage": stage, "task": task, "metric": metric, "value": float(score.attrs["value"]),
                    "standard_error": np.nan if error is None else float(error),
                    "n": int(score.attrs.get("n", 0)), "unit": _text(_plain(score.attrs.get("unit", ""))),
                    "higher_is_better": bool(score.attrs.get("higher_is_better", True)),
                })
        columns = ["stage", "task", "metric", "value", "standard_error", "n", "unit", "higher_is_better"]
        return pd.DataFrame(rows, columns=columns)

    def samples(self, stage: str = "", task: str = "", metric: str = "") -> pd.DataFrame:
        """One row per item of a score: stage, task, metric, sample, value; those named alone, empty: all."""
        frames: List[pd.DataFrame] = []
        with self._open() as file:
            for at_stage, of_task, of_metric, score in self._scores(file):
                wanted = stage in ("", at_stage) and task in ("", of_task) and metric in ("", of_metric)
                if not wanted or "per_sample" not in score or score["per_sample"].size == 0:
                    continue
                values = score["per_sample"][()]
                frames.append(pd.DataFrame({"stage": at_stage, "task": of_task, "metric": of_metric,
                                            "sample": np.arange(len(values)), "value": values}))
        columns = ["stage", "task", "metric", "sample", "value"]
        frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
        units = self.units()
        frame.attrs["units"] = {"value": units.get(f"{task}/{metric}", "")}
        return frame

    def training(self) -> pd.DataFrame:
        """One row per step of training: step, tokens, loss, learning_rate, gradient_norm."""
        columns = ["step", "tokens", "loss", "learning_rate", "gradient_norm"]
        with self._open() as file:
            group = file.get("training")
            if group is None or "step" not in group:
                frame = pd.DataFrame(columns=columns)
            else:
                length = len(group["step"])
                frame = pd.DataFrame({
                    name: group[name][()] if name in group and len(group[name]) == length else np.full(length, np.nan)
                    for name in columns})
        frame.attrs["units"] = {"loss": "nats per token"}
        return frame

    def training_scores(self) -> pd.DataFrame:
        """Scores of the model during training: task, metric, step, value, unit."""
        frames: List[pd.DataFrame] = []
        with self._open() as file:
            for task, metrics in file.get("training_scores", {}).items():
                for metric, group in metrics.items():
                    frames.append(pd.DataFrame({"task": task, "metric": metric, "step": group["step"][()],
                                                "value": group["value"][()],
                                                "unit": _text(_plain(group.attrs.get("unit", "")))}))
        columns = ["task", "metric", "step", "value", "unit"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def _layers(self, file: h5py.File) -> Iterator[Tuple[int, h5py.Group]]:
        for name, group in file.get("compression", {}).items():
            if name.startswith("layer_"):
                yield int(name[len("layer_"):]), group

    def layers(self) -> pd.DataFrame:
        """One row per number of a converted layer: layer, name, value."""
        rows: List[Tuple[int, str, float]] = []
        with self._open() as file:
            for layer, group in self._layers(file):
                for name, value in group.attrs.items():
                    if name != "fields" and isinstance(_plain(value), (int, float)):
                        rows.append((layer, name, float(value)))
        return pd.DataFrame(rows, columns=["layer", "name", "value"])

    def spectra(self) -> pd.DataFrame:
        """One row per singular value: layer, matrix, rank (from 1), value."""
        frames: List[pd.DataFrame] = []
        with self._open() as file:
            for layer, group in self._layers(file):
                for matrix in SPECTRA:
                    if matrix not in group or group[matrix].size == 0:
                        continue
                    values = group[matrix][()]
                    frames.append(pd.DataFrame({"layer": layer, "matrix": matrix,
                                                "rank": np.arange(1, len(values) + 1), "value": values}))
        columns = ["layer", "matrix", "rank", "value"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def spectra_array(self) -> xr.DataArray:
        """Singular values by layer, matrix and rank; NaN where a layer has fewer."""
        frame = self.spectra()
        array = frame.set_index(["layer", "matrix", "rank"])["value"].to_xarray() if len(frame) else xr.DataArray(
            np.empty((0, 0, 0)), dims=["layer", "matrix", "rank"])
        array.name = "singular_values"
        array.attrs["units"] = "1"
        array.attrs["long_name"] = "singular values of the factorized matrix"
        return array

    def pairs(self) -> Dict[int, np.ndarray]:
        """The rotation pairs that keep RoPE, [kv_heads, pairs], by layer."""
        with self._open() as file:
            return {layer: group["pairs"][()] for layer, group in self._layers(file) if "pairs" in group}

    def timing(self) -> "pd.Series[float]":
        """Seconds by stage."""
        with self._open() as file:
            seconds = {name: float(value[()]) for name, value in file.get("timing", {}).items()
                       if isinstance(value, h5py.Dataset) and value.shape == ()}
        series = pd.Series(seconds, dtype=float, name="seconds")
        series.attrs["units"] = {"seconds": "s"}
        return series

    def cache(self) -> pd.DataFrame:
        """One row per stage: tokens, predicted_bytes, counted_bytes and those of the weights."""
        rows = []
        with self._open() as file:
            for stage, group in file.get("cache", {}).items():
                rows.append({"stage": stage, **{name: _plain(value) for name, value in group.attrs.items()
                                                if name != "fields"}})
        frame = pd.DataFrame(rows)
        frame.attrs["units"] = {name: "bytes" for name in frame.columns if name.endswith("bytes")}
        return frame


def open_record(path: Union[str, "os.PathLike[str]"]) -> Record:
    """A record. Raises OSError for what is no HDF5 file, ValueError for one that is no record."""
    return Record(path)
