"""From a recipe and a site to submitted jobs: plan (pure but for reading), check, write the files, submit in order."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from launch.cluster import Site
from launch.errors import ClusterError, SlurmError
from launch.slurm import client
from launch.slurm.chain import Link, Request, Until, build_chain
from launch.slurm.check import cluster_faults, extra_faults, script_faults
from launch.slurm.record import ChainRecord, LinkRecord, load_chain, read_end, save_chain
from launch.slurm.render import Place, file_name, render
from launch.slurm.snapshot import snapshot_code
from recipe.branch import branch_points
from recipe.config import RunConfig
from recipe.resolve import ResolvedRun, resolve
from recipe.rundir import RunDir, write_json, write_text


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What would be submitted; nothing is written yet."""

    run: RunDir
    config: RunConfig
    site: Site
    request: Request
    place: Place
    links: list[Link]

    @property
    def files(self) -> dict[str, str]:
        """File name → text, in the order of submission."""
        return {file_name(link): render(link, site=self.site, place=self.place) for link in self.links}


def plan_submission(
    config: RunConfig, *, site: Site, run_dir: Path, data_dir: Path, num_nodes: int, min_nodes: int | None = None,
    branches: dict[str, int] | None = None, until: Until = "report",
) -> Submission:
    """Raises `ConfigError` for a layout that doesn't fit the nodes, `ClusterError` for a run that was submitted before."""
    run = RunDir(run_dir.absolute())
    if load_chain(run) is not None:
        raise ClusterError(f"{run_dir}: submitted before; `windtunnel resume {run_dir}` goes on, or choose another --run-dir")
    if run.config.exists():
        raise ClusterError(f"{run_dir}: a run is there already; --run-dir names another place")
    resolved = resolve(config, world_size=num_nodes * site.processes_per_node)
    if min_nodes is not None:
        resolve(config, world_size=min_nodes * site.processes_per_node)
    for at_tokens in (branches or {}).values():
        _check_branch(resolved, at_tokens)
    has_tokenizer, num_missing = _data_state(config, data_dir)
    request = Request(
        recipe=run.jobs / "recipe.yaml", run_dir=run.root, data_dir=data_dir.absolute(), has_tokenizer=has_tokenizer,
        num_missing_shards=num_missing, branches=branches or {}, until=until,
    )
    place = Place(
        run_dir=run.root, folder=Path.cwd(), data_dir=request.data_dir, num_nodes=num_nodes,
        python=site.python or sys.executable,
        min_nodes=num_nodes if min_nodes is None else min_nodes,
    )
    return Submission(run=run, config=config, site=site, request=request, place=place, links=build_chain(request))


def _check_branch(resolved: ResolvedRun, at_tokens: int) -> None:
    """Raises `ClusterError` where no checkpoint will be left to branch from: known now, not after weeks of training."""
    last_tokens = resolved.stages[-1].start_tokens
    if at_tokens > last_tokens:
        raise ClusterError(f"--decay-at {at_tokens}: no stage follows; the last one starts at {last_tokens} tokens")
    points = branch_points(resolved)
    landing = next(
        (tokens for step in range(resolved.num_steps + 1) if (tokens := resolved.tokens_before(step)) >= at_tokens), None
    )
    if landing not in points:
        near = ", ".join(str(point) for point in sorted(sorted(points, key=lambda one: abs(one - at_tokens))[:2]))
        raise ClusterError(
            f"--decay-at {at_tokens}: no checkpoint is kept at {at_tokens} tokens; nearest: {near}; "
            "checkpoint.every_tokens and checkpoint.keep_every_tokens of the recipe say which are"
        )


def _data_state(config: RunConfig, data_dir: Path) -> tuple[bool, int | None]:
    """(the tokenizer is there, how many shards are missing: None when that can't be known yet)."""
    from recipe.data import data_status

    tokenizer, sources = data_status(config, data_dir=data_dir)
    if tokenizer is None:
        return False, sum(source.num_shards for source in sources)
    return True, sum(source.num_shards - source.num_done for source in sources)


def check(submission: Submission, partitions: dict[str, client.Partition] | None) -> None:
    """Raises `ClusterError` with everything that SLURM would refuse late or keep pending for ever.

    Args:
        partitions: From `client.partitions`; None where no cluster can be asked (a dry run elsewhere).
    """
    place = submission.place
    if not 1 <= place.min_nodes <= place.num_nodes:
        raise ClusterError(f"--min-nodes {place.min_nodes}: must be from 1 to --nodes {place.num_nodes}")
    refuse_faults(submission.site, submission.files, num_nodes=place.num_nodes, partitions=partitions)


def refuse_faults(
    site: Site, files: dict[str, str], *, num_nodes: int, partitions: dict[str, client.Partition] | None
) -> None:
    """Raises `ClusterError` naming every fault of a site's options, of sbatch files, and of what a cluster lacks."""
    found = extra_faults(site)
    for name, text in files.items():
        found += [f"{name}: {fault}" for fault in script_faults(text)]
    if partitions is not None:
        found += cluster_faults(site, num_nodes=num_nodes, partitions=partitions)
    if found:
        raise ClusterError("\n".join(found))


def check_dependency(job_id: str) -> None:
    """Raises `ClusterError` for a job that isn't known or can't succeed any more: SLURM would start us at once, or never."""
    try:
        state = client.show_job(job_id).get("JobState", "")
    except SlurmError as error:
        raise ClusterError(f"--after {job_id}: no such job ({error})") from error
    if state not in (*client.LIVE_STATES, "COMPLETED"):
        raise ClusterError(f"--after {job_id}: that job ended as {state}; what waits for its success would never start")


