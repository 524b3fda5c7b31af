"""What the supervisor makes of SLURM's answers, and how it starts a step. Pure parts."""

from pathlib import Path

import pytest

from launch.cluster import load_site
from launch.slurm.job import FIRST_PORT, NUM_PORTS, Job, port_for, why_ending
from launch.slurm.step import StepPlace, health_step, train_step
from tests.launch.slurm.test_render import sim

PLACE = StepPlace(nodes=("n1", "n2"), python="/env/python", visible=(Path("/runs/a"),))
RUN = {"run_dir": Path("/runs/a"), "attempt": 3, "log_dir": Path("/runs/a/attempts/003-7")}


@pytest.mark.parametrize(
    ("facts", "restart", "why"),
    [
        ({"JobState": "RUNNING", "Restarts": "0"}, 0, None),
        ({"JobState": "RUNNING", "Restarts": "2"}, 2, None),
        ({"JobState": "COMPLETING", "Reason": "None", "Restarts": "0"}, 0, "cancelled"),
        ({"JobState": "CANCELLED", "Reason": "None", "Restarts": "1"}, 1, "cancelled"),
        ({"JobState": "COMPLETING", "Reason": "TimeLimit", "Restarts": "0"}, 0, "time limit"),
        ({"JobState": "TIMEOUT", "Reason": "None", "Restarts": "0"}, 0, "time limit"),
        ({"JobState": "PENDING", "Reason": "BeginTime", "Restarts": "1"}, 0, "requeued"),
        ({"JobState": "COMPLETING", "Reason": "None", "Restarts": "1"}, 0, "requeued"),
    ],
)
def test_why_ending(facts: dict[str, str], restart: int, why: str | None) -> None:
    assert why_ending(facts, restart=restart) == why


def job(number: int, restart: int = 0) -> Job:
    return Job(id=str(number), restart=restart, nodes=("n1",), partition="batch")


def test_ports_differ_between_jobs_and_restarts() -> None:
    ports = {(number, restart): port_for(job(number, restart)) for number in range(1000, 1020) for restart in range(3)}
    assert len(set(ports.values())) == len(ports)
    assert all(FIRST_PORT <= port < FIRST_PORT + NUM_PORTS and port % 2 == 0 for port in ports.values())  # the odd one: health


def test_one_task_for_each_rank_or_each_node() -> None:
    command = train_step(sim(processes_per_node=4), PLACE, **RUN)
    assert {"--nodes=2", "--nodelist=n1,n2", "--ntasks=8", "--ntasks-per-node=4", "--export=ALL"} <= set(command)
    assert "--output=/runs/a/attempts/003-7/rank_%5t.log" in command
    assert command[-6:] == ["launch.supervise.rank", "-", "recipe.train", "/runs/a", "--attempt", "3"]
    command = train_step(sim(processes_per_node=4, cpus_per_process=2, tasks="per_node"), PLACE, **RUN)
    assert {"--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=8"} <= set(command)
    assert "launch.supervise.node" in command


def test_health_check_waits_for_every_node() -> None:
    command = health_step(sim(), PLACE, folder=Path("/h"), run_dir=Path("/runs/a"), log=Path("/h.log"))
    assert "--kill-on-bad-exit=1" not in command
    assert command[:3] == ["srun", "--wait=0", "--time=3"]


def test_containers() -> None:
    command = train_step(load_site("a100"), PLACE, **RUN)
    assert "--container-image=/shared/images/windtunnel.sqsh" in command
    assert "--container-mounts=/runs/a:/runs/a,/scratch:/scratch" in command
    assert command[command.index("-u") - 1] == "python3"
    box = {"kind": "apptainer", "image": "/i.sif", "mounts": [], "python": "python3"}
    command = train_step(sim(container=box, accelerator="cuda", gres="gpu:2"), PLACE, **RUN)
    start = command.index("apptainer")
    assert command[start : start + 6] == ["apptainer", "exec", "--nv", "--bind", "/runs/a:/runs/a", "/i.sif"]
