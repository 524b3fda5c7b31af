"""The planner's word on a run that is there, for the report to hold against what was measured.

RUN/plan.json: the run's own layout; RUN/plan/: the ranking of all layouts, with pictures.
"""

from typing import Any

from launch.cluster import Site
from launch.plan.answer import candidate_json, default_calibration, device_of_site, parse_layout, plan_json, problem_of
from launch.plan.errors import PlanError
from launch.plan.pictures import save
from launch.plan.recipe import Prices
from launch.plan.search import Candidate, Problem, price, search
from recipe.prepare import load_resolved
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir, read_json, write_json

CPU = "cpu-node"


def predict(run: RunDir, *, gpu: str = "") -> dict[str, Any] | None:
    """Prices the run's own layout and writes RUN/plan.json, then draws RUN/plan/ where nobody has; None: unknown device.

    Args:
        run: A run directory.
        gpu: A name or file of `windtunnel plan`; absent, the site's device, or this machine's cores for a CPU run.

    Raises:
        PlanError: No such device; or no layout fits it (the run's own is priced all the same).
    """
    resolved = load_resolved(run)
    num_gpus = resolved.layout.world_size
    device: Any = gpu or _device(run, num_gpus=num_gpus)
    if not device:
        return None
    problem = problem_of(resolved.config, gpu=device, num_gpus=num_gpus, engine="windtunnel")
    own = _own(resolved, problem)
    answer = candidate_json(own, problem, stages=False) | {"device": problem.cluster.hardware.name}
    write_json(run.plan, answer)
    if gpu or not run.whole_plan.is_file():
        calibration = default_calibration()
        found = search(problem, calibration)
        whole = plan_json(found, resolved.config, recipe=str(run.recipe), calibration=calibration, prices=Prices())
        save(whole, found, calibration, out=run.whole_plan.parent, of=own)
    return answer


def _own(resolved: ResolvedRun, problem: Problem) -> Candidate:
    """The run's layout, priced."""
    layout = resolved.layout
    keys = ("tp", "pp", "vp", "cp", "dp", "sp", "zero", "recompute")
    degrees = {key: getattr(layout, key) for key in keys}
    degrees |= {"mbs": resolved.config.batch.micro_seqs, "offload": layout.offload_optimizer}
    one = parse_layout("", defaults=degrees, num_gpus=layout.world_size, global_seqs=problem.global_seqs)
    return price(problem, one, default_calibration())[0]


def _device(run: RunDir, *, num_gpus: int) -> Any:
    """The site's, where the run was submitted; a CPU's, where its torch knows no other."""
    site_file = run.jobs / "site.json"
    if site_file.is_file():
        site = Site.model_validate(read_json(site_file))
        if site.accelerator == "cpu":
            return CPU
        try:
            return device_of_site(str(site_file), num_gpus=num_gpus) if site.gpu else ""
        except PlanError:
            return ""
    return CPU if run.versions.is_file() and "+cpu" in read_json(run.versions).get("torch", "") else ""
