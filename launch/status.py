"""How runs stand: from their own records, and from SLURM where a run has jobs there. Right while jobs wait, run, requeue.

A run's records outlive what SLURM remembers (minutes, without a database), so they are asked first for what has ended;
the queue is asked for what has not. When the controller doesn't answer, that is said, and the records still are shown.
"""

import statistics
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from launch.errors import SlurmError
from launch.slurm import client
from launch.slurm.client import JobState
from launch.slurm.record import ChainRecord, LinkRecord, load_chain, read_end
from launch.slurm.submit import is_done, undone_tasks
from launch.supervise.attempts import attempts_of, running_here
from recipe.exits import FINISHED, REQUEUE
from recipe.prepare import load_resolved
from recipe.rundir import RunDir, read_jsonl

RATE_STEPS = 20  # over which the rate is taken
_OVER = {
    "TIMEOUT": "ended by its time limit", "NODE_FAIL": "lost its node", "PREEMPTED": "preempted",
    "OUT_OF_MEMORY": "out of memory", "BOOT_FAIL": "its node didn't boot", "DEADLINE": "missed its deadline",
    "FAILED": "failed", "CANCELLED": "cancelled", "COMPLETED": "ended",
}


@dataclass(kw_only=True)
class LinkStatus:
    name: str
    state: str
    """done, failed, cancelled, running, queued, waiting, blocked, requeued, lost, unknown, submitted."""
    detail: str = ""
    job: str | None = None


@dataclass(kw_only=True)
class AttemptStatus:
    number: int
    job: str
    nodes: str
    state: str
    reason: str
    step: int | None
    time: float | None


@dataclass(kw_only=True)
class RunStatus:
    path: str
    state: str
    detail: str
    stage: str | None = None
    step: int = 0
    """Steps done."""
    num_steps: int | None = None
    tokens: int = 0
    total_tokens: int | None = None
    loss: float | None = None
    tokens_per_s: float | None = None
    left_s: float | None = None
    attempts: list[AttemptStatus] = field(default_factory=list)
    links: list[LinkStatus] = field(default_factory=list)
    branches: list["RunStatus"] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Slurm:
    """What SLURM says of this user's jobs, asked once for all runs."""

    jobs: dict[str, JobState]
    error: str = ""

    @classmethod
    def ask(cls, job_ids: list[str]) -> "Slurm":
        """Accounting first, the queue over it: the queue is the fresher of the two."""
        if not job_ids:
            return cls({})
        try:
            queued = client.queue()
        except SlurmError as error:
            return cls(client.accounting(job_ids) or {}, str(error))
        return cls((client.accounting(job_ids) or {}) | queued)

    def add_positions(self, jobs: list[str]) -> None:
        """Places in the queue of those of these jobs that wait for nodes; some questions to SLURM each, so for single runs."""
        for job in (self.jobs[one] for one in jobs if one in self.jobs):
            if job.state == "PENDING" and job.reason not in ("Dependency", "DependencyNeverSatisfied"):
                with suppress(SlurmError):  # the controller may be away since the first question
                    order = client.pending_order(job.job_id)
                    if job.job_id in order:
                        self.jobs[job.job_id] = replace(job, position=order.index(job.job_id) + 1)

    def of(self, job: str) -> list[JobState]:
        """The job, or the tasks of the array."""
        return [state for state in self.jobs.values() if state.base_id == job]


def find_runs(root: Path) -> list[RunDir]:
    """Run directories right below a folder."""
    return [RunDir(path) for path in sorted(root.glob("*")) if (path / "config").is_dir() or (path / "jobs").is_dir()]


def statuses(runs: list[RunDir]) -> list[RunStatus]:
    """Of many runs, with one question to SLURM."""
    chains = [load_chain(run) for run in runs]
    jobs = [job for chain in chains if chain for link in chain.links for job in link.jobs[-1:]]
    slurm = Slurm.ask([job for job in jobs if job.isdigit()])
    if len(runs) == 1:
        slurm.add_positions(jobs)
    return [run_status(run, chain, slurm) for run, chain in zip(runs, chains, strict=True)]


