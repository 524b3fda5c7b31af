"""Many commands as one array of jobs: the trials of a sweep or of a mixture study, only those that haven't succeeded.

    submit_array(Path("studies/lr"), [["trial", "0"], ["trial", "1"]], site=load_site("h100"), name="trials")

The folder gets what a run directory has (`jobs/`, `code/`), so `windtunnel status`, `logs`, `cancel` and `resume` take it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.atomic import write_json
from launch.cluster import Site
from launch.slurm import client
from launch.slurm.chain import Link
from launch.slurm.record import ChainRecord, LinkRecord, load_chain
from launch.slurm.render import Place, file_name, render
from launch.slurm.submit import refuse_faults, refuse_live, submit_links, undone_tasks, write_jobs
from recipe.rundir import RunDir


def submit_array(
    folder: Path, commands: Sequence[Sequence[str]], *, site: Site, name: str, purpose: str = "trials of a study",
    at_once: int | None = None, device: bool = True, data_dir: Path = Path("data"),
) -> list[int]:
    """Submits one array with a task for each command that has no record of success; returns the tasks' numbers.

    Called again with more commands (the first ones unchanged), it submits the new and the failed ones. A task's end is
    `jobs/<name>.<task>.exit.json`; `tasks_left` reads them.

    Args:
        folder: Of the study.
        commands: Each the arguments of `windtunnel`; a task's number is its place here.
        site: Where they run.
        name: Of the job and its files.
        purpose: A line for people.
        at_once: Tasks that run at the same time; the site's `array_limit` where None.
        device: Each needs a node's accelerators; otherwise cores only, on the site's `cpu_partition`.
        data_dir: What a container must see besides the folder.

    Raises:
        ClusterError: The site doesn't fit the cluster, or the array is still on its way.
        SlurmError: SLURM doesn't answer, or refuses.
    """
    run = RunDir(folder.absolute())
    before = load_chain(run)
    if before is not None:
        refuse_live(run, before)
    file = run.jobs / f"{name}.commands.json"
    link = Link(name=name, purpose=purpose, arguments=(f"@{file}",), num_tasks=len(commands), device=device)
    place = Place(
        run_dir=run.root, folder=Path.cwd(), data_dir=data_dir.absolute(), python=site.python or sys.executable, num_nodes=1,
        min_nodes=1,
    )
    limited = site if at_once is None else site.model_copy(update={"array_limit": at_once})
    files = {file_name(link): render(link, site=limited, place=place)}
    refuse_faults(site, files, num_nodes=1, partitions=client.partitions())
    jobs = [job for old in before.links if old.name == name for job in old.jobs] if before else []
    record = LinkRecord.of(link, jobs=jobs)
    chain = ChainRecord(site=site.name, recipe="", data_dir=str(place.data_dir), links=[record])
    left = undone_tasks(run, record)
    if left:
        write_json(file, [list(command) for command in commands])
        write_jobs(run, chain, site=site, files=files)
        submit_links(run, chain)
    return left


def tasks_left(folder: Path, *, name: str, num_tasks: int) -> list[int]:
    """Tasks that have no record of success (waiting, running or failed)."""
    link = Link(name=name, purpose="", num_tasks=num_tasks)
    return undone_tasks(RunDir(folder.absolute()), LinkRecord.of(link))
