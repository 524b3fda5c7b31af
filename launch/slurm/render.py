"""sbatch files: text from typed facts, every line explained. Pure; golden files hold it in the tests.

The batch script does little: the environment, then one program in its place (`exec`, so that SLURM's signals to the
script reach the program). What it takes to run it again stands in the file: `sbatch FILE` is a new submission.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from launch.cluster import Site
from launch.slurm.chain import Link
from launch.slurm.step import container


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a chain runs.

    Attributes:
        run_dir: Absolute.
        folder: Directory of the submission, which relative paths in the recipe start from.
        data_dir: Absolute.
        python: Interpreter of the jobs themselves.
        num_nodes: Of a training job.
        min_nodes: As few nodes as it may go on with.
    """

    run_dir: Path
    folder: Path
    data_dir: Path
    python: str
    num_nodes: int
    min_nodes: int

    @property
    def visible(self) -> tuple[Path, ...]:
        """Directories that a container must see."""
        return tuple(sorted({self.run_dir, self.folder, self.data_dir}))


def job_name(link: Link, place: Place) -> str:
    return f"wt-{place.run_dir.name}-{link.name}"


def file_name(link: Link) -> str:
    return f"{link.name}.sbatch"


def render(link: Link, *, site: Site, place: Place) -> str:
    """The sbatch file of one link."""
    path = place.run_dir / "jobs" / file_name(link)
    options = [*_common(link, site, place), *(_training(site, place) if link.train else _step(link, site))]
    options += [(name, _value(value), "from the site file (extra)") for name, value in site.extra.items()]
    width = max(len(_option(name, value)) for name, value, _ in options)
    return "\n".join([
        "#!/bin/bash",
        f"# Windtunnel, run {place.run_dir.name}, link {link.name}: {link.purpose}.",
        f"# Written by `windtunnel submit`; a new submission of just this link: sbatch {shlex.quote(str(path))}",
        *(f"{_option(name, value):<{width}}  # {why}" for name, value, why in options),
        "",
        *_body(link, site, place),
        "",
    ])


def _option(name: str, value: str | None) -> str:
    return f"#SBATCH --{name}" if value is None else f"#SBATCH --{name}={value}"


def _value(value: str | int | bool) -> str | None:
    return None if value is True else str(value)


def _common(link: Link, site: Site, place: Place) -> list[tuple[str, str | None, str]]:
    run = place.run_dir
    partition = site.partition if link.device else site.cpu_partition or site.partition
    log = run / "jobs" / (f"{link.name}-%A_%a.log" if link.num_tasks else f"{link.name}-%j.log")
    options: list[tuple[str, str | None, str]] = [
        ("job-name", job_name(link, place), "as squeue shows it"),
        ("partition", partition, "where it runs"),
    ]
    for name, value in (("account", site.account), ("qos", site.qos), ("reservation", site.reservation)):
        if value:
            options.append((name, value, "as the site wants it"))
    if site.constraint and link.device:
        options.append(("constraint", site.constraint, "only nodes with this feature"))
    options += [
        ("chdir", str(place.folder), "relative paths in the recipe start here"),
        ("output", str(log), "what the batch script says, stderr too"),
        ("open-mode", "append", "a requeued job goes on in the same log"),
        ("export", "ALL", "NONE would hide from srun what this script exports"),
    ]
    return options


def _training(site: Site, place: Place) -> list[tuple[str, str | None, str]]:
    tasks = site.processes_per_node
    if place.min_nodes < place.num_nodes:  # told of tasks, SLURM would ask for as many again after a loss, and so for all nodes
        size = [
            ("nodes", f"{place.min_nodes}-{place.num_nodes}", "fewer after a loss; the global batch stays"),
            ("mincpus", str(tasks * site.cpus_per_process), "cores of each node, for one process per accelerator"),
        ]
    else:
        size = [
            ("nodes", str(place.num_nodes), "all of them, also after a loss"),
            ("ntasks-per-node", str(tasks), "one process per accelerator"),
            ("cpus-per-task", str(site.cpus_per_process), "cores of each process"),
        ]
    return [
        *size,
        *_whole_node(site),
        ("time", _time(site.time_limit), "days-hours:minutes:seconds; the job requeues itself and goes on"),
        ("signal", f"B:USR1@{round(site.leave_before)}", "so many seconds before the limit: write a checkpoint and leave"),
        ("requeue", None, "may be started again, by us and after a node's loss"),
    ]


