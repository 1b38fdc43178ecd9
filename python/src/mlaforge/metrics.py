"""metrics.jsonl: a training while it runs."""

from __future__ import annotations

import json
import os
from typing import Union

import pandas as pd

UNITS = {
    "loss": "nats per token",
    "tokens_per_second": "tokens/s",
    "seconds": "s",
}


def read_metrics(path: Union[str, "os.PathLike[str]"]) -> pd.DataFrame:
    """One row per step. Scores on the way are columns ``evaluation.<task>.<metric>``, empty where none was taken.

    A line that is being written is left out.
    """
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                break
            row = json.loads(line)
            for task, metrics in row.pop("evaluation", {}).items():
                for metric, value in metrics.items():
                    row[f"evaluation.{task}.{metric}"] = value
            rows.append(row)
    frame = pd.DataFrame(rows)
    if "time" in frame:
        frame["time"] = pd.to_datetime(frame["time"])
    frame.attrs["units"] = dict(UNITS)
    return frame
