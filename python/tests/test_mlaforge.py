"""The package against records as the program writes them, and against `mlaforge-report export`.

    python3 -m unittest discover -s python/tests

Where MLAFORGE_REPORT names the program, frames are compared with what it exports.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

try:
    import h5py
    import numpy as np
    import pandas as pd
    import xarray  # noqa: F401
except ImportError as error:
    reason = f"{error.name} is not installed (Debian: python3-h5py, python3-pandas, python3-xarray)"
    print("skipped:", reason)
    raise unittest.SkipTest(reason)

import mlaforge  # noqa: E402


def write_record(path, d_kv, seed, loss):
    """A small record with the layout of docs/records.md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs.update({"format": "mlaforge run record", "version": np.int64(2), "status": "complete",
                           "experiment": "demo", "cell": f"d_kv={d_kv},seed={seed}", "content_hash": f"{d_kv}{seed}"})
        file["config"] = json.dumps({"model": {"path": "/models/toy"}, "compress": [{"low_rank": {"d_kv": d_kv}}]})
        file["overrides"] = json.dumps({"compress[0].low_rank.d_kv": d_kv, "train.seed": seed})
        for stage, value in (("source", 2.0), ("fine_tuned", loss)):
            score = file.create_group(f"evaluation/{stage}/text/nll", track_order=True)
            score.attrs.update({"value": value, "standard_error": 0.5, "n": np.int64(3), "unit": "nats per token",
                                "higher_is_better": False})
            score["per_sample"] = np.array([value - 1, value, value + 1])
        file["training/step"] = np.arange(4)
        for name in ("tokens", "loss", "learning_rate", "gradient_norm"):
            file[f"training/{name}"] = np.linspace(4, loss, 4)
        scores = file.create_group("training_scores/text/nll")
        scores.attrs["unit"] = "nats per token"
        scores["step"], scores["value"] = np.array([1, 3]), np.array([3.0, loss])
        for layer in range(2):
            group = file.create_group(f"compression/layer_{layer:03}")
            group.attrs.update({"joint_error": 0.25, "latent_width": np.int64(d_kv), "fields": "{}"})
            group["singular_values"] = np.arange(d_kv, 0, -1.0)
            group["pairs"] = np.array([[0, 1], [2, 3]])
        file["timing/train"] = 1.5
        cache = file.create_group("cache/fine_tuned")
        cache.attrs.update({"tokens": np.int64(64), "counted_bytes": np.int64(64 * d_kv), "fields": "{}"})


