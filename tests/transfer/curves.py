"""What the transfer study measures, as data: each curve is a learning-rate sweep of one model."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.transfer.train import Job

WIDTHS, DEPTHS = (64, 128, 256, 512), (4, 8, 16, 32)
STEP = 2**0.5  # of the learning-rate grid
BASE_LR = 0.01


@dataclass(frozen=True)
class Curve:
    """A sweep over lr.

    Attributes:
        part: Which question it belongs to.
        group: Curves of one group are laid over each other; their minima are compared.
        size: What varies within the group.
        job: Everything but lr and seed.
        start: Where the sweep begins, in grid steps from BASE_LR.
        seeds: Near the minimum; elsewhere one.
        reach: Grid steps that must be seen on both sides of the minimum.
        shared: Grid steps at which all seeds run, too, so that sizes can be compared there.
    """

    part: str
    group: str
    size: float
    job: Job
    start: int = 0
    seeds: int = 2
    reach: int = 2
    shared: tuple[int, ...] = ()

    def at(self, step: int, seed: int) -> Job:
        """The job at one grid step."""
        return replace(self.job, lr=BASE_LR * STEP**step, seed=seed)


def curves() -> Iterator[Curve]:
    """Every curve, cheap ones of a part first."""
    for width in WIDTHS:
        start = {64: -4, 128: -6, 256: -8, 512: -9}[width]  # a little less than lr ∝ 1/width, as theory expects
        seeds = {64: 8, 128: 6, 256: 4, 512: 3}[width]  # its seeds differ most where it is narrow, and cost least there
        yield Curve("width", "standard", width, Job(kind="standard", width=width, init_std=0.02), start, seeds=seeds)
        seeds, reach, shared = (4, 2, (-1, 0, 1)) if width < 512 else (2, 1, ())  # two minutes a point
        yield Curve("width", "minicpm", width, Job(width=width), seeds=seeds, reach=reach, shared=shared)
    for depth in DEPTHS:
        reach = 1 if depth == 32 else 2
        yield Curve("depth", "minicpm", depth, Job(depth=depth), reach=reach)
        yield Curve("depth", "completep", depth, Job(kind="completep", depth=depth), reach=reach)
    for share in (1, 2, 4, 8):
        yield Curve("gqa", "minicpm", share, Job(width=128, head_dim=16, kv_share=share))
    for scale in (0.7, 1.4, 2.8):
        for depth in (4, 16):
            yield Curve("scale_depth", f"scale_depth {scale}", depth, Job(depth=depth, scale_depth=scale))
    for mode, decay in (("coupled", 1.0), ("independent", 0.01)):  # the same at the base width and lr
        for width in (64, 128, 256):
            yield Curve("weight_decay", mode, width, Job(width=width, weight_decay=decay, decay_mode=mode))
    for scaled in (True, False):
        rule = "by the rule" if scaled else "unchanged"
        for batch in (0.5, 1, 2, 4):
            yield Curve("batch", rule, batch, Job(batch_mult=batch, scaled=scaled if batch != 1 else True))
        for duration in (1, 2, 4):
            yield Curve("duration", rule, duration, Job(duration_mult=duration, scaled=scaled if duration != 1 else True))
