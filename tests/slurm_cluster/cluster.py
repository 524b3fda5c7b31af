"""A real SLURM cluster on this host, without systemd and without touching /etc: munged, slurmctld, some slurmd, slurmdbd.

    with Cluster(num_nodes=4) as cluster: subprocess.run(["sinfo"], env=cluster.env)
    python -m tests.slurm_cluster.cluster 4     # stays up until Ctrl-C, for trying things by hand

Every process that is started is ended by its id: the daemons are our children, and what they leave behind (step daemons,
tasks) is found by this cluster's own configuration file in its environment or its own log among its open files.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.slurm_cluster.config import Layout, write_files

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun")
PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
INHERITED = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SINFO_")


def missing_programs(*, accounting: bool = False) -> list[str]:
    wanted = (*PROGRAMS, "slurmdbd", "mariadbd", "mariadb-install-db") if accounting else PROGRAMS
    return [name for name in wanted if shutil.which(name, path=PATH) is None]


class Cluster:
    """Up between `start` and `stop`."""

    def __init__(self, *, num_nodes: int = 4, accounting: bool = False, **timings: int) -> None:
        state = Path(tempfile.mkdtemp(prefix="wts", dir="/tmp"))
        self.layout = Layout(state=state, port=_free_range(), num_nodes=num_nodes, accounting=accounting, **timings)
        self.daemons: dict[str, subprocess.Popen] = {}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED)}
        self.env = dict(clean, SLURM_CONF=str(self.layout.slurm_conf), PATH=PATH)

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        layout = self.layout
        write_files(layout)
        munge = layout.state / "munge"
        self._launch("munged", [
            "munged", "-F", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid",
            f"--log-file={layout.log('munged')}", f"--seed-file={munge}/seed",
        ])
        self._await("munged", lambda: self._ok(["munge", "-n", "-S", str(layout.munge_socket)]))
        if layout.accounting:
            self._start_database()
        self.start_controller()
        for node in layout.nodes:
            self.start_node(node)
        self._await("slurmctld", self._all_nodes_up)

    def start_controller(self) -> None:
        self._launch("slurmctld", ["slurmctld", "-D", "-i", "-f", str(self.layout.slurm_conf)])
        self._await("slurmctld", lambda: "is UP" in self.run(["scontrol", "ping"]).stdout)

    def stop_controller(self) -> None:
        self._end("slurmctld", signal.SIGTERM)

    def start_node(self, node: str) -> None:
        command = ["slurmd", "-D", "-N", node, "-f", str(self.layout.slurm_conf)]
        if (flags := self._namespace_flags()) is not None:  # the node gets its own host name, and knows the others'
            setup = 'mount --bind "$1" /etc/hosts && hostname "$2" && shift 2 && exec "$@"'
            command = ["unshare", *flags, "sh", "-c", setup, "sh", str(self.layout.hosts), node, *command]
        self._launch(node, command)

    def revive_node(self, node: str) -> None:
        """A node that died is back, and the controller gives it work again."""
        self.start_node(node)
        self._await("slurmctld", self._all_nodes_up)

    def kill_node(self, node: str) -> None:
        """The whole machine dies at once: slurmd, step daemons, tasks."""
        self._end(node, signal.SIGKILL)
        for process in self.job_processes(node):
            with contextlib.suppress(psutil.Error):
                process.kill()

    def kill_slurmd(self, node: str) -> None:
        """Only the daemon dies; tasks live on, as those of a node that lost its network."""
        self._end(node, signal.SIGKILL)

    def stop(self) -> None:
        if "slurmctld" in self.daemons:
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                subprocess.run(["scancel", f"--user={os.getuid()}"], env=self.env, timeout=5, capture_output=True)
        for name in ["slurmctld", *self.layout.nodes]:
            self._end(name, signal.SIGTERM)
        for process in self.job_processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for name in ("slurmdbd", "mariadbd", "munged"):
            self._end(name, signal.SIGTERM)
        shutil.rmtree(self.layout.state, ignore_errors=True)

    def run(
        self, command: list[str], *, timeout_s: float = 30, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """A command of the cluster's users, with its output; `env` instead of their environment, as far as it isn't SLURM's."""
        together = self.env if env is None else env | {"SLURM_CONF": self.env["SLURM_CONF"]}
        return subprocess.run(command, env=together, capture_output=True, text=True, timeout=timeout_s)

    def job_processes(self, node: str | None = None) -> list[psutil.Process]:
        """Step daemons and tasks of this cluster (of one node)."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and self._belongs(process, node):
                    found.append(process)
        return found

    def _belongs(self, process: psutil.Process, node: str | None) -> bool:
        if process.name() == "slurmstepd":
            logs = {str(self.layout.log(one)) for one in ([node] if node else self.layout.nodes)}
            return any(file.path in logs for file in process.open_files())
        env = process.environ()
        ours = env.get("SLURM_CONF") == str(self.layout.slurm_conf) and "SLURM_JOB_ID" in env
        return ours and (node is None or env.get("SLURMD_NODENAME") == node)

    def _start_database(self) -> None:
        state, port = self.layout.state, self.layout.port + 2
        user = psutil.Process().username()
        made = self.run([
            "mariadb-install-db", "--no-defaults", f"--datadir={state}/db", f"--user={user}",
            "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
        ], timeout_s=120)
        assert made.returncode == 0, made.stdout + made.stderr
        init = state / "etc" / "init.sql"
        init.write_text(
            "CREATE DATABASE IF NOT EXISTS slurm_acct;\nCREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
            "GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1';\n"
        )
        self._launch("mariadbd", [
            "mariadbd", "--no-defaults", f"--user={user}", f"--datadir={state}/db", f"--socket={state}/db/sock",
            "--bind-address=127.0.0.1", f"--port={port}", "--skip-name-resolve", f"--init-file={init}",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0",
        ])
        self._await("mariadbd", lambda: _listens(port))
        self._launch("slurmdbd", ["slurmdbd", "-D"])
        self._await("slurmdbd", lambda: _listens(self.layout.port + 1))

    def _namespace_flags(self) -> list[str] | None:
        for flags in (["-m", "-u"], ["-c", "--keep-caps", "-m", "-u"]):
            test = 'mount --bind "$1" /etc/hosts && hostname node1'
            if self._ok(["unshare", *flags, "sh", "-c", test, "sh", str(self.layout.hosts)]):
                return flags
        return None

    def _all_nodes_up(self) -> bool:
        lines = self.run(["sinfo", "-h", "-N", "-p", "batch", "-t", "idle,alloc,mix", "-o", "%N %t"]).stdout.splitlines()
        return len([line for line in lines if not line.endswith("*")]) == self.layout.num_nodes  # *: doesn't answer

    def _launch(self, name: str, command: list[str]) -> None:
        with open(self.layout.state / "log" / f"{name}.out", "ab") as output:
            self.daemons[name] = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        daemon = self.daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(timeout=15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _ok(self, command: list[str]) -> bool:
        return self.run(command).returncode == 0

    def _await(self, name: str, ready: Callable[[], bool], *, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            ended = self.daemons[name].poll() is not None
            if ended or time.monotonic() > deadline:
                words = (self.layout.state / "log" / f"{name}.out").read_text()[-2000:]
                raise RuntimeError(f"{name} {'ended' if ended else 'is not ready'}: {words}")
            time.sleep(0.1)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_range(*, size: int = 32) -> int:
    """First of some ports in a row that nobody listens at."""
    start = 2_000 + os.getpid() % 150 * size  # all below the ports that ranks take
    for base in range(start, start + 100 * size, size):
        if not any(_listens(port) for port in range(base, base + size)):
            return base
    raise RuntimeError("no free ports")


def main() -> None:
    with Cluster(num_nodes=int(sys.argv[1]) if len(sys.argv) > 1 else 4, accounting="--accounting" in sys.argv) as cluster:
        print(f"export SLURM_CONF={cluster.layout.slurm_conf}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.pause()


if __name__ == "__main__":
    main()
