"""What is refused before SLURM is asked: each by a message that names the place and what would be right."""

import pytest

from launch.cluster import Site
from launch.errors import ClusterError
from launch.slurm.check import cluster_faults, extra_faults, script_faults
from launch.slurm.client import Partition, parse_gres, parse_limit
from tests.launch.slurm.test_render import sim

GOOD = "#!/bin/bash\n#SBATCH --time=1  # one\n\nset -e\necho done\n"


def test_a_good_script_has_no_faults() -> None:
    assert script_faults(GOOD) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD.replace("\n", "\r\n"), "line 1: ends as on Windows (CRLF)"),
        (GOOD.removeprefix("#!/bin/bash\n"), "line 1: no interpreter"),
        (GOOD + "#SBATCH --nodes=2\n", "line 6: '#SBATCH --nodes=2' comes after the first command (line 4): SLURM ignores it"),
        (GOOD.replace("#SBATCH", " #SBATCH"), "is indented: SLURM ignores it"),
        (GOOD.replace("--time", "--tiem"), "line 2: --tiem is no option of sbatch; did you mean time?"),
        (GOOD.replace("--time", "--zzzzzz"), "valid: account, array"),
        (GOOD.replace("--time=1  # one", ""), "has no option"),
    ],
)
def test_script(text: str, fault: str) -> None:
    assert any(fault in one for one in script_faults(text)), script_faults(text)


PARTITIONS = {
    "batch": Partition("batch", True, 7200.0, 4, 16, 64 * 2**30, {"gpu": 8, "gpu:h100": 8}),
    "old": Partition("old", False, None, 4, 16, 64 * 2**30),
}


@pytest.mark.parametrize(
    ("changes", "num_nodes", "fault"),
    [
        ({}, 5, "--nodes 5: partition batch has 4; SLURM would keep the job pending for ever"),
        ({"max_nodes": 2}, 3, "--nodes 3: the site file allows max_nodes=2"),
        ({"partition": "bach"}, 1, "partition=bach: no such partition; did you mean batch?"),
        ({"partition": "old"}, 1, "partition old is down: a job there stays pending; others: batch"),
        ({"cpu_partition": "cpus"}, 1, "cpu_partition=cpus: no such partition; valid: batch, old"),
        ({"cpus_per_process": 9}, 1, "processes_per_node × cpus_per_process = 18: a node of partition batch has 16 cores"),
        ({"memory_per_node": "65GiB"}, 1, "a node of partition batch has 68719476736 bytes"),
        ({"time_limit": 7260}, 1, "time_limit=2h01m: partition batch ends jobs after 2h00m"),
        ({"gres": "gpu:9"}, 1, "gres=gpu:9: a node of partition batch has gpu:8, gpu:h100:8"),
        ({"gres": "gpu:a100:1"}, 1, "gres=gpu:a100:1: a node of partition batch has gpu:8"),
    ],
)
def test_cluster(changes: dict, num_nodes: int, fault: str) -> None:
    found = cluster_faults(sim(**changes), num_nodes=num_nodes, partitions=PARTITIONS)
    assert len(found) == 1
    assert fault in found[0]


def test_what_fits_passes() -> None:
    site = sim(gres="gpu:h100:8", time_limit=7200, memory_per_node="64GiB", cpus_per_process=8)
    assert cluster_faults(site, num_nodes=4, partitions=PARTITIONS) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"extra": {"mailtype": "FAIL"}}, "extra.mailtype: no such option; did you mean mail-type?"),
        ({"extra": {"zzz": 1}}, "extra.zzz: no such option; valid: bb, bbf, begin"),
        ({"extra": {"nodes": 4}}, "extra.nodes: set by Windtunnel itself"),
        ({"setup": ["#SBATCH --mem=1"]}, "setup.0: SLURM ignores an #SBATCH line that comes after a command"),
        ({"setup": ["true\r"]}, "setup.0: holds a line break"),
    ],
)
def test_site_options(changes: dict, fault: str) -> None:
    assert extra_faults(sim(**changes))[0].startswith(fault)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"accelerator": "cuda"}, "needs gres"),
        ({"leave_before": 10}, "is under 30s"),
        ({"leave_before": 60, "time_limit": 149}, "is under leave_before"),
        ({"time_limit": "1x"}, "is not a duration"),
    ],
)
def test_site_values(changes: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        sim(**changes)


def test_unknown_site_key_names_the_nearest(tmp_path) -> None:
    from launch.cluster import load_site

    path = tmp_path / "mine.yaml"
    path.write_text("partition: batch\naccelerator: cpu\nprocesses_per_node: 2\ntime_limit: 1h\ntimelimit: 2h\n")
    with pytest.raises(ClusterError, match=r"mine.yaml: timelimit: unknown key; did you mean time_limit\?"):
        load_site(str(path))
    with pytest.raises(ClusterError, match="no such site file; examples: a100, cpu, h100"):
        load_site("h10")
    assert isinstance(load_site("h100"), Site)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("infinite", None), ("30", 1800), ("30:00", 1800), ("1:30:00", 5400), ("2-00:00:00", 172800), ("1-12", 129600),
        ("1-00:30", 88200),
    ],
)
def test_parse_limit(text: str, seconds: float | None) -> None:
    assert parse_limit(text) == seconds


@pytest.mark.parametrize(
    ("text", "gres"),
    [("(null)", {}), ("gpu:8", {"gpu": 8}), ("gpu:h100:8(S:0-1)", {"gpu": 8, "gpu:h100": 8}),
     ("gpu:a:2,gpu:b:4,fs:1", {"gpu": 6, "gpu:a": 2, "gpu:b": 4, "fs": 1})],
)
def test_parse_gres(text: str, gres: dict[str, int]) -> None:
    assert parse_gres(text) == gres
