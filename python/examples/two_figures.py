#!/usr/bin/env python3
"""Two figures from results: perplexity against the bytes of the cache, and the loss of fine-tuning.

    python3 python/examples/two_figures.py results/demo --output figures
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import mlaforge  # noqa: E402

MOST_NAMES = 12  # in a figure of one column; beyond that they cover what they name


def label_of(row, settings):
    return ", ".join(f"{path.split('.')[-1]}={row[path]}" for path in settings if row[path] == row[path]) or row["cell"]


def pareto(results, metric, figure):
    """One point per cell: the score of its last stage, with its standard error, at the bytes of a cached token."""
    scores = results.scores()
    scores = scores[scores["metric"] == metric].groupby(["experiment", "cell"]).tail(1)
    cache = results.cache().groupby(["experiment", "cell"]).tail(1)
    cache = cache.assign(bytes_per_token=cache["counted_bytes"] / cache["tokens"])
    both = scores.merge(cache[["experiment", "cell", "bytes_per_token"]], on=["experiment", "cell"])
    axes = figure.add_subplot()
    axes.errorbar(both["bytes_per_token"], both["value"], yerr=both["standard_error"], fmt="o")
    settings = [path for path in results.settings() if both[path].nunique() > 1 and "seed" not in path]
    for _, row in both.iterrows() if len(both) <= MOST_NAMES else ():
        axes.annotate(label_of(row, settings), (row["bytes_per_token"], row["value"]), fontsize=6,
                      xytext=(3, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("cache, bytes per token")
    axes.set_ylabel(metric)


def losses(results, figure):
    """One line per cell, smoothed over a tenth of its steps."""
    axes = figure.add_subplot()
    for cell, steps in results.training().groupby("cell"):
        window = max(1, len(steps) // 10)
        axes.plot(steps["step"], steps["loss"].rolling(window, min_periods=1).mean(), label=cell, linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per token")
    if 0 < len(axes.lines) <= MOST_NAMES:
        axes.legend(fontsize=6)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="results folders or records")
    parser.add_argument("--metric", default="perplexity")
    parser.add_argument("--output", default=".", type=Path, help="folder for pareto.svg and loss.svg")
    arguments = parser.parse_args()
    results = mlaforge.open_results(*arguments.results).where(lambda record: record.status == "complete")
    if len(results) == 0:
        parser.error("no complete records there")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, draw in (("pareto", lambda figure: pareto(results, arguments.metric, figure)),
                       ("loss", lambda figure: losses(results, figure))):
        figure = plt.figure(figsize=(5, 3.5), layout="constrained")
        draw(figure)
        figure.savefig(arguments.output / f"{name}.svg")
        print(arguments.output / f"{name}.svg")


if __name__ == "__main__":
    main()
