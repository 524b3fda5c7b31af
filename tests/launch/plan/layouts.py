"""The layouts on which closed form and trace are compared; `python -m tests.launch.plan.layouts` prints the table.

One model of realistic width (fake tensors take no memory), every axis alone, then mixed, up to 1,024 ranks.
"""

from dataclasses import dataclass
from typing import Any

from launch.plan.agreement import OTHERS, STATES, compare, worst

BASE = {
    "sources": "{}", "model.num_layers": 8, "model.hidden_size": 1024, "model.ffn_hidden_size": 2816, "model.num_heads": 16,
    "model.num_kv_heads": 8, "model.seq_length_tokens": 2048, "model.vocab_size": 32000, "parallel.zero": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One rank of one layout; `changes`: recipe keys, without their section where that is `parallel`."""

    world_size: int
    rank: int
    overrides: tuple[str, ...]
    label: str


def point(world_size: int, rank: int = 0, *, mbs: int = 1, accumulate: int = 4, **changes: Any) -> Point:
    """A layout by its degrees; keys with a double underscore name another section (`model__tied`)."""
    degrees = changes.get("tp", 1) * changes.get("pp", 1) * changes.get("cp", 1)
    if changes.get("tp", 1) > 1:
        changes.setdefault("sp", True)
    named = {key.replace("__", ".") if "__" in key else f"parallel.{key}": value for key, value in changes.items()}
    named = {key.removeprefix("top."): value for key, value in named.items()}
    length = named.get("model.seq_length_tokens", BASE["model.seq_length_tokens"])
    named |= {"batch.micro_seqs": mbs, "batch.global_tokens": length * mbs * accumulate * world_size // degrees}
    texts = tuple(f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in (BASE | named).items())
    words = [f"{key.rpartition('.')[2]} {value}" for key, value in named.items() if not key.startswith("batch")]
    label = f"{world_size} ranks, rank {rank}: " + ", ".join([*words, f"mbs {mbs}", f"{accumulate} microbatches"])
    return Point(world_size, rank, texts, label)


def points() -> list[Point]:
    found = [point(1, mbs=mbs, recompute=kind) for kind in ("none", "selective", "full") for mbs in (1, 2)]
    found += [point(1, mbs=4), point(1, accumulate=1), point(1, accumulate=2), point(1, mbs=2, model__tied=False)]
    found += [point(1, model__num_kv_heads=16), point(1, model__num_kv_heads=1)]
    for zero in (0, 1, 2, 3):
        found += [point(2, zero=zero), point(8, zero=zero), point(4, zero=zero, mbs=2, accumulate=1)]
        found.append(point(4, zero=zero, mbs=2, recompute="full"))
    for tp in (2, 4, 8):
        found += [point(tp, tp=tp), point(tp, tp=tp, sp=False), point(tp, tp=tp, recompute="full")]
    for pp in (2, 4, 8):
        found += [point(pp, rank, pp=pp, accumulate=2 * pp) for rank in sorted({0, pp // 2, pp - 1})]
    found += [point(4, rank, pp=4, accumulate=2) for rank in (0, 3)]
    found += [point(2, rank, pp=2, vp=vp) for vp in (2, 4) for rank in (0, 1)]
    found += [point(4, rank, pp=4, vp=2, accumulate=8) for rank in (0, 3)]
    found += [point(2, pp=2, recompute="full"), *(point(2, rank, pp=2, vp=2, recompute="full") for rank in (0, 1))]
    for cp in (2, 4):
        found += [point(cp, cp=cp), point(cp, cp=cp, zero=1), point(2 * cp, cp=cp, tp=2, zero=1)]
    for rank in (0, 7):
        found += [point(8, rank, tp=2, pp=2, zero=1), point(8, rank, tp=2, pp=2, zero=2), point(8, rank, tp=2, pp=2, cp=2)]
    found += [
        point(8, tp=2, zero=3),
        point(8, cp=2, zero=3),
        point(8, tp=4, zero=1, mbs=2),
        point(16, tp=2, pp=2, vp=2, zero=1),
    ]
    found += [point(2, zero=zero, top__precision="fp32") for zero in (0, 1, 3)]
    # 1016 is the last stage's first; 1023, its last, has the vocabulary's padding, and less than the rank that is planned for
    found += [point(1024, rank, tp=8, pp=8, zero=1, accumulate=16) for rank in (0, 1016)]
    found += [point(1024, zero=1, accumulate=1), point(1024, tp=8, zero=2, accumulate=2), point(64, tp=8, cp=2, pp=2, zero=1)]
    found += [point(4, zero=3, model__num_layers=layers) for layers in (4, 12)]
    found.append(point(4, zero=1, model__seq_length_tokens=4096, model__vocab_size=65280))
    return found


def main() -> None:
    print("| layout | total, MiB | " + " | ".join((*STATES, OTHERS, "total")) + " |")
    print("|---|---|" + "---|" * (len(STATES) + 2), flush=True)
    highest = 0.0
    for one in points():
        pairs = compare("nano", world_size=one.world_size, rank=one.rank, overrides=one.overrides)
        whole = pairs["total"][1]
        shares = [f"{100 * (pairs[name][0] - pairs[name][1]) / whole:+.2f} %" for name in (*STATES, OTHERS, "total")]
        highest = max(highest, worst(pairs))
        print(f"| {one.label} | {whole / 2**20:,.0f} | " + " | ".join(shares) + " |", flush=True)
    print(f"\n{len(points())} layouts; the largest difference of a term is {100 * highest:.2f} % of the traced total")


if __name__ == "__main__":
    main()