def run_status(run: RunDir, chain: ChainRecord | None, slurm: Slurm) -> RunStatus:
    links = [link_status(run, chain, link, slurm) for link in chain.links] if chain else []
    state, detail = _chain_state(run, chain, links) if chain else _local_state(run)
    if slurm.error and chain and state not in ("finished", "failed", "cancelled"):
        detail = f"{detail}; SLURM doesn't answer: {slurm.error}".removeprefix("; ")
    status = RunStatus(path=str(run.root), state=state, detail=detail, links=links, attempts=_attempts(run))
    _add_progress(run, status, live=state == "running")
    for branch in run.branch_dirs():
        status.branches.append(_branch_status(branch, chain, links, slurm))
    return status


def _branch_status(branch: RunDir, chain: ChainRecord | None, links: list[LinkStatus], slurm: Slurm) -> RunStatus:
    """A branch that is a link of its run's chain is in that link's state while it isn't done."""
    status = run_status(branch, None, slurm)
    trains = {link.train: link.name for link in chain.links} if chain else {}
    name = trains.get(f"branches/{branch.name}")
    link = next((one for one in links if one.name == name), None)
    if link is not None and link.state != "done":
        status.state, status.detail = link.state, link.detail
        _add_progress(branch, status, live=link.state == "running")
    return status


def _attempts(run: RunDir) -> list[AttemptStatus]:
    found = []
    for attempt in attempts_of(run):
        start, end = attempt.started(), attempt.ended()
        found.append(
            AttemptStatus(
                number=attempt.number, job=attempt.job, nodes=",".join(start.nodes) if start else "",
                state="open" if end is None else str(end.exit_code if end.exit_code is not None else "lost"),
                reason=end.reason if end else "", step=end.step if end else None, time=end.time if end else None,
            )
        )
    return found


def _local_state(run: RunDir) -> tuple[str, str]:
    """Of a run without a chain: what its newest attempt says."""
    if running_here(run) is not None:
        return "running", ""
    attempts = attempts_of(run)
    if not attempts:
        return "prepared", "not started"
    end = attempts[-1].ended()
    if end is None:
        start = attempts[-1].started()
        where = f"on {start.host} in job {start.job}" if start else ""
        return "open", f"attempt {attempts[-1].number} began {where} and has not ended, or was lost"
    states: dict[int | None, str] = {FINISHED: "finished", REQUEUE: "stopped"}
    return states.get(end.exit_code, "failed"), end.reason


def _chain_state(run: RunDir, chain: ChainRecord, links: list[LinkStatus]) -> tuple[str, str]:
    """The run's state is that of the first link that isn't done."""
    left = [link for link in links if link.state != "done"]
    if not left:
        return "finished", ""
    if chain.cancelled is not None:
        return "cancelled", f"go on with: windtunnel resume {run.root}"
    first = next((link for link in left if link.state in ("failed", "lost", "cancelled")), None)
    if first is not None:
        return first.state, f"{first.name}: {first.detail}; when mended: windtunnel resume {run.root}"
    first = next((link for link in left if link.state == "running"), left[0])
    return first.state, f"{first.name}: {first.detail}" if first.detail else first.name


def link_status(run: RunDir, chain: ChainRecord, link: LinkRecord, slurm: Slurm) -> LinkStatus:
    """One link: done and failed by its own record; on its way by SLURM's; the rest is what SLURM remembers of its end."""
    if is_done(run, link):
        return LinkStatus(name=link.name, state="done", job=link.job)
    if link.job is None:
        return LinkStatus(name=link.name, state="waiting", detail="not submitted yet")
    states = slurm.of(link.job)
    if link.num_tasks:
        return _array_status(run, link, states, slurm)
    state, detail = _job_status(run, link, states[0] if states else None, slurm)
    return LinkStatus(name=link.name, state=state, detail=detail, job=link.job)


