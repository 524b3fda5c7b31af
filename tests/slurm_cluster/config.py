"""The files of a SLURM cluster on one host: many slurmd on loopback, each with its own port, name and simulated GPUs."""

import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path

NUM_CPUS, NUM_GPUS, MEMORY_MB = 16, 8, 256_000


@dataclass(frozen=True)
class Layout:
    """Where a cluster lives; the state folder's path must be short (unix sockets)."""

    state: Path
    port: int
    num_nodes: int
    accounting: bool
    cred_expire_s: int = 5
    kill_wait_s: int = 20
    grace_s: int = 20
    min_job_age_s: int = 3600
    """How long squeue still knows a job that has ended."""

    @property
    def nodes(self) -> list[str]:
        return [f"node{number}" for number in range(1, self.num_nodes + 1)]

    @property
    def first_job_id(self) -> int:
        """Clusters side by side share this machine's ports, and ranks take theirs from the job's id."""
        return self.port // 32 % 16 * 40 + 1

    @property
    def slurm_conf(self) -> Path:
        return self.state / "etc" / "slurm.conf"

    @property
    def hosts(self) -> Path:
        return self.state / "etc" / "hosts"

    @property
    def munge_socket(self) -> Path:
        return self.state / "munge" / "socket"

    @property
    def task_prolog(self) -> Path:
        return self.state / "etc" / "task_prolog"

    def bad_marker(self, node: str) -> Path:
        """While this file is there, tasks on the node see one GPU, whatever they asked for."""
        return self.state / "etc" / f"bad_{node}"

    def log(self, daemon: str) -> Path:
        return self.state / "log" / f"{daemon}.log"


def write_files(layout: Layout) -> None:
    """All of a cluster's files; touches nothing outside its state folder."""
    state = layout.state
    for folder in ("etc", "log", "ctld", "dev", "munge", "run", "db", *(f"spool/{node}" for node in layout.nodes)):
        (state / folder).mkdir(parents=True, exist_ok=True)
    os.chmod(state, 0o755)
    key = state / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    for number in range(NUM_GPUS):  # SLURM wants character devices
        device = state / "dev" / f"nvidia{number}"
        if not device.is_symlink():
            device.symlink_to("/dev/null")
    layout.slurm_conf.write_text(slurm_conf(layout))
    (state / "etc" / "gres.conf").write_text(
        f"NodeName=node[1-{layout.num_nodes}] Name=gpu File={state}/dev/nvidia[0-{NUM_GPUS - 1}]\n"
    )
    layout.task_prolog.write_text(
        f'#!/bin/sh\n[ ! -e {state}/etc/bad_$SLURMD_NODENAME ] || echo "export CUDA_VISIBLE_DEVICES=0"\n'
    )
    layout.task_prolog.chmod(0o755)
    for empty in ("plugstack.conf", "cgroup.conf"):
        (state / "etc" / empty).write_text("")
    names = "".join(f"127.0.0.1 {node}\n" for node in layout.nodes)
    layout.hosts.write_text(Path("/etc/hosts").read_text() + names)
    if layout.accounting:
        dbd = state / "etc" / "slurmdbd.conf"
        dbd.touch(mode=0o600)
        dbd.write_text(slurmdbd_conf(layout))


def slurm_conf(layout: Layout) -> str:
    user, host, state = getpass.getuser(), socket.gethostname().split(".")[0], layout.state
    if layout.accounting:
        accounting = (
            "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            f"AccountingStoragePort={layout.port + 1}\nAccountingStoragePass={layout.munge_socket}\n"
            "AccountingStorageTRES=gres/gpu"
        )
    else:
        accounting = "AccountingStorageType=accounting_storage/none"
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={layout.port + 10 + number} Sockets=2 "
        f"CoresPerSocket={NUM_CPUS // 2} ThreadsPerCore=1 RealMemory={MEMORY_MB} Gres=gpu:{NUM_GPUS} State=UNKNOWN"
        for number, node in enumerate(layout.nodes)
    )
    every = f"Nodes=node[1-{layout.num_nodes}] DefaultTime=60 GraceTime={layout.grace_s}"
    return f"""ClusterName=sim
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={layout.port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={layout.munge_socket},cred_expire={layout.cred_expire_s}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={state}/ctld
SlurmdSpoolDir={state}/spool/%n
SlurmctldPidFile={state}/run/slurmctld.pid
SlurmdPidFile={state}/run/slurmd.%n.pid
SlurmctldLogFile={layout.log("slurmctld")}
SlurmdLogFile={state}/log/%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
MailProg=/bin/true
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={layout.task_prolog}
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
GresTypes=gpu
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait={layout.kill_wait_s}
CompleteWait=0
InactiveLimit=0
MinJobAge={layout.min_job_age_s}
SlurmctldTimeout=30
SlurmdTimeout=15
MessageTimeout=20
BatchStartTimeout=20
ReturnToService=2
TreeWidth=16
MaxArraySize=1001
FirstJobId={layout.first_job_id}
{accounting}
{nodes}
PartitionName=batch {every} Default=YES MaxTime=7-0 PriorityTier=10 PreemptMode=REQUEUE
PartitionName=urgent {every} MaxTime=7-0 PriorityTier=100 PreemptMode=OFF
PartitionName=short {every} MaxTime=10 PriorityTier=10 PreemptMode=REQUEUE
"""


def slurmdbd_conf(layout: Layout) -> str:
    return f"""AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={layout.port + 1}
SlurmUser={getpass.getuser()}
PidFile={layout.state}/run/slurmdbd.pid
LogFile={layout.log("slurmdbd")}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={layout.port + 2}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
"""
