"""Decays of 2.5, 5, 10 and 20 % from one stable run, beside a cosine run of the same budget; by the command line alone.

python -m tests.transfer.branch_study WORK_DIR [--data-dir data]
"""

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from data_prep.atomic import write_json
from recipe.rundir import RunDir, read_json, read_jsonl
from tests.transfer.draw import write_measured

STUDY = Path(__file__).parents[2] / "recipe" / "studies" / "branches"
TOTAL, STEP_TOKENS = 1_310_720, 4096
DECAYS = {"2.5 %": 8, "5 %": 16, "10 %": 32, "20 %": 64}  # steps of 320
HALF_LIVES = 4  # each decay ends at 1/16 of the peak
SMOOTH_STEPS = 8


def windtunnel(*words: str) -> None:
    """Runs a command; raises if it fails."""
    print("$ windtunnel " + " ".join(words), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-W", "ignore", "-m", "launch.cli", *words], check=True, stdout=sys.stderr)


def train(work: Path, data_dir: str) -> dict[str, RunDir]:
    """The stable run, its branches and the cosine run, those that aren't there yet."""
    common = ("--processes", "1", "--data-dir", data_dir)
    runs = {"stable": RunDir(work / "stable"), "cosine": RunDir(work / "cosine")}
    for name, file in (("stable", "recipe.yaml"), ("cosine", "cosine.yaml")):
        if not final(runs[name]):
            windtunnel("train", str(STUDY / file), "--run-dir", str(runs[name].root), *common)
    before = fingerprint(runs["stable"])
    for label, steps in DECAYS.items():
        length, branch = steps * STEP_TOKENS, f"decay-{steps}-steps"
        changes = (f"stages.decay.tokens={length}", f"stages.decay.lr.half_life_tokens={length // HALF_LIVES}")
        runs[label] = RunDir(runs["stable"].branches / branch)
        if not final(runs[label]):
            options = [word for change in changes for word in ("-o", change)]
            windtunnel("decay", str(runs["stable"].root), "--at", str(TOTAL - length), "--name", branch, *options, *common)
    if fingerprint(runs["stable"]) != before:
        raise RuntimeError("a branch changed the stable run")
    return runs


def final(run: RunDir) -> float | None:
    """Held-out loss at TOTAL tokens, mean over the sources; None where the run isn't there yet."""
    for path in run.root.glob(f"eval/heldout-*{TOTAL}.json"):
        sources = read_json(path)["sources"]
        return float(sum(one["loss_nats"] for one in sources.values()) / len(sources))
    return None


def fingerprint(run: RunDir) -> str:
    """Of every file of a run but its branches."""
    digest = hashlib.sha256()
    for path in sorted(run.root.rglob("*")):
        if path.is_file() and run.branches not in path.parents:
            digest.update(str(path.relative_to(run.root)).encode() + path.read_bytes())
    return digest.hexdigest()


def results(runs: dict[str, RunDir]) -> dict[str, Any]:
    """Curves and ends."""
    curves = {name: [(row["tokens"], row["loss"], row["lr"]) for row in read_jsonl(run.metrics)] for name, run in runs.items()}
    return {"heldout_nats": {name: final(run) for name, run in runs.items()}, "curves": curves}


def draw(found: dict[str, Any], path: Path) -> None:
    """Training loss (running mean) over the last 40 % above, learning rate beneath."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "branches", "font.size": 9}
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.5, 5.5), sharex=True, gridspec_kw={"height_ratios": [3, 1]}, layout="constrained"
    )
    for name, rows in found["curves"].items():
        tokens, losses, rates = zip(*rows, strict=True)
        smooth = [sum(losses[max(0, i - SMOOTH_STEPS + 1) : i + 1]) / len(losses[max(0, i - SMOOTH_STEPS + 1) : i + 1])
                  for i in range(len(losses))]  # fmt: skip
        end = found["heldout_nats"][name]
        shown = [i for i, at in enumerate(tokens) if 0.6 * TOTAL <= at <= TOTAL]
        style = {"color": "black"} if name == "stable" else {"color": "0.6"} if name == "cosine" else {}
        label = f"{name}: held out {end:.3f}"
        top.plot([tokens[i] for i in shown], [smooth[i] for i in shown], label=label, **style)
        bottom.plot([tokens[i] for i in shown], [rates[i] for i in shown], **style)
    top.set_ylabel(f"loss, nats a token (mean of {SMOOTH_STEPS} steps)")
    bottom.set_ylabel("base lr")
    bottom.set_xlabel("tokens")
    top.grid(alpha=0.25)
    top.legend()
    figure.suptitle("Decays from one stable run, and a cosine of the same budget")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data-dir", default="data")
    given = parser.parse_args()
    found = results(train(given.work, given.data_dir))
    write_json(STUDY / "results.json", {"heldout_nats": found["heldout_nats"]})
    draw(found, STUDY / "branches.svg")
    rows = [f"| {name} | {loss:.4f} |" for name, loss in found["heldout_nats"].items()]
    write_measured(
        STUDY / "README.md",
        "\n".join(["![branches](branches.svg)", "", "| run | held-out loss, nats a token |", "|---|---|", *rows]),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
