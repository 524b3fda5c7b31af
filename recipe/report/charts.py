"""What each chart shows, as data; assets/charts.js draws it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from recipe.report.collect import RunView
from recipe.report.series import shrink, smooth, steps_only

SMOOTH_FRAC = 1 / 60  # of the run's steps, for the line drawn over the raw values


def training_chart(views: Sequence[RunView]) -> dict[str, Any] | None:
    """Loss over tokens through every stage, with learning rate and batch drawn beneath (Figure 3)."""
    lines = [line for view in views for line in _family(view)]
    loss = [series for color, (name, view) in enumerate(lines) for series in _loss_series(name, view, color)]
    if not loss:
        return None
    rates = [_stepped(name, view, "lr", color) for color, (name, view) in enumerate(lines) if view.metrics]
    batches = [_stepped(name, view, "batch_seqs", color) for color, (name, view) in enumerate(lines) if view.metrics]
    panels = [
        _panel("loss", "loss, nats per token", loss, height=300, can_log=True),
        _panel("lr", "learning rate (base)", rates, height=110, zero=True, can_log=True),
    ]
    if any(len(set(series["y"])) > 1 for series in batches):
        panels.append(_panel("batch", "sequences per step", batches, height=80, zero=True, format="count"))
    return _chart("training", "Loss over tokens, with the learning rate beneath", panels, views)


def gradient_chart(views: Sequence[RunView]) -> dict[str, Any] | None:
    """Global gradient norm before clipping."""
    return _single(views, "grad_norm", "gradient", "gradient norm before clipping", zero=True, can_log=True)


def throughput_chart(views: Sequence[RunView]) -> dict[str, Any] | None:
    """Tokens per second and model FLOPs utilisation, restarts marked."""
    speed = _single(views, "tokens_per_s", "throughput", "tokens per second", zero=True, format="count")
    mfu = _single(views, "mfu_frac", "throughput", "MFU", zero=True, format="percent")
    if speed is None:
        return None
    panels = speed["panels"] + (mfu["panels"] if mfu else [])
    for panel, height in zip(panels, (200, 130), strict=False):
        panel["height"] = height
    return speed | {"panels": panels, "marks": _restarts(views), "title": "Throughput"}


def phase_chart(views: Sequence[RunView]) -> dict[str, Any] | None:
    """Seconds of a step by phase, of the first run."""
    rows = [row for row in views[0].metrics if row.get("phase_s")]
    if not rows:
        return None
    tokens = [row["tokens"] for row in rows]
    names = sorted({name for row in rows for name in row["phase_s"]})
    width = max(1, round(len(rows) * SMOOTH_FRAC))
    series = [
        {"name": name, "color": color, "kind": "line"}
        | shrink(tokens, smooth([row["phase_s"].get(name, 0.0) for row in rows], width=width))
        for color, name in enumerate(names)
    ]
    panels = [_panel("phases", "seconds per step", series, height=180, zero=True, can_log=True)]
    return _chart("phases", "Where a step's time goes", panels, views[:1])


def heldout_chart(views: Sequence[RunView]) -> dict[str, Any] | None:
    """Held-out loss by source over tokens, where there is more than one evaluation."""
    series: list[dict[str, Any]] = []
    every = sorted({source for view in views for result in view.heldout for source in result["sources"]})
    for number, view in enumerate(views):
        prefix = f"{view.name}: " if len(views) > 1 else ""
        for color, name in enumerate(every):
            points = [
                (result["tokens"], result["sources"][name]["loss_nats"]) for result in view.heldout if name in result["sources"]
            ]
            if len(points) > 1:
                line = {"name": prefix + name, "color": color, "kind": "dots", "dash": number > 0}
                series.append(line | shrink(*zip(*points, strict=True)))
    if not series:
        return None
    panels = [_panel("heldout", "held-out loss, nats per token", series, height=240, can_log=True)]
    return _chart("heldout", "Held-out loss by source over tokens", panels, views)


def _family(view: RunView, above: str = "") -> list[tuple[str, RunView]]:
    """A run and the tree of its branches, each named by the way to it."""
    name = above + view.name
    return [(name, view), *(one for branch in view.branches for one in _family(branch, f"{name} › "))]


def _loss_series(name: str, view: RunView, color: int) -> list[dict[str, Any]]:
    rows = [row for row in view.metrics if row.get("loss") is not None]
    if not rows:
        return []
    tokens, loss = [row["tokens"] for row in rows], [row["loss"] for row in rows]
    raw = {"name": name, "color": color, "kind": "faint", "quiet": True} | shrink(tokens, loss)
    width = max(1, round(len(rows) * SMOOTH_FRAC))
    return [raw, {"name": name, "color": color, "kind": "line"} | shrink(tokens, smooth(loss, width=width))]


def _stepped(name: str, view: RunView, key: str, color: int) -> dict[str, Any]:
    rows = view.metrics
    points = steps_only([row["tokens"] for row in rows], [row.get(key) or 0.0 for row in rows])
    return {"name": name, "color": color, "kind": "line"} | points


def _single(views: Sequence[RunView], key: str, name: str, label: str, **panel: Any) -> dict | None:
    series = []
    for color, view in enumerate(views):
        rows = [row for row in view.metrics if row.get(key) is not None]
        if rows:
            tokens, values = [row["tokens"] for row in rows], [row[key] for row in rows]
            series.append({"name": view.name, "color": color, "kind": "faint", "quiet": True} | shrink(tokens, values))
            width = max(1, round(len(rows) * SMOOTH_FRAC))
            series.append({"name": view.name, "color": color, "kind": "line"} | shrink(tokens, smooth(values, width=width)))
    if not series:
        return None
    return _chart(name, label.capitalize(), [_panel(key, label, series, height=190, **panel)], views)


def _panel(
    name: str, label: str, series: list[dict[str, Any]], *, height: int, zero: bool = False, can_log: bool = False,
    format: str = "number",
) -> dict[str, Any]:
    return {
        "id": name, "label": label, "series": series, "height": height, "zero": zero, "canLog": can_log, "format": format,
    }


def _chart(name: str, title: str, panels: list[dict[str, Any]], views: Sequence[RunView]) -> dict[str, Any]:
    bands = [
        {"from": stage.start_tokens, "to": stage.end_tokens, "label": stage.name} for stage in views[0].resolved.stages
    ]
    return {"id": name, "title": title, "x": "tokens", "panels": panels, "bands": bands, "marks": []}


def _restarts(views: Sequence[RunView]) -> list[dict[str, Any]]:
    """Where a later attempt took over."""
    marks = []
    for view in views:
        attempts = [(row.get("attempt"), row["tokens"]) for row in view.metrics]
        for (before, _), (after, tokens) in pairwise(attempts):
            if after != before:
                marks.append({"x": tokens, "label": f"attempt {after}"})
    return marks
