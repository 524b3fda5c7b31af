"""A recipe's whole chain, on a cluster or here: the same links, the same records in the run directory.

On a cluster each link is a job that waits for those before it; here they run one after the other in this process.
"""

import os
import signal
import sys
import time
from difflib import get_close_matches
from pathlib import Path
from typing import cast, get_args

import yaml

from launch.cluster import LOCAL, Site, load_site
from launch.errors import ClusterError, LaunchError
from launch.local import default_processes, num_devices, train_here
from launch.slurm import client
from launch.slurm.chain import Until, branch_name
from launch.slurm.link import run_link
from launch.slurm.prepared import prepare_link
from launch.slurm.record import ChainRecord, load_chain, save_chain, write_end
from launch.slurm.submit import (
    Submission,
    check,
    check_dependency,
    graph,
    is_done,
    live_links,
    plan_submission,
    refuse_live,
    submit_links,
    undone_tasks,
    write_files,
)
from launch.supervise.attempts import running_here
from launch.supervise.outcome import describe_exit
from recipe.config import RunConfig
from recipe.rundir import RunDir, read_json
from recipe.units import parse_tokens


def settings_of(pairs: list[str]) -> dict[str, object]:
    """Site settings from `key=value` pairs; raises `ClusterError` naming the nearest key."""
    settings: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ClusterError(f"--set {pair!r}: write it as key=value")
        if key.split(".")[0] not in Site.model_fields:
            close = get_close_matches(key, Site.model_fields, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ClusterError(f"--set {key}: no such key of a site; {hint}valid: {', '.join(Site.model_fields)}")
        node, parts = settings, key.split(".")
        for part in parts[:-1]:
            node = node.setdefault(part, {})  # type: ignore[assignment]
        node[parts[-1]] = yaml.safe_load(text)
    return settings


def submission_of(
    config: RunConfig, *, cluster: str, settings: dict[str, object], run_dir: Path, data_dir: Path, num_nodes: int,
    min_nodes: int | None, decay_at: list[str], until: str,
) -> Submission:
    """The submission that a command line asks for; nothing is written."""
    if until not in get_args(Until):
        raise ClusterError(f"--until {until}: must be one of {', '.join(get_args(Until))}")
    site = _this_machine(config, settings) if cluster == LOCAL else load_site(cluster, settings)
    return plan_submission(
        config, site=site, run_dir=run_dir, data_dir=data_dir, num_nodes=num_nodes, min_nodes=min_nodes,
        until=cast(Until, until),
        branches={branch_name(parse_tokens(text)): parse_tokens(text) for text in decay_at},
    )


def _this_machine(config: RunConfig, settings: dict[str, object]) -> Site:
    parallel = config.parallel
    known = {
        "name": LOCAL, "partition": LOCAL, "time_limit": 7 * 86400.0, "array_limit": 1, "exclusive": True,
        "accelerator": "cuda" if num_devices() else "cpu",
        "processes_per_node": default_processes(parallel.tp * parallel.pp * parallel.cp),
    }
    return Site.model_validate(known | settings)


def run_submission(submission: Submission, *, after: str = "", dry_run: bool = False) -> int:
    """Shows it, or checks, writes and submits it (or runs it here); returns the exit code."""
    local = submission.site.name == LOCAL
    if dry_run:
        check(submission, None)
        for name, text in submission.files.items():
            print(f"=== {submission.run.jobs / name}\n{text}")
        print(graph(submission.links))
        return 0
    if local:
        check(submission, None)
        write_files(submission)
        return run_here(submission.run)
    if after:
        check_dependency(after)
    check(submission, client.partitions())
    chain = write_files(submission)
    submit_links(submission.run, chain, after=(after,) if after else ())
    _show_jobs(submission.run, chain)
    return 0


def resume_chain(run: RunDir) -> int:
    """Submits what isn't done of a chain, or goes on with it here; raises `ClusterError` when it is still on its way."""
    chain = load_chain(run)
    if chain is None:
        raise ClusterError(f"{run.root}: no chain was submitted for this run")
    if chain.site == LOCAL:
        return run_here(run)
    refuse_live(run, chain)
    if not submit_links(run, chain):
        print(f"{run.root}: nothing is left to do", file=sys.stderr)
    _show_jobs(run, chain)
    return 0


def _show_jobs(run: RunDir, chain: ChainRecord) -> None:
    for link in chain.links:
        state = "done" if is_done(run, link) else f"job {link.job}"
        print(f"{link.name:<12} {state:<12} {link.purpose}")
    here = Path.cwd()
    root = run.root.relative_to(here) if run.root.is_relative_to(here) else run.root
    print(f"watch it with: windtunnel status {root}", file=sys.stderr)


def run_here(run: RunDir) -> int:
    """The links that aren't done, one after the other; stops at the first that fails and says which."""
    chain = load_chain(run)
    assert chain is not None
    for link in chain.links:
        if is_done(run, link):
            continue
        print(f"--- {link.name}: {link.purpose}", file=sys.stderr)
        if link.train:
            code = _train_link(run, chain, link.name, link.train)
        elif link.num_tasks:
            code = max(run_link(run, link.name, link.arguments, job=LOCAL, task=task) for task in undone_tasks(run, link))
        else:
            code = run_link(run, link.name, link.arguments, job=LOCAL)
        if code != 0:
            again = f"windtunnel resume {run.root}"
            print(f"{run.root}: {link.name} ended with exit code {code}; go on with: {again}", file=sys.stderr)
            return code
    return 0


def _train_link(run: RunDir, chain: ChainRecord, name: str, train: str) -> int:
    site = Site.model_validate(read_json(run.jobs / "site.json"))
    target = RunDir((run.root / train).resolve())
    prepare_link(run, chain, train, world_size=site.processes_per_node)
    code = train_here(target, num_processes=site.processes_per_node)
    write_end(run, name, job=LOCAL, exit_code=code, reason=describe_exit(code))
    return code


def cancel_run(run: RunDir) -> None:
    """Ends a run's jobs, or its training on this machine; raises `LaunchError` where nothing is on its way."""
    chain = load_chain(run)
    if chain is not None and chain.site != LOCAL:
        jobs = [link.job for link in live_links(chain, leaving=False) if link.job]
        if not jobs:
            raise LaunchError(f"{run.root}: none of its jobs is queued or running")
        chain.cancelled = time.time()
        save_chain(run, chain)
        client.cancel(jobs)
        print(f"{run.root}: cancelled {', '.join(f'job {job}' for job in jobs)}", file=sys.stderr)
        return
    start = next((start for one in (run, *run.branch_dirs()) if (start := running_here(one)) is not None), None)
    if start is None:
        raise LaunchError(f"{run.root}: nothing of this run is running on this machine")
    os.kill(start.pid, signal.SIGTERM)
    print(f"{run.root}: asked process {start.pid} for a checkpoint and to leave", file=sys.stderr)
