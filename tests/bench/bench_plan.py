"""Scores the planner on published runs: `make bench-plan CSV=tests/data/parallelism_measurements.csv`, or any file like it.

Prints each row's errors, then tables by family: with the shipped calibration, and for each family with a calibration fitted on
the rows that we have (tests/data) without that family. Rows that can't be priced are named and counted.
`--save FILE` writes the fit of all rows (that is how launch/plan/calibrated.json was made).
"""

import sys
import time
from pathlib import Path

from launch.plan.answer import default_calibration, problem_of
from launch.plan.fit import fit, leave_out
from launch.plan.published import Case, load_cases, read_cases
from launch.plan.score import Prediction, Summary, predict, summarise, sweep_position
from launch.plan.search import search
from recipe.load import load_recipe

DATA = Path(__file__).parents[1] / "data"
OURS = (DATA / "parallelism_measurements.csv", DATA / "published_step_times.csv")


def our_cases() -> list[Case]:
    return [case for path in OURS for case in load_cases(path)]


def line(s: Summary) -> str:
    memory = f"{100 * s.memory_mape_frac:.1f} % of {s.num_memory}" if s.num_memory else "-"
    return (
        f"{s.name:10s} n={s.num_time:3d}  time: mean {100 * s.time_mape_frac:5.1f} %  median {100 * s.time_median_frac:5.1f} %  "  # noqa: E501
        f"p90 {100 * s.time_p90_frac:5.1f} %  bias {100 * s.time_bias_frac:+5.1f} %  memory {memory:14s}  "
        f"tau {s.kendall_tau:5.2f}  called out of memory {s.num_called_out_of_memory}, "
        f"fitting though it wasn't {s.num_called_fitting}"
    )


def by_family(predictions: list[Prediction]) -> None:
    for family in sorted({one.case.family for one in predictions}):
        print(line(summarise(family, [one for one in predictions if one.case.family == family])))
    print(line(summarise("all", predictions)))


def by_row(predictions: list[Prediction]) -> None:
    for one in predictions:
        time = f"{100 * one.time_error:+6.1f} %" if one.time_error is not None else "      -"
        memory = f"{100 * one.memory_error:+6.1f} %" if one.memory_error is not None else "      -"
        died = " (ran out of memory)" if one.case.ran_out_of_memory else ""
        print(
            f"{one.case.row:>3s} {one.case.family} {one.case.model:14s} {one.layouts.label():44s} time {time}  memory {memory}  {one.verdict}{died}"  # noqa: E501
        )


def unseen(cases: list[Case]) -> list[Prediction]:
    """Every family by a calibration that was fitted on other families only."""
    ours = our_cases()
    found = []
    for family in sorted({case.family for case in cases}):
        calibration = leave_out(ours, family)
        found += [predict(case, calibration) for case in cases if case.family == family]
    return found


def search_s(name: str, num_gpus: int) -> float:
    """CPU seconds of a whole search; 405b: Llama-3's shape on the 70b preset."""
    preset, changes = name, []
    if name == "405b":
        preset = "70b"
        changes = ["model.num_layers=126", "model.hidden_size=16384", "model.ffn_hidden_size=53248", "model.num_heads=128"]
    config = load_recipe(preset, [*changes, *(["parallel.vp=1", "parallel.pp=1"] if changes else [])])
    problem = problem_of(config, gpu="h100", num_gpus=num_gpus, engine="windtunnel", global_seqs=2048 if changes else 0)
    start = time.process_time()
    search(problem, default_calibration())
    return time.process_time() - start


def main() -> None:
    if "--save" in sys.argv:
        fit(our_cases()).save(Path(sys.argv[sys.argv.index("--save") + 1]))
        return
    cases, skipped = read_cases(Path(sys.argv[1]))
    for reason in skipped:
        print(f"skipped: {reason}")
    calibration = default_calibration()
    predictions = [predict(case, calibration) for case in cases]
    by_row(predictions)
    print("\nshipped calibration")
    by_family(predictions)
    print("\neach family left out of the fit")
    by_family(unseen(cases))
    places = [sweep_position(case, calibration) for case in cases if "best of a sweep" in case.notes[0].lower()]
    if places:
        top = sum(place <= 5 for place, _ in places)
        slower = sum(ratio > 1 for _, ratio in places)
        print(f"\nbest of a sweep: published (tp, pp, dp, mbs) in the planner's top five in {top} of {len(places)}; "
              f"the planner's own choice predicted slower than it in {slower}")  # fmt: skip
    print(f"searching every layout on one core: {search_s('xmodel2-1.2b', 8):.2f} s for 1.2B on 8 H100, "
          f"{search_s('405b', 4096):.2f} s for 405B on 4,096")  # fmt: skip
    experts = "skipped, see above" if any("experts" in reason for reason in skipped) else "none in this file"
    print(f"{len(cases)} rows scored, {len(skipped)} skipped; mixture-of-experts rows: {experts}")


if __name__ == "__main__":
    main()
