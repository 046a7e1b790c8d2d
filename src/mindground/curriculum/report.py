"""Report of a curriculum: report.json for programs, report.md and two figures for readers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mindground.engine.progress import duration
from mindground.files.atomic import atomic_file, write_bytes, write_json

__all__ = ["draw_curves", "draw_histograms", "write_report"]

_LOG = logging.getLogger("mindground")


def write_report(out: Path, report: Mapping[str, Any]) -> None:
    """Write report.json, report.md, histogram.png and curve.png into the work folder. Raises WriteError."""
    write_json(out / "report.json", report)
    write_bytes(out / "report.md", _text(report).encode())
    chosen = [(choice["source"], choice["measurer"], choice["threshold"]) for choice in report["choices"]]
    draw_histograms(out / "histogram.png", report["reliability"], chosen)
    draw_curves(out / "curve.png", report)


def _text(report: Mapping[str, Any]) -> str:
    metric, final = report["metric"], report["final"]
    lines = ["# Self-paced curriculum", ""]
    lines += [f"{final['samples']} samples in `{final['subset']}`; a model trained on them (`{final['checkpoint']}`) "]
    lines[-1] += f"reaches {metric} {final['performance']:.4f}."
    lines += ["", "## Sources, from simple to complex", ""]
    by_name = {source["name"]: source for source in report["sources"]}
    rows = [
        [name, source["samples"], f"{source['entities']:.2f}", f"{source['performance_of_all']:.4f}"]
        for name, source in ((name, by_name[name]) for name in report["order"])
    ]
    lines += _table(["source", "samples", "entities a sentence", f"{metric} of all of it"], rows)
    lines += ["", "## What was kept", ""]
    rows = [
        [c["source"], c["measurer"], f"{c['threshold']:.1f}", f"{c['kept']} of {c['of']}", f"{c['performance']:.4f}"]
        for c in report["choices"]
    ]
    lines += _table(["source", "measured by", "reliability above", "samples", metric], rows)
    for choice in report["choices"]:
        lines += ["", f"### Search in {choice['source']}", ""]
        if choice["measurers"]:
            tried = ", ".join(f"{name} {_score(score)}" for name, score in choice["measurers"].items())
            lines += [f"Measurers at {report['start_threshold']:.1f}: {tried}.", ""]
        rows = [[f"{e['threshold']:.1f}", e["samples"], _score(e["performance"])] for e in choice["evaluated"]]
        lines += _table(["threshold", "samples", metric], rows)
    lines += ["", "## Reliability", ""]
    names = [f"{index / 10:.1f}-{(index + 1) / 10:.1f}" for index in range(10)]
    rows = [
        [f"{r['source']} by {r['measurer']}", f"{r['mean']:.3f}", r["zero"], *r["bins"]] for r in report["reliability"]
    ]
    lines += _table(["", "mean", "0", *names], rows)
    lines += ["", "![histogram](histogram.png) ![curve](curve.png)", "", "## Trainings", ""]
    rows = [
        [t["title"], t["samples"], f"{t['performance']:.4f}", duration(t["seconds"]), f"`{t['key'][:16]}`"]
        for t in report["trainings"]
    ]
    return "\n".join([*lines, *_table(["set", "samples", metric, "time", "folder"], rows), ""])


def _score(value: float | None) -> str:
    return "not trained" if value is None else f"{value:.4f}"


def _table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def _figure(columns: int) -> tuple[Any, Any] | None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        _LOG.info("matplotlib is not installed; no figures of the curriculum are written")
        return None
    figure = Figure(figsize=(5 * columns, 4), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_file(path) as stream:
        FigureCanvasAgg(figure).print_png(stream)


def draw_histograms(
    path: Path, reliability: Sequence[Mapping[str, Any]], chosen: Sequence[tuple[str, str, float]]
) -> Path | None:
    """One histogram per source by its chosen measurer, with the chosen threshold; None without matplotlib.

    Args:
        path: PNG file.
        reliability: `histogram` of every source and measurer, with their names.
        chosen: source, measurer and threshold.
    """
    counts = {(entry["source"], entry["measurer"]): entry for entry in reliability}
    drawing = _figure(len(chosen))
    if drawing is None:
        return None
    figure, axes = drawing
    for axis, (source, measurer, threshold) in zip(axes, chosen, strict=True):
        entry = counts[source, measurer]
        edges = [index / 10 for index in range(10)]
        colours = ["tab:blue" if edge >= threshold - 1e-9 else "lightgrey" for edge in edges]
        axis.bar(edges, entry["bins"], width=0.1, align="edge", color=colours, edgecolor="white")
        axis.bar([-0.15], [entry["zero"]], width=0.1, align="edge", color="tab:red", edgecolor="white")
        axis.axvline(threshold, color="black", linewidth=1, linestyle="--")
        axis.set_xticks([-0.1, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0], ["= 0", "0", "0.2", "0.4", "0.6", "0.8", "1"])
        by = f" by {measurer}" if len({entry["measurer"] for entry in reliability}) > 1 else ""
        axis.set(xlabel="reliability", ylabel="samples", title=f"{source}{by}: kept above {threshold:.1f}")
    _save(figure, path)
    return path


def draw_curves(path: Path, report: Mapping[str, Any]) -> Path | None:
    """Performance over thresholds, one panel per source, with the number of samples; None without matplotlib."""
    choices = report["choices"]
    drawing = _figure(len(choices))
    if drawing is None:
        return None
    figure, axes = drawing
    all_of = {source["name"]: source["performance_of_all"] for source in report["sources"]}
    for axis, choice in zip(axes, choices, strict=True):
        points = sorted(
            (e["threshold"], e["performance"], e["samples"])
            for e in choice["evaluated"]
            if e["performance"] is not None
        )
        axis.plot([p[0] for p in points], [p[1] for p in points], marker="o", label="above the threshold")
        for threshold, value, samples in points:
            axis.annotate(f"{samples}", (threshold, value), textcoords="offset points", xytext=(0, 7), ha="center")
        if len(choices) == 1:
            axis.axhline(all_of[choice["source"]], color="grey", linestyle=":", label="all samples")
        axis.axvline(choice["threshold"], color="black", linewidth=1, linestyle="--")
        axis.set(xlabel="threshold", ylabel=report["metric"], title=f"{choice['source']} (numbers: samples of it)")
        axis.margins(y=0.15)
        axis.legend(frameon=False)
    _save(figure, path)
    return path
