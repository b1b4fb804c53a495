"""The plot: the time of a step as a loop grows, by side."""

from pathlib import Path
from statistics import fmean, median

from .run import Runs
from .sides import peer

_WINDOWS = 20
_COLOURS = 10


def draw(runs: Runs, file: Path) -> None:
    """Write the plot of a run as SVG.

    Raises:
        Missing: what draws it is not installed.
    """
    library = peer("matplotlib")
    library.use("svg")
    library.rcParams.update({"svg.hashsalt": "caesura", "svg.fonttype": "none", "font.size": 9})
    figure, axes = peer("matplotlib.pyplot").subplots(figsize=(8, 5), layout="constrained")
    ends: list[tuple[float, str]] = []
    for number, side in enumerate(sorted({side for found in runs["one"] for side in found})):
        rounds = [found[side].took for found in runs["one"] if side in found]
        size = max(1, len(rounds[0]) // _WINDOWS)
        starts = range(0, len(rounds[0]) - size + 1, size)
        times = [median(fmean(took[start : start + size]) for took in rounds) * 1e6 for start in starts]
        axes.plot(
            [start + size for start in starts],
            times,
            label=side,
            linewidth=2.5 if side == "caesura" else 1,
            linestyle="-" if number < _COLOURS else "--",
        )
        ends.append((times[-1], side))
    axes.set(yscale="log", xlabel="steps", ylabel="µs a step (log)")
    axes.grid(visible=True, which="both", alpha=0.2)
    order = [side for _, side in sorted(ends, reverse=True)]
    lines = {line.get_label(): line for line in axes.get_lines()}
    axes.legend([lines[side] for side in order], order, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, metadata={"Date": None})