def _step(link: Link, site: Site) -> list[tuple[str, str | None, str]]:
    options: list[tuple[str, str | None, str]] = [("nodes", "1", "one machine"), ("ntasks", "1", "one process")]
    options.append(("cpus-per-task", str(_step_cpus(link, site)), "its cores"))
    if link.device:
        options += _whole_node(site)
    options += [
        ("time", _time(site.time_limit if link.device else site.cpu_time_limit), "days-hours:minutes:seconds"),
        ("requeue", None, "what it does can be done again, and only what is missing is"),
    ]
    if link.num_tasks:
        array = f"0-{link.num_tasks - 1}%{site.array_limit}"
        options.insert(0, ("array", array, "each task takes its share; so many at once after the %"))
    return options


def _step_cpus(link: Link, site: Site) -> int:
    return site.cpus_per_process * (site.processes_per_node if link.device else 1)


def _whole_node(site: Site) -> list[tuple[str, str | None, str]]:
    options: list[tuple[str, str | None, str]] = []
    if site.gres:
        options.append(("gres", site.gres, "accelerators of each node"))
    if site.memory_per_node:
        options.append(("mem", f"{site.memory_per_node // 2**20}M", "memory of each node"))
    if site.exclusive:
        options.append(("exclusive", None, "whole nodes"))
    return options


def _time(seconds: float) -> str:
    """SLURM counts in whole minutes, rounding up: 5400.0 → 0-01:30:00."""
    minutes = -(-round(seconds) // 60)
    return f"{minutes // 1440}-{minutes // 60 % 24:02d}:{minutes % 60:02d}:00"


def _body(link: Link, site: Site, place: Place) -> list[str]:
    run = place.run_dir
    lines = ["set -euo pipefail  # a failed line ends the job: nothing runs in half an environment"]
    if link.train:
        lines.append("trap '' USR1  # until the program below listens: the signal's default would kill this script")
    lines += _titled("# The site file's setup:", site.setup)
    if site.modules:
        lines.append("module purge  # not what the submitting shell had loaded")
        lines.append(f"module load {shlex.join(site.modules)}  # the site's")
    exports = [f"export {name}={shlex.quote(value)}" for name, value in sorted(site.environment.items())]
    lines += _titled("# The site file's environment, for every program of this job:", exports)
    code = shlex.quote(str(run / "code" / "src"))
    lines += [
        f"export OMP_NUM_THREADS={site.cpus_per_process}  # threads of each process: its own cores",
        f"export PYTHONPATH={code}  # the code as it was at submission: editing the checkout changes nothing here",
        "export PYTHONSAFEPATH=1  # and not what lies in the current folder",
        "unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT  # srun's tasks get theirs from SLURM's variables",
        "unset ${!SBATCH_@}  # the submitting shell's wishes for its own jobs",
    ]
    if link.train:
        lines.append("# Supervises from the first node: health check, one srun step of all ranks, then done, requeue or stop.")
        program = ["launch.slurm.job", str(run), link.name]
    else:
        lines.append("# Runs the command below and records how it ended, for `windtunnel status`.")
        program = ["launch.slurm.link", str(run), link.name, *link.arguments]
    start, python = [], place.python
    if site.container and not link.train:  # the supervisor stays outside: it calls srun, which starts the ranks inside
        flags, prefix, python = container(site, visible=place.visible, python=place.python)
        cpus = f"--cpus-per-task={_step_cpus(link, site)}"  # srun takes it from the job only before SLURM 22.05
        start = ["srun", "--ntasks=1", cpus, "--export=ALL", *flags, *prefix]
    return [*lines, f"exec {shlex.join([*start, python, '-u', '-m', *program])}"]


def _titled(title: str, lines: list[str]) -> list[str]:
    return [title, *lines] if lines else []
