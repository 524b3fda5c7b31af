"""SLURM's commands: what is asked of them, what their answers mean. Text formats, which stay the same between versions."""

import os
import re
import signal
import subprocess
from dataclasses import dataclass, field, replace

from launch.errors import SlurmError

TIMEOUT_S = 60.0
LIVE_STATES = (
    "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "STAGE_OUT"
)
_WISHES = ("SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SINFO_", "SLURM_")
_KEPT = ("SLURM_CONF", "SLURM_TIME_FORMAT")


@dataclass(frozen=True)
class Partition:
    """What sinfo says of a partition; per-node facts are those of its largest kind of node."""

    name: str
    up: bool
    limit_s: float | None
    num_nodes: int
    cpus: int
    memory_bytes: int
    gres: dict[str, int] = field(default_factory=dict)
    """"gpu" and "gpu:h100" → how many on a node."""
    default: bool = False


@dataclass(frozen=True)
class JobState:
    """A job, or one task of an array, as the controller or the accounting database has it."""

    job_id: str
    state: str
    """PENDING, RUNNING, COMPLETING, COMPLETED, FAILED, TIMEOUT, CANCELLED, PREEMPTED, NODE_FAIL, REQUEUED, …"""
    reason: str = ""
    nodes: str = ""
    start: str = ""
    position: int | None = None
    """Among the pending jobs of its partition, 1 the next."""

    @property
    def base_id(self) -> str:
        return self.job_id.partition("_")[0]


def environment(*, inside: bool = False) -> dict[str, str]:
    """This environment without the shell's own wishes: an SBATCH_… variable would overrule the file's #SBATCH line.

    Args:
        inside: Called from within a job: what SLURM said of the job stays.
    """
    drop = _WISHES[:-1] if inside else _WISHES
    return {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(drop)}


def call(*command: str, inside: bool = False, timeout_s: float = TIMEOUT_S) -> str:
    """A command's stdout; raises `SlurmError` with what it said on stderr."""
    try:
        done = subprocess.run(
            command, env=environment(inside=inside), capture_output=True, text=True, timeout=timeout_s,
            stdin=subprocess.DEVNULL, preexec_fn=_ignore_term if inside else None,
        )
    except FileNotFoundError as error:
        raise SlurmError(f"{command[0]}: not found: there is no SLURM here; submit from a login node of the cluster") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]}: no answer within {timeout_s:g} s; is the controller up? (`scontrol ping`)") from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise SlurmError(f"{' '.join(command[:2])}: {said} (exit code {done.returncode})")
    return done.stdout


def _ignore_term() -> None:
    """A job's SIGTERM goes to all its processes; the commands that look after it should live through it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def sbatch(file: str, *, after: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> str:
    """Submits a file and returns the job's id; a job whose dependency fails is cancelled instead of waiting for ever."""
    dependency = (f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes") if after else ()
    answer = call("sbatch", "--parsable", *dependency, *options, file).strip()
    return answer.splitlines()[-1].partition(";")[0]


def cancel(job_ids: list[str]) -> None:
    if job_ids:
        call("scancel", *job_ids)


def queue() -> dict[str, JobState]:
    """This user's jobs that the controller remembers, ended ones too, by id; array tasks as 12_3."""
    text = call("squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", "%i|%T|%r|%N|%S")
    jobs = {}
    for line in text.splitlines():
        job_id, state, reason, nodes, start = (part.strip() for part in line.split("|"))
        jobs[job_id] = JobState(job_id, state, "" if reason == "None" else reason, nodes, "" if start == "N/A" else start)
    return jobs


def pending_order(partition_of: str) -> list[str]:
    """Ids of all pending jobs in the partition of this job, the next one first."""
    partition = call("squeue", "-h", "-j", partition_of, "-o", "%P").split()
    if not partition:
        return []
    return call("squeue", "-h", "-t", "PD", "-p", partition[0].rstrip("*"), "--sort=-p,i", "-o", "%i").split()


def accounting(job_ids: list[str]) -> dict[str, JobState] | None:
    """The same from the accounting database; None where there is none."""
    if not job_ids:
        return {}
    try:
        text = call("sacct", "-n", "-P", "-X", "-j", ",".join(job_ids), "-o", "JobID,State,NodeList,Start")
    except SlurmError:
        return None
    jobs = {}
    for line in text.splitlines():
        job_id, state, nodes, start = line.split("|")
        jobs[job_id] = JobState(job_id, state.split()[0], nodes=nodes, start=start)  # "CANCELLED by 1000"
    return jobs


def show_job(job_id: str, *, inside: bool = False) -> dict[str, str]:
    """`scontrol show job` as a mapping."""
    text = call("scontrol", "show", "job", "-o", job_id, inside=inside)
    return dict(re.findall(r"(\w[\w:/]*)=(\S*)", text))


def hostnames(node_list: str, *, inside: bool = False) -> list[str]:
    return call("scontrol", "show", "hostnames", node_list, inside=inside).split()


def partitions() -> dict[str, Partition]:
    """All partitions; raises `SlurmError` when the controller doesn't answer."""
    found: dict[str, Partition] = {}
    for line in call("sinfo", "-h", "-o", "%P|%a|%l|%D|%c|%m|%G").splitlines():
        name, up, limit, count, cpus, memory, gres = (part.strip() for part in line.split("|"))
        plain = name.rstrip("*")
        kind = Partition(
            name=plain, up=up == "up", limit_s=parse_limit(limit), num_nodes=int(count), cpus=_number(cpus),
            memory_bytes=_number(memory) * 2**20, gres=parse_gres(gres), default=name.endswith("*"),
        )
        found[plain] = _together(found[plain], kind) if plain in found else kind
    return found


def _together(one: Partition, other: Partition) -> Partition:
    """A partition of several kinds of nodes: all of them counted, the larger kind's facts."""
    larger = max(one, other, key=lambda kind: (sum(kind.gres.values()), kind.cpus))
    return replace(larger, num_nodes=one.num_nodes + other.num_nodes)


def _number(text: str) -> int:
    return int(re.sub(r"\D", "", text) or 0)  # "128+": at least so much


def parse_limit(text: str) -> float | None:
    """Seconds of SLURM's [days-]hours:minutes:seconds; None for infinite."""
    if text in ("infinite", "UNLIMITED", "n/a"):
        return None
    days, dash, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return 86400.0 * int(days) + 3600 * hours + 60 * minutes + seconds
    hours, minutes, seconds = (0, *parts, 0)[:3] if len(parts) == 1 else ((0, *parts) if len(parts) == 2 else parts)
    return 3600.0 * hours + 60 * minutes + seconds


def parse_gres(text: str) -> dict[str, int]:
    """"gpu:h100:8(S:0-1)" → {"gpu": 8, "gpu:h100": 8}."""
    found: dict[str, int] = {}
    for item in re.sub(r"\([^)]*\)", "", text).split(","):
        *kind, count = item.strip().split(":")
        if not kind or not count.isdigit():
            continue
        found[kind[0]] = found.get(kind[0], 0) + int(count)
        if len(kind) > 1:
            found[":".join(kind)] = int(count)
    return found
