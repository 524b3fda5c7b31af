"""Scores the planner on published runs: `make bench-plan CSV=tests/data/parallelism_measurements.csv`.

Prints each row's errors, then a table by family: with the shipped calibration, and with the family left out of the fit.
`--save FILE` writes the fit of all rows (that is how launch/plan/calibrated.json was made).
"""

import sys
from pathlib import Path

from launch.plan.answer import default_calibration
from launch.plan.fit import fit, leave_one_family_out
from launch.plan.published import load_cases
from launch.plan.score import predict, summarise, sweep_position


def line(s) -> str:
    memory = f"{100 * s.memory_mape_frac:.1f} % of {s.num_memory}" if s.num_memory else "-"
    return (
        f"{s.name:10s} n={s.num_time:3d}  time: mean {100 * s.time_mape_frac:5.1f} %  median {100 * s.time_median_frac:5.1f} %  "  # noqa: E501
        f"p90 {100 * s.time_p90_frac:5.1f} %  bias {100 * s.time_bias_frac:+5.1f} %  memory {memory:14s}  "
        f"tau {s.kendall_tau:5.2f}  called out of memory {s.num_called_out_of_memory}"
    )


def by_family(predictions) -> None:
    for family in sorted({one.case.family for one in predictions}):
        print(line(summarise(family, [one for one in predictions if one.case.family == family])))
    print(line(summarise("all", predictions)))


def main() -> None:
    cases = load_cases(Path(sys.argv[1]))
    if "--save" in sys.argv:
        fit(cases).save(Path(sys.argv[sys.argv.index("--save") + 1]))
        return
    calibration = default_calibration()
    predictions = [predict(case, calibration) for case in cases]
    for one in predictions:
        time = f"{100 * one.time_error:+6.1f} %" if one.time_error is not None else "      -"
        memory = f"{100 * one.memory_error:+6.1f} %" if one.memory_error is not None else "      -"
        print(
            f"{one.case.row:>3s} {one.case.family} {one.case.model:14s} {one.layouts.label():44s} time {time}  memory {memory}  {one.verdict}"  # noqa: E501
        )
    print("\nshipped calibration")
    by_family(predictions)
    if len({case.family for case in cases}) > 1:
        print("\neach family left out of the fit")
        by_family([one for family in leave_one_family_out(cases).values() for one in family])
    sweeps = [case for case in cases if "best of a sweep" in case.notes[0]]
    places = [sweep_position(case, calibration)[0] for case in sweeps]
    if places:
        print(
            f"\nbest of a sweep: published (tp, pp) in the planner's top five in {sum(place <= 5 for place in places)} of {len(places)}"  # noqa: E501
        )


if __name__ == "__main__":
    main()
