"""What a training job runs on its first node: `python -m launch.slurm.job RUN LINK`, put there by the batch script.

One attempt: check the nodes, start the ranks as one srun step, pass signals on, read how it ended, and then finish, put
the job back into the queue (it keeps its id, so what depends on it goes on waiting), or stop with a diagnosis.

SLURM's ways of ending a job look alike from inside (all are SIGTERM); `why_ending` tells them apart by what scontrol says.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launch.cluster import Site
from launch.errors import LaunchError, SlurmError
from launch.local import last_words
from launch.slurm import client
from launch.slurm.prepared import largest_fit, prepare_link
from launch.slurm.record import load_chain, write_end
from launch.slurm.step import StepPlace, health_step, train_step
from launch.supervise.attempts import Attempt, attempts_of, checkpoint_tokens, close_attempt, is_fenced, open_attempt
from launch.supervise.child import run_child, stop_requests
from launch.supervise.health import faults, read_reports
from launch.supervise.node import TRAIN_MODULE
from launch.supervise.outcome import Action, decide, describe_exit, normal_exit_code
from recipe.errors import RecipeError
from recipe.exits import BAD_INPUT, FAILED, FINISHED, REQUEUE
from recipe.rundir import RunDir, read_json, write_json

STOPPED_BY_SRUN = 128 + signal.SIGTERM
FIRST_PORT, NUM_PORTS = 10_240, 20_480  # below Linux's ephemeral ports


@dataclass(frozen=True, kw_only=True)
class Job:
    """This job, from SLURM's variables."""

    id: str
    restart: int
    nodes: tuple[str, ...]
    partition: str

    @classmethod
    def from_environment(cls) -> "Job":
        env = os.environ
        return cls(
            id=env["SLURM_JOB_ID"], restart=int(env.get("SLURM_RESTART_COUNT", "0")), partition=env["SLURM_JOB_PARTITION"],
            nodes=tuple(client.hostnames(env["SLURM_JOB_NODELIST"], inside=True)),
        )


def port_for(job: Job) -> int:
    """Rank 0's port: no two jobs within 640 ids and no two restarts share it; moved on if something listens there."""
    first = (int(job.id) * 16 + job.restart % 16) * 2 % NUM_PORTS
    for offset in range(0, NUM_PORTS, 2):
        port = FIRST_PORT + (first + offset) % NUM_PORTS
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise LaunchError(f"no free port between {FIRST_PORT} and {FIRST_PORT + NUM_PORTS} on {socket.gethostname()}")


def why_ending(facts: dict[str, str], *, restart: int) -> str | None:
    """Why SLURM is ending this job, from `scontrol show job`: time limit, requeued, cancelled; None if it isn't. Pure."""
    if int(facts.get("Restarts", "0")) > restart:
        return "requeued"  # a preemption, a lost node, or somebody's scontrol requeue
    if facts.get("JobState") in ("RUNNING", "CONFIGURING", None):
        return None
    return "time limit" if facts.get("Reason") == "TimeLimit" or facts.get("JobState") == "TIMEOUT" else "cancelled"


