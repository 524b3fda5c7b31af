"""Draws a coordinate check: one panel a module, size of the activation and of its change against size of the model."""

from collections.abc import Sequence
from math import exp
from pathlib import Path

from megatron_patches.mup.coordcheck import Measurement, Verdict, log_size
from megatron_patches.mup.coordinates import MODULES

_COLOURS = {"initial": "#4c72b0", "update": "#c44e52"}


def plot(measurements: Sequence[Measurement], verdicts: Sequence[Verdict], path: Path, *, title: str) -> None:
    """Writes a PNG; every seed is a dot, the line joins the seeds' means."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(11, 6), sharex=True, sharey=True)
    for panel, module in zip(panels.flat, MODULES):
        for quantity, colour in _COLOURS.items():
            _series(panel, measurements, module, quantity, colour)
        told = {v.quantity: v for v in verdicts if v.module == module}
        marks = ", ".join(f"{q} {v.slope:+.2f}{'' if v.passed else ' ✗'}" for q, v in told.items())
        panel.set_title(
            f"{module.replace('_', ' ')}\n{marks}",
            fontsize=9,
            color="black" if all(v.passed for v in told.values()) else "#c44e52",
        )
        sizes = sorted({m.size for m in measurements})
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.grid(alpha=0.25)
    for panel in panels[1]:
        panel.set_xlabel(measurements[0].axis)
    panels[0][0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _series(panel, measurements: Sequence[Measurement], module: str, quantity: str, colour: str) -> None:
    sizes = sorted({m.size for m in measurements})
    points = [(m.size, exp(log_size(m, module, quantity))) for m in measurements]
    panel.scatter(*zip(*points), s=10, color=colour, alpha=0.6)
    means = [[log_size(m, module, quantity) for m in measurements if m.size == size] for size in sizes]
    label = "at initialisation" if quantity == "initial" else "moved by training"
    panel.plot(sizes, [exp(sum(values) / len(values)) for values in means], color=colour, label=label)
