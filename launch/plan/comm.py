"""Seconds of communication from link bandwidth and latency, inside and between nodes.

Ranks are placed as Megatron-Core places them: tensor parallelism fastest, then context, data, pipeline slowest. A group that
stays in a node uses the node's links; one that doesn't runs a ring over as many network adapters as it has ranks in a node.
Ring collectives move (n−1)/n of the message a rank (all-gather, reduce-scatter), all-reduce twice that (NCCL's bus bandwidth).
"""

from dataclasses import dataclass

import numpy as np

from launch.plan.hardware import Hardware
from launch.plan.shapes import Layouts


@dataclass(frozen=True)
class Group:
    """A process group in every layout: its size, the bytes a second one rank moves, the latency of a message."""

    size: np.ndarray
    bytes_per_s: np.ndarray
    gather_bytes_per_s: np.ndarray
    latency_s: np.ndarray

    def gather_s(self, num_bytes: np.ndarray, *, messages: np.ndarray | float = 1.0) -> np.ndarray:
        """All-gather (or reduce-scatter) of num_bytes in total, in so many messages."""
        moved = (self.size - 1) / self.size * num_bytes
        return np.where(self.size > 1, moved / self.gather_bytes_per_s + messages * self.latency_s, 0.0)

    def reduce_s(self, num_bytes: np.ndarray, *, messages: np.ndarray | float = 1.0) -> np.ndarray:
        """All-reduce."""
        moved = 2 * (self.size - 1) / self.size * num_bytes
        return np.where(self.size > 1, moved / self.bytes_per_s + 2 * messages * self.latency_s, 0.0)


def group(size: np.ndarray, stride: np.ndarray, hardware: Hardware) -> Group:
    """A group of `size` ranks that are `stride` apart."""
    in_node = np.clip(hardware.gpus_per_node // stride, 1, size)
    nodes = np.ceil(size / in_node)
    node, fabric = hardware.node_link, hardware.fabric_link
    across = np.minimum(in_node * fabric.bytes_per_s, node.bytes_per_s)
    latency = (size - nodes) * node.latency_s + np.where(nodes > 1, nodes, 0) * fabric.latency_s
    rate = np.where(nodes > 1, across, node.bytes_per_s)
    return Group(size, rate, rate * np.where(nodes > 1, fabric.gather_frac, node.gather_frac), latency)


def tensor_group(layouts: Layouts, hardware: Hardware) -> Group:
    return group(layouts.tp, np.ones_like(layouts.tp), hardware)


def context_group(layouts: Layouts, hardware: Hardware) -> Group:
    return group(layouts.cp, layouts.tp, hardware)


def data_group(layouts: Layouts, hardware: Hardware) -> Group:
    """Gradients are averaged over data and context parallel ranks together."""
    return group(layouts.dp * layouts.cp, layouts.tp, hardware)


def pipeline_s(num_bytes: np.ndarray, layouts: Layouts, hardware: Hardware) -> np.ndarray:
    """One message from a stage to the next: over the network as soon as a stage fills a node."""
    fabric = layouts.tp * layouts.cp * layouts.dp >= hardware.gpus_per_node
    rate = np.where(fabric, hardware.fabric_link.bytes_per_s, hardware.node_link.bytes_per_s)
    latency = np.where(fabric, hardware.fabric_link.latency_s, hardware.node_link.latency_s)
    return np.where(layouts.pp > 1, num_bytes / rate + latency, 0.0)
