"""Draws the study and writes its summary: a picture a part, summary.json, curves.csv.

python -m tests.transfer.draw recipe/studies/transfer
"""

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.atomic import write_json, write_text
from tests.transfer.curves import BASE_LR, STEP, Curve, curves
from tests.transfer.fit import mean_losses, minimum
from tests.transfer.study import Points, finished
from tests.transfer.summary import Found, Group, grouped, summarise

TITLES = {
    "width": "Width, 2 layers", "depth": "Depth, width 64", "gqa": "Query heads for each key-value head, width 128",
    "scale_depth": "scale_depth against depth, minicpm, width 64",
    "weight_decay": "Weight decay against width: coupled 1.0, independent 0.01", "batch": "Batch, tokens fixed",
    "duration": "Duration, batch fixed",
}  # fmt: skip
SIZES = {"gqa": "query heads", "scale_depth": "depth", "weight_decay": "width"}  # what varies, where not what the part says
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3")


def draw(folder: Path) -> dict[str, Any]:
    """Reads FOLDER/points.jsonl; writes an SVG for each part, `curves.csv` and `summary.json`."""
    done = list(finished(Points(folder / "points.jsonl")))
    summary = summarise(done)
    for part, groups in grouped(done).items():
        picture(part, groups, folder / part)
    _write_csv(folder / "curves.csv", done)
    planned: dict[str, int] = {}
    for curve in curves():
        planned[curve.part] = planned.get(curve.part, 0) + 1
    missing = {part: planned[part] - sum(curve.part == part for curve, _ in done) for part in planned}
    summary |= {"titles": TITLES, "missing_curves": {part: count for part, count in missing.items() if count}}
    write_json(folder / "summary.json", summary)
    return summary


def picture(part: str, groups: dict[str, Group], path: Path) -> None:
    """Loss over base learning rate, a panel a group, a colour a size; minima with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "transfer", "font.size": 9}
    figure, axes = plt.subplots(1, len(groups), figsize=(4.6 * len(groups) + 0.4, 3.8), sharey=True, squeeze=False)
    sizes = sorted({curve.size for group in groups.values() for curve, _ in group})
    for axis, (name, group) in zip(axes[0], groups.items(), strict=True):
        for curve, found in group:
            _curve(axis, found, label=f"{curve.size:g}", colour=COLOURS[sizes.index(curve.size)])
        axis.set_xscale("log", base=2)
        axis.set_title(name)
        axis.set_xlabel("base learning rate")
        axis.xaxis.set_major_formatter(lambda value, _position: f"{value:.3g}")
        axis.grid(alpha=0.25)
        axis.legend(title=SIZES.get(part, part), fontsize=8)
    axes[0][0].set_ylabel("held-out loss, nats a byte")
    figure.suptitle(f"{TITLES[part]}: dots are seeds, diamonds fitted minima with 95 % intervals")
    figure.tight_layout()
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def _curve(axis: Any, found: Found, *, label: str, colour: str) -> None:
    means, best = mean_losses(found), minimum(found)
    axis.plot([BASE_LR * STEP**step for step in means], list(means.values()), color=colour, label=label, linewidth=1.2)
    axis.scatter([BASE_LR * STEP**step for step, _ in found], list(found.values()), color=colour, s=7, alpha=0.45)
    if best.low > 0:
        axis.plot([best.low, best.high], [best.loss] * 2, color=colour, linewidth=3, alpha=0.35)
    axis.scatter([best.lr], [best.loss], color=colour, marker="D", s=34, edgecolor="black", zorder=3)


def _write_csv(path: Path, done: Sequence[tuple[Curve, Found]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["part", "group", "size", "lr", "seed", "loss_nats"])
        for curve, found in done:
            for (step, seed), loss in sorted(found.items()):
                writer.writerow(
                    [curve.part, curve.group, f"{curve.size:g}", f"{BASE_LR * STEP**step:.6f}", seed, f"{loss:.4f}"]
                )


def readable(summary: dict[str, Any]) -> str:
    """Verdicts and minima as Markdown."""
    lines = []
    for part, groups in summary["parts"].items():
        lines += [f"### {TITLES[part]}", "", f"![{part}]({part}.svg)", ""]
        lines += [f"- {told}" for told in summary["verdicts"].get(part, [])]
        lines += [
            "",
            "| | size | best lr | 95 % interval | on the grid | loss | at the first one's best lr |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_row(name, row) for name, group in groups.items() for row in group["curves"]]
        lines.append("")
    missing = ", ".join(f"{TITLES[part].lower()} ({count} curves)" for part, count in summary["missing_curves"].items())
    return "\n".join([*lines, *([f"**Not measured yet**: {missing}."] if missing else [])])


def _row(name: str, row: dict[str, Any]) -> str:
    interval = f"{row['low']:.4f} to {row['high']:.4f}" if row["high"] else "no minimum fitted"
    cells = (name, f"{row['size']:g}", f"{row['lr']:.4f}", interval, f"{row['grid_lr']:.4f}", f"{row['loss']:.3f}")
    return f"| {' | '.join(cells)} | {row['loss_at_base_lr']:.3f} |"


def write_measured(readme: Path, text: str) -> None:
    """Puts what was measured between a README's two marks; the rest of it is written by hand. Without a README: nothing."""
    if not readme.is_file():
        return
    body = f"<!-- measured -->\n{text}\n<!-- end -->"
    whole = re.sub(r"<!-- measured -->.*<!-- end -->", lambda _: body, readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    write_text(readme, whole)


def main() -> int:
    """Command line."""
    folder = Path(sys.argv[1])
    summary = draw(folder)
    write_measured(folder / "README.md", readable(summary))
    for told in (line for lines in summary["verdicts"].values() for line in lines):
        print(told)
    if summary["missing_curves"]:
        print(f"curves that are not finished yet: {summary['missing_curves']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