class Supervisor:
    """One start of a training job."""

    def __init__(self, main_run: RunDir, link: str, received: list[signal.Signals]) -> None:
        chain = load_chain(main_run)
        if chain is None:
            raise LaunchError(f"{main_run.root}: no chain was submitted for this run")
        self.main_run, self.link, self.received, self.chain = main_run, link, received, chain
        self.run = RunDir((main_run.root / (chain.link(link).train or ".")).resolve())
        self.site = Site.model_validate(read_json(main_run.jobs / "site.json"))
        self.job = Job.from_environment()

    def carry_out(self) -> int:
        """Returns the job's exit code."""
        job, site = self.job, self.site
        planned = len(job.nodes) * site.processes_per_node
        self.prepare(planned)
        attempt = open_attempt(self.run, job=job.id, world_size=planned, nodes=list(job.nodes), restart=job.restart)
        where = f"job {job.id}, restart {job.restart}, nodes {','.join(job.nodes)}"
        self.say(f"attempt {attempt.number} of {self.run.root}, {where}")
        good = self.healthy_nodes(attempt)
        nodes = good[: largest_fit(self.run, len(good), processes_per_node=site.processes_per_node)]
        if len(nodes) < self.chain.min_nodes:
            return self.leave_bad_nodes(attempt)
        if len(nodes) < len(job.nodes):
            self.prepare(len(nodes) * site.processes_per_node)
            self.say(f"going on with {len(nodes)} of {len(job.nodes)} nodes: {','.join(nodes)}")
        code = self.run_ranks(attempt, nodes)
        reason = describe_exit(code)
        if code == STOPPED_BY_SRUN and not self.received:  # srun tells the highest code, not the first
            code, reason = FAILED, "a rank failed, and srun stopped the others"
        record = close_attempt(self.run, attempt, reason=reason, exit_code=code)
        return self.follow_up(attempt, record.exit_code, record.reason)

    def prepare(self, world_size: int) -> None:
        prepare_link(self.main_run, self.chain, self.chain.link(self.link).train or ".", world_size=world_size)

    def place(self, nodes: tuple[str, ...]) -> StepPlace:
        visible = {self.main_run.root.resolve(), Path(self.chain.data_dir), Path.cwd()}
        return StepPlace(nodes=nodes, python=sys.executable, visible=tuple(sorted(visible)))

    def healthy_nodes(self, attempt: Attempt) -> tuple[str, ...]:
        """Nodes of the allocation that pass; the others are named in the attempt's health.json and in the log."""
        folder = attempt.folder / "health"
        folder.mkdir()
        command = health_step(
            self.site, self.place(self.job.nodes), folder=folder, run_dir=self.run.root, log=attempt.folder / "health.log"
        )
        begun = time.time()
        env = dict(client.environment(inside=True), MASTER_ADDR=self.job.nodes[0], MASTER_PORT=str(port_for(self.job) + 1))
        run_child(command, env=env, received=self.received, ask_to_leave=lambda pid: os.kill(pid, signal.SIGTERM))
        reports = read_reports(folder)
        num_devices = self.site.processes_per_node if self.site.gres else None
        bad = faults(
            reports, nodes=list(self.job.nodes), limits=self.site.health, num_devices=num_devices, between=(begun, time.time())
        )
        write_json(attempt.health_file, {"reports": {name: vars(report) for name, report in reports.items()}, "bad": bad})
        for node, what in bad.items():
            self.say(f"health check: {node}: {what}")
        return tuple(node for node in self.job.nodes if node not in bad)

    def leave_bad_nodes(self, attempt: Attempt) -> int:
        """Too few nodes are fit: back into the queue without the bad ones, if the partition has enough others."""
        bad = read_json(attempt.health_file)["bad"]
        named = "; ".join(f"{node}: {what}" for node, what in bad.items()) or "no layout fits so few nodes"
        close_attempt(self.run, attempt, reason=f"health check: {named}", exit_code=FAILED)
        exclude = sorted({*self.excluded(), *bad})
        left = client.partitions()[self.job.partition].num_nodes - len(exclude)
        if not bad or left < self.chain.min_nodes:
            return self.stop(FAILED, f"health check: {named}; too few other nodes in partition {self.job.partition}")
        return self.follow_up(attempt, FAILED, f"health check: {named}", exclude=exclude)

    def excluded(self) -> list[str]:
        """Nodes that this job doesn't go to."""
        listed = client.show_job(self.job.id, inside=True).get("ExcNodeList", "(null)")
        return [] if listed == "(null)" else client.hostnames(listed, inside=True)

    def run_ranks(self, attempt: Attempt, nodes: tuple[str, ...]) -> int:
        module = os.environ.get("WINDTUNNEL_TRAIN_MODULE", TRAIN_MODULE)
        command = train_step(
            self.site, self.place(nodes), run_dir=self.run.root, attempt=attempt.number, log_dir=attempt.folder, module=module
        )
        env = dict(
            client.environment(inside=True), WINDTUNNEL_ATTEMPT=str(attempt.number), MASTER_ADDR=nodes[0],
            MASTER_PORT=str(port_for(self.job)), WINDTUNNEL_PROCESSES_PER_NODE=str(self.site.processes_per_node),
        )
        self.say("$ " + " ".join(command))
        leave = lambda pid: os.kill(pid, signal.SIGUSR1)  # noqa: E731  srun passes it on to the tasks
        return normal_exit_code(run_child(command, env=env, received=self.received, ask_to_leave=leave))

    def follow_up(self, attempt: Attempt, code: int | None, reason: str, *, exclude: Sequence[str] = ()) -> int:
        """Finish, requeue or stop."""
        starts = [start.tokens for one in attempts_of(self.run) if (start := one.started())]
        decision = decide(code, reason=reason, starts_tokens=starts, tokens=checkpoint_tokens(self.run))
        if decision.action is Action.DONE:
            write_end(self.main_run, self.link, job=self.job.id, exit_code=FINISHED, reason=decision.reason)
            self.say("finished")
            return FINISHED
        if is_fenced(self.run, attempt):
            self.say("a later attempt has begun elsewhere; this job leaves the run to it")
            return FAILED
        ending = why_ending(client.show_job(self.job.id, inside=True), restart=self.job.restart)
        if ending == "cancelled":
            return self.stop(REQUEUE, f"cancelled; {reason}")
        if decision.action is Action.STOP:
            if code != BAD_INPUT:
                self.say(last_words(attempt))
            return self.stop(BAD_INPUT if code == BAD_INPUT else FAILED, decision.reason)
        if ending != "requeued":
            self.requeue(reason if ending is None else f"{ending}; {reason}", exclude=exclude)
        return REQUEUE

    def requeue(self, reason: str, *, exclude: Sequence[str]) -> None:
        """Puts the job back into the queue, away from some nodes; raises `SlurmError` where SLURM refuses.

        SLURM answers by ending this very job, so the command that asked may be killed before it has the answer.
        """
        self.say(f"{reason}: back into the queue")
        try:
            client.call("scontrol", "requeue", self.job.id, inside=True)
        except SlurmError as error:
            if why_ending(client.show_job(self.job.id, inside=True), restart=self.job.restart) != "requeued":
                raise SlurmError(f"{reason}, and SLURM refuses to requeue the job: {error}") from error
        if exclude:  # from here on the job is pending, and its nodes can be changed
            listed = ",".join(exclude)
            client.call("scontrol", "update", f"JobId={self.job.id}", f"ExcNodeList={listed}", inside=True)
            self.say(f"without {listed}")

    def stop(self, code: int, reason: str) -> int:
        write_end(self.main_run, self.link, job=self.job.id, exit_code=code, reason=reason)
        self.say(f"stopped: {reason}; when mended, go on with: windtunnel resume {self.main_run.root}")
        return code

    def say(self, text: str) -> None:
        print(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {text}", flush=True)


def main() -> int:
    root, link = sys.argv[1:]
    with stop_requests() as received:
        try:
            supervisor = Supervisor(RunDir(Path(root)), link, received)
        except (LaunchError, RecipeError) as error:
            print(error, file=sys.stderr)
            return BAD_INPUT
        try:
            return supervisor.carry_out()
        except (RecipeError, SlurmError, LaunchError) as error:
            return supervisor.stop(BAD_INPUT if isinstance(error, RecipeError) else FAILED, str(error))


if __name__ == "__main__":
    sys.exit(main())
