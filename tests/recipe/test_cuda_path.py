"""The GPU path as far as it goes without one: the model built without the CPU patches and run forward on fake CUDA tensors.

Fake tensors refuse operations over two devices, so a tensor left on the CPU or a CUDA-only branch that can't be reached is an
error. It needs torch's CUDA build (`make test-312`). What needs the device itself is marked `gpu`, and has run nowhere yet.
"""

import subprocess
import sys

import pytest
import torch

LAYOUTS = (
    "{}", '{"tp": 2, "sp": true}', '{"tied": false}', '{"cross_entropy": "unfused"}', '{"attention": "unfused"}',
    '{"recompute": "full"}',
)  # not cp: upstream pins an index in memory, which the driver does. fmt: skip


GPU_BACKENDS = (
    "attention=transformer_engine", "attention=flash_attn", "adam=apex", "adam=transformer_engine", "adam=deepspeed",
)  # fmt: skip


def run(*layouts: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-m", "tests.recipe.cuda_forward", *layouts]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.version.cuda is None, reason="torch is a CPU build here")
def test_forward_on_fake_cuda_tensors() -> None:
    done = run(*LAYOUTS)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if "operations" in line]
    assert len(lines) == len(LAYOUTS)
    assert all("0 strangers, loss torch.float32 on cuda:0" in line for line in lines)


@pytest.mark.skipif(torch.version.cuda is None, reason="torch is a CPU build here")
def test_a_weight_left_on_the_cpu_shows() -> None:
    done = run('{"planted": true}')
    assert done.returncode != 0
    assert "cpu" in done.stderr + done.stdout


@pytest.mark.gpu
def test_a_step_on_the_gpu_is_that_of_the_cpu() -> None:
    losses = []
    for device in ("cuda", "cpu"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.recipe.one_step", device], capture_output=True, text=True, check=True
        )
        losses.append([float(number) for number in done.stdout.split()[-4:]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", GPU_BACKENDS)
def test_gpu_backends_step_like_the_others(backend: str) -> None:
    plain, other = (
        subprocess.run([sys.executable, "-W", "ignore", "-m", "tests.recipe.one_step", "cuda", *extra], capture_output=True,
                       text=True, check=True).stdout.split()[-4:]
        for extra in ((), (backend,))
    )  # fmt: skip
    assert [float(x) for x in other] == pytest.approx([float(x) for x in plain], rel=1e-3)
