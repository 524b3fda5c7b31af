"""Which nodes are fit: the verdict from reports (pure), and two real nodes' worth of processes measuring each other."""

from launch.cluster import Health
from launch.supervise.health import NodeReport, _phase, faults

LIMITS = Health(min_disk_free="1GB", min_device_memory_free="10GB", max_clock_skew="5s", min_bandwidth="1GB", timeout="60s")


def report(node: str, **changes: object) -> NodeReport:
    fit = {"num_devices": 8, "min_device_memory_free_bytes": 10**11, "disk_free_bytes": 10**12, "bandwidth": 1e10}
    return NodeReport(node=node, **fit | {"time": 105.0} | changes)


def verdict(**reports: NodeReport) -> dict[str, str]:
    return faults(reports, nodes=["a", "b"], limits=LIMITS, num_devices=8, between=(100.0, 110.0))


def test_fit_nodes_are_not_named() -> None:
    assert verdict(a=report("a"), b=report("b", min_device_memory_free_bytes=None, bandwidth=None)) == {}


def test_each_fault_is_named_with_its_limit() -> None:
    assert verdict(a=report("a")) == {"b": "no answer within 60 s"}
    assert verdict(a=report("a"), b=report("b", num_devices=7)) == {"b": "7 devices of 8"}
    assert "1 GiB" not in verdict(a=report("a"), b=report("b", disk_free_bytes=10**8))["b"].split("under")[0]
    assert "of device memory free" in verdict(a=report("a"), b=report("b", min_device_memory_free_bytes=10**9))["b"]
    assert verdict(a=report("a"), b=report("b", time=116.0)) == {"b": "clock 6.0 s off, over 5 s"}
    assert verdict(a=report("a"), b=report("b", time=90.0)) == {"b": "clock 10.0 s off, over 5 s"}
    assert "to its neighbours" in verdict(a=report("a"), b=report("b", bandwidth=1e8))["b"]
    both = verdict(a=report("a"), b=report("b", num_devices=0, time=200.0))["b"]
    assert both.count(",") == 2


def test_no_devices_wanted_none_missed() -> None:
    reports = {"a": report("a", num_devices=0)}
    assert faults(reports, nodes=["a"], limits=LIMITS, num_devices=None, between=(100.0, 110.0)) == {}


def test_in_a_phase_no_node_is_in_two_pairs() -> None:
    for count in range(3, 12):
        pairs = [(one, (one + 1) % count) for one in range(count)]
        for phase in range(3):
            nodes = [node for index, pair in enumerate(pairs) if _phase(index, count) == phase for node in pair]
            assert len(nodes) == len(set(nodes))