def _job_status(run: RunDir, link: LinkRecord, job: JobState | None, slurm: Slurm) -> tuple[str, str]:
    end = read_end(run, link.name)
    if end is not None and end.job == link.job and (job is None or job.state not in ("PENDING", "RUNNING")):
        return ("cancelled" if end.reason.startswith("cancelled") else "failed"), end.reason
    if job is None:
        return ("unknown", "") if slurm.error else ("lost", "SLURM no longer knows its job, and it left no record")
    if job.state == "PENDING":
        return _pending(run, link, job)
    if job.state in ("RUNNING", "CONFIGURING"):
        return "running", f"on {job.nodes}"
    if job.state in client.LIVE_STATES:
        return "requeued", "leaving its nodes"
    over = _OVER.get(job.state, job.state.lower()) + (f" ({job.reason})" if job.reason else "")
    return ("cancelled" if job.state == "CANCELLED" else "failed"), over


def _pending(run: RunDir, link: LinkRecord, job: JobState) -> tuple[str, str]:
    if job.reason == "Dependency":
        return "waiting", f"for {', '.join(link.after)}"
    if job.reason == "DependencyNeverSatisfied":
        return "blocked", f"{', '.join(link.after)} can't succeed any more"
    where = f"position {job.position}" if job.position else ""
    soon = f"starts about {job.start}" if job.start else ""
    why = ", ".join(part for part in (job.reason, where, soon) if part)
    if link.train is not None:
        target = RunDir((run.root / link.train).resolve())
        mine = [attempt for attempt in attempts_of(target) if attempt.job == link.job]
        if mine:
            end = mine[-1].ended()
            return "requeued", f"after attempt {mine[-1].number} ({end.reason if end else 'lost'}): {why}"
    return "queued", why


def _array_status(run: RunDir, link: LinkRecord, states: list[JobState], slurm: Slurm) -> LinkStatus:
    left = undone_tasks(run, link)
    alive = [state for state in states if state.state in client.LIVE_STATES]
    ends = {task: read_end(run, link.name, task) for task in left}
    failed = {task: end.reason for task, end in ends.items() if end is not None and end.job == link.job}
    for one in states:  # a task whose batch script failed before our program began left no record
        task = one.job_id.partition("_")[2]
        if task.isdigit() and int(task) in left and one.state not in (*client.LIVE_STATES, "COMPLETED", "CANCELLED"):
            failed.setdefault(int(task), _OVER.get(one.state, one.state.lower()))
    counts = f"{link.num_tasks - len(left)} of {link.num_tasks} tasks done"
    if failed:
        counts += f", failed: {', '.join(str(task) for task in sorted(failed))} ({failed[min(failed)]})"
    if alive:
        if all(state.state == "PENDING" for state in alive):
            state, why = _pending(run, link, alive[0])
            return LinkStatus(name=link.name, state=state, detail=f"{counts}; {why}", job=link.job)
        return LinkStatus(name=link.name, state="running", detail=counts, job=link.job)
    if slurm.error and not states:
        return LinkStatus(name=link.name, state="unknown", detail=counts, job=link.job)
    if states and all(one.state == "CANCELLED" for one in states) and not failed:
        return LinkStatus(name=link.name, state="cancelled", detail=counts, job=link.job)
    return LinkStatus(name=link.name, state="failed" if failed or states else "lost", detail=counts, job=link.job)


def _add_progress(run: RunDir, status: RunStatus, *, live: bool) -> None:
    if run.resolved.is_file():
        resolved = load_resolved(run)
        status.num_steps, status.total_tokens = resolved.num_steps, resolved.total_tokens
    lines = read_jsonl(run.metrics)
    if not lines:
        return
    last = lines[-1]
    status.stage, status.step, status.tokens, status.loss = last["stage"], last["step"] + 1, last["tokens"], last.get("loss")
    rates = [line["tokens_per_s"] for line in lines[-RATE_STEPS:] if line.get("tokens_per_s")]
    if not live or not rates:
        return
    status.tokens_per_s = statistics.median(rates)
    if status.total_tokens is not None:
        status.left_s = (status.total_tokens - status.tokens) / status.tokens_per_s
    since_s = time.time() - run.metrics.stat().st_mtime
    usual_s = statistics.median(line.get("step_s", 0.0) for line in lines[-RATE_STEPS:])
    if since_s > max(60.0, 10 * usual_s):
        status.detail = f"{status.detail}; no step for {since_s:.0f} s".removeprefix("; ")
