"""The canvas of every plot, and the one plot that training and monitoring share.

PNG data URIs that a Prefect artifact or a page can show. matplotlib is imported late, because it
costs most of a second, and without pyplot, whose global state threads would share. Colours:
Okabe and Ito, told apart by the colour-blind.
"""

import base64
import io
from typing import TYPE_CHECKING

import polars as pl

from flows.profile.performance import reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"


def calibration_plot(scored: pl.DataFrame, release: str) -> str:
    """What scores promised against what happened, in ten bins; areas show rows."""
    table = reliability(scored)
    canvas, axes = figure(height=5.2)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    rows = table["rows"].to_numpy()
    x, y = table["mean_score"].to_numpy(), table["rate"].to_numpy()
    axes.plot(x, y, color=BLUE, linewidth=1.2)
    axes.scatter(x, y, s=20 + 280 * rows / max(rows.max(initial=1), 1), color=BLUE, alpha=0.75,
                 label=f"{release} (area: rows, {rows.sum():,} in all)")  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("mean score (probability)")
    axes.set_ylabel("share of positives (probability)")
    axes.set_title(f"Calibration of {release}", loc="left")
    axes.legend(frameon=False, loc="upper left", markerscale=0.5)
    return png(canvas)


def figure(*, height: float) -> tuple["Figure", "Axes"]:
    """8 inches at 100 dots: 800 pixels wide."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(8, height), dpi=100, layout="constrained")
    axes = canvas.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="both", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    return canvas, axes


def png(canvas: "Figure") -> str:
    """A figure without pyplot is drawn by Agg; no date inside, so equal plots are equal bytes."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