class Reading(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)
        for d_kv in (2, 4):
            for seed in (1, 2):
                write_record(self.root / "demo" / f"d_kv={d_kv},seed={seed}.h5", d_kv, seed, 3 - d_kv / 4 + seed / 100)
        (self.root / "demo/broken.h5").write_text("no record")
        (self.root / ".cells").mkdir()
        (self.root / ".cells/other.h5").write_text("hidden")
        self.results = mlaforge.open_results(self.root)

    def test_all_records_are_found_and_others_named(self):
        self.assertEqual(len(self.results), 4)
        self.assertEqual([path.name for path in self.results.skipped], ["broken.h5"])
        self.assertEqual(self.results.settings(), ["compress[0].low_rank.d_kv", "train.seed"])
        self.assertEqual(list(self.results.cells()["model"]), ["toy"] * 4)
        with self.assertRaises(FileNotFoundError):
            mlaforge.open_results(self.root / "nowhere")

    def test_scores_have_units_and_errors(self):
        scores = self.results.scores()
        self.assertEqual(len(scores), 8)
        self.assertEqual(set(scores["unit"]), {"nats per token"})
        self.assertEqual(scores["value"].dtype, float)
        self.assertEqual(self.results.records[0].units(), {"text/nll": "nats per token"})

    def test_samples_are_those_of_a_score(self):
        samples = self.results.samples(stage="source", task="text", metric="nll")
        self.assertEqual(len(samples), 12)
        self.assertEqual(samples.attrs["units"]["value"], "nats per token")
        self.assertEqual(list(samples["value"][:3]), [1.0, 2.0, 3.0])
        self.assertEqual(len(self.results.samples(task="other")), 0)

    def test_series_and_scores_on_the_way(self):
        self.assertEqual(len(self.results.training()), 16)
        self.assertEqual(self.results.training().attrs["units"]["loss"], "nats per token")
        on_the_way = self.results.training_scores()
        self.assertEqual(list(on_the_way["step"]), [1, 3] * 4)

    def test_spectra_become_an_array(self):
        spectra = self.results.spectra()
        self.assertEqual(len(spectra), 2 * 2 * (2 + 4))
        array = self.results.records[-1].spectra_array()
        self.assertEqual(array.dims, ("layer", "matrix", "rank"))
        self.assertEqual(float(array.sel(layer=1, matrix="singular_values", rank=1)), 4.0)
        self.assertEqual(self.results.records[0].pairs()[1].tolist(), [[0, 1], [2, 3]])

    def test_scores_become_an_array_over_the_grid(self):
        array = self.results.scores_array("text", "nll")
        self.assertEqual(dict(array.sizes), {"compress[0].low_rank.d_kv": 2, "train.seed": 2})
        self.assertAlmostEqual(float(array.sel({"compress[0].low_rank.d_kv": 4, "train.seed": 2})), 2.02)
        self.assertEqual(array.attrs["units"], "nats per token")
        self.assertEqual(float(self.results.scores_array("text", "nll", stage="source").mean()), 2.0)
        with self.assertRaises(KeyError):
            self.results.scores_array("text", "accuracy")

    def test_bytes_and_seconds(self):
        self.assertEqual(list(self.results.cache()["counted_bytes"]), [128, 128, 256, 256])
        self.assertEqual(self.results.records[0].timing()["train"], 1.5)
        self.assertEqual(list(self.results.timing()["stage"]), ["train"] * 4)

    def test_metrics_of_a_running_training(self):
        file = self.root / "metrics.jsonl"
        file.write_text('{"step": 0, "loss": 2.5, "time": "2026-01-31T12:00:00Z"}\n'
                        '{"step": 1, "loss": 2.0, "time": "2026-01-31T12:00:01Z", "evaluation": {"text": {"nll": 1.5}}}\n'
                        '{"step": 2, "lo')
        frame = mlaforge.read_metrics(file)
        self.assertEqual(list(frame["loss"]), [2.5, 2.0])
        self.assertEqual(frame["evaluation.text.nll"][1], 1.5)
        self.assertEqual(frame["time"][1] - frame["time"][0], pd.Timedelta(seconds=1))

    def test_the_example_draws_two_figures(self):
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            self.skipTest("matplotlib is not installed (python3-matplotlib)")
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples/two_figures.py"), str(self.root), "--metric", "nll", "--output",
             str(self.root / "figures")],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("pareto.svg", "loss.svg"):
            self.assertIn("<svg", (self.root / "figures" / name).read_text())


@unittest.skipUnless(os.environ.get("MLAFORGE_REPORT"), "MLAFORGE_REPORT names no program")
class RoundTrip(unittest.TestCase):
    """Frames are what the program exports, of records that it has written itself."""

    RECORDS = [ROOT.parent / "data", ROOT.parent / "tests/store/version_1/cell.h5"]

    def exported(self, what, paths):
        done = subprocess.run([os.environ["MLAFORGE_REPORT"], "export", *map(str, paths), "--what", what],
                              stdout=subprocess.PIPE, check=True, text=True)
        return pd.read_csv(io.StringIO(done.stdout), float_precision="round_trip")

    def test_what_is_exported_is_what_is_read(self):
        paths = [Path(path) for path in os.environ.get("MLAFORGE_RECORDS", "").split(":") if path] or self.RECORDS
        results = mlaforge.open_results(*paths)
        self.assertGreater(len(results), 0)
        for what, frame in (("scores", results.scores()), ("samples", results.samples()),
                            ("training", results.training()), ("training_scores", results.training_scores()),
                            ("layers", results.layers()), ("spectra", results.spectra())):
            with self.subTest(what):
                exported = self.exported(what, paths)
                self.assertEqual(list(frame.columns), list(exported.columns))
                self.assertEqual(len(frame), len(exported))
                for column in frame.columns if len(frame) else []:
                    ours, told = frame[column].reset_index(drop=True), exported[column]
                    if pd.api.types.is_numeric_dtype(told) and not pd.api.types.is_bool_dtype(told):
                        np.testing.assert_array_equal(ours.astype(float).to_numpy(), told.astype(float).to_numpy(), column)
                    else:
                        self.assertEqual(list(ours.fillna("").astype(str).str.lower()),
                                         list(told.fillna("").astype(str).str.lower()), column)


if __name__ == "__main__":
    unittest.main()
