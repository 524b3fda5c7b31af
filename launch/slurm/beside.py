"""A job beside a submitted run: `windtunnel eval RUN --follow --submit` evaluates checkpoints while training goes on.

It is no link of the chain: nothing waits for it, and its end changes nothing for the run.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from launch.cluster import LOCAL, Site
from launch.errors import ClusterError
from launch.slurm import client
from launch.slurm.chain import Link
from launch.slurm.record import load_chain
from launch.slurm.render import Place, file_name, render
from launch.slurm.submit import refuse_faults
from recipe.rundir import RunDir, read_json, write_text

NAME = "eval-beside"


def beside(run: RunDir, arguments: Sequence[str]) -> tuple[Link, Site, str]:
    """The job that runs `windtunnel ARGUMENTS` on the run's site: link, site and sbatch text. Writes nothing.

    Raises:
        ClusterError: The run wasn't submitted to a cluster.
    """
    chain = load_chain(run)
    if chain is None or chain.site == LOCAL:
        raise ClusterError(f"{run.root}: was not submitted to a cluster, so there is no site to submit to; leave out --submit")
    site = Site.model_validate(read_json(run.jobs / "site.json"))
    place = Place(
        run_dir=run.root.absolute(), folder=Path.cwd(), data_dir=Path(chain.data_dir), python=site.python or sys.executable,
        num_nodes=1, min_nodes=1,
    )
    link = Link(name=NAME, purpose="evaluates checkpoints beside the run", arguments=tuple(arguments), device=True)
    return link, site, render(link, site=site, place=place)


def submit_beside(run: RunDir, arguments: Sequence[str]) -> str:
    """Submits it and returns the job's id; raises `ClusterError` for what SLURM would refuse late."""
    link, site, text = beside(run, arguments)
    path = run.jobs / file_name(link)
    refuse_faults(site, {path.name: text}, num_nodes=1, partitions=client.partitions())
    write_text(path, text)
    return client.sbatch(str(path))
