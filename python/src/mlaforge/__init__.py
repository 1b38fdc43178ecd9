"""Reads the records of mlaforge as pandas frames and xarray arrays."""

from .metrics import read_metrics
from .record import Record, open_record
from .results import Results, open_results

__all__ = ["Record", "Results", "open_record", "open_results", "read_metrics"]
__version__ = "0.1.0"