def write_files(submission: Submission) -> ChainRecord:
    """The run directory as far as submission fills it: recipe, and what `write_jobs` writes."""
    request = submission.request
    request.data_dir.mkdir(parents=True, exist_ok=True)  # containers mount it before the first link fills it
    recipe = yaml.safe_dump(submission.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(request.recipe, f"# The recipe as submitted: presets and overrides merged.\n{recipe}")
    chain = ChainRecord(
        site=submission.site.name, recipe=str(request.recipe), data_dir=str(request.data_dir), branches=request.branches,
        min_nodes=submission.place.min_nodes, links=[LinkRecord.of(link) for link in submission.links],
    )
    write_jobs(submission.run, chain, site=submission.site, files=submission.files)
    return chain


def write_jobs(run: RunDir, chain: ChainRecord, *, site: Site, files: dict[str, str]) -> None:
    """Code snapshot, site, sbatch files, and the chain's record, which makes it a submission."""
    snapshot_code(run)
    write_json(run.jobs / "site.json", site.model_dump(mode="json"))
    for name, text in files.items():
        write_text(run.jobs / name, text)
    save_chain(run, chain)


def live_links(chain: ChainRecord, *, leaving: bool = True) -> list[LinkRecord]:
    """Links whose jobs SLURM has waiting or running; `leaving`: or ended, with nodes that aren't free yet."""
    states = [state for state in client.LIVE_STATES if leaving or state != "COMPLETING"]
    live = {state.base_id for state in client.queue().values() if state.state in states}
    return [link for link in chain.links if link.job in live]


def refuse_live(run: RunDir, chain: ChainRecord) -> None:
    """Raises `ClusterError` for links that still wait or run; those that are ending are waited for."""
    _await_leaving(run, chain)
    if on_the_way := live_links(chain):
        named = ", ".join(f"{link.name} (job {link.job})" for link in on_the_way)
        raise ClusterError(f"{run.root}: still on its way: {named}; `windtunnel cancel {run.root}` ends that")


def _await_leaving(run: RunDir, chain: ChainRecord, *, timeout_s: float = 120.0) -> None:
    """Until jobs that are ending have left their nodes: a new attempt beside them would fence out their last checkpoint.

    Ending: SLURM says so, or all that the job had to do is on record and SLURM hasn't noticed yet.
    """
    over = {link.job for link in chain.links if link.job and _is_on_record(run, link)}
    jobs = {link.job for link in chain.links if link.job}
    deadline = time.monotonic() + timeout_s
    while any(
        (one.base_id in over and one.state in client.LIVE_STATES) or (one.base_id in jobs and one.state == "COMPLETING")
        for one in client.queue().values()  # it lists jobs that ended a while ago, too
    ):
        if time.monotonic() > deadline:
            return
        time.sleep(1.0)


def _is_on_record(run: RunDir, link: LinkRecord) -> bool:
    """Whether each task of a link's last job has said how it ended."""
    ends = [read_end(run, link.name, task) for task in (range(link.num_tasks) if link.num_tasks else [None])]
    return all(end is not None and (end.exit_code == 0 or end.job == link.job) for end in ends)


def submit_links(run: RunDir, chain: ChainRecord, *, after: tuple[str, ...] = ()) -> list[str]:
    """Submits every link that isn't done, in order; all or none. Returns their names.

    A link waits for those of its predecessors that are submitted now; the first ones for `after`.
    """
    submitted: dict[str, str] = {}
    try:
        for link in chain.links:
            if is_done(run, link):
                continue
            path = run.jobs / f"{link.name}.sbatch"
            if wrong := script_faults(path.read_bytes().decode("utf-8")):
                raise ClusterError("\n".join(f"{path}: {fault}" for fault in wrong))  # read as bytes: \r must be seen
            before = tuple(submitted[name] for name in link.after if name in submitted)
            submitted[link.name] = client.sbatch(str(path), after=before or after, options=_missing_tasks(run, link))
    except BaseException:
        client.cancel(list(submitted.values()))
        raise
    for name, job in submitted.items():
        chain.link(name).jobs.append(job)
        chain.link(name).time = time.time()
    chain.cancelled = None
    save_chain(run, chain)
    return list(submitted)


def is_done(run: RunDir, link: LinkRecord) -> bool:
    """Whether a link has succeeded, by its own record of it."""
    if link.num_tasks:
        return not undone_tasks(run, link)
    end = read_end(run, link.name)
    return end is not None and end.exit_code == 0


def undone_tasks(run: RunDir, link: LinkRecord) -> list[int]:
    ends = ((task, read_end(run, link.name, task)) for task in range(link.num_tasks))
    return [task for task, end in ends if end is None or end.exit_code != 0]


def _missing_tasks(run: RunDir, link: LinkRecord) -> tuple[str, ...]:
    """Of an array that ran before, only the tasks that didn't succeed."""
    left = undone_tasks(run, link)
    if not link.num_tasks or len(left) == link.num_tasks:
        return ()
    return (f"--array={','.join(str(task) for task in left)}",)


def graph(links: list[Link]) -> str:
    """The dependencies, a line each."""
    width = max(len(link.name) for link in links)
    lines = []
    for link in links:
        array = f" [array of {link.num_tasks}]" if link.num_tasks else ""
        after = f" after {', '.join(link.after)}" if link.after else ""
        lines.append(f"{link.name:<{width}}  {link.purpose}{array}{after}")
    return "\n".join(lines)
