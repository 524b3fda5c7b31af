"""The planner's word on a run that is there: `RUN/plan.json`, for the report to hold against what was measured."""

from typing import Any

from launch.cluster import Site
from launch.plan.answer import candidate_json, default_calibration, device_of_site, parse_layout, problem_of
from launch.plan.errors import PlanError
from launch.plan.search import price
from recipe.prepare import load_resolved
from recipe.rundir import RunDir, read_json, write_json

CPU = "cpu-node"


def predict(run: RunDir, *, gpu: str = "") -> dict[str, Any] | None:
    """Prices the run's own layout and writes RUN/plan.json; None where the device isn't known.

    Args:
        gpu: A name or file of `windtunnel plan`; absent, the site's device, or this machine's cores for a CPU run.
    """
    resolved = load_resolved(run)
    config, layout = resolved.config, resolved.layout
    device: Any = gpu or _device(run, num_gpus=layout.world_size)
    if not device:
        return None
    problem = problem_of(config, gpu=device, num_gpus=layout.world_size, engine="windtunnel")
    keys = ("tp", "pp", "vp", "cp", "dp", "sp", "zero", "recompute")
    degrees = {key: getattr(layout, key) for key in keys}
    degrees |= {"mbs": config.batch.micro_seqs, "offload": layout.offload_optimizer}
    one = parse_layout("", defaults=degrees, num_gpus=layout.world_size, global_seqs=problem.global_seqs)
    candidate = price(problem, one, default_calibration())[0]
    answer = candidate_json(candidate, problem, stages=False) | {"device": problem.cluster.hardware.name}
    write_json(run.plan, answer)
    return answer


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
