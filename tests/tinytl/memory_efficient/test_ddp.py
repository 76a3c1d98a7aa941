"""Two real processes, each with half of a batch, take the gradient that one takes of the whole."""

import datetime
import os
import time

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.support.lean_networks import assert_same_gradients, outcome, tinytl_net
from tinytl.memory_efficient import make_memory_efficient_

pytestmark = pytest.mark.slow  # test_data_parallel.py has two processes of ours

N_PROCESSES = 2
N_SAMPLES = 5 * N_PROCESSES
"""Labels are 0 to 4, again and again: each half has the labels that its rows have in the whole batch."""
LIMIT_S = 120
CASES = {
    "TinyTL-L+B": ("mobilenet_v2", "TinyTL-L+B", "frozen_bn"),
    "FT-Full": ("mobilenet_v2", "FT-Full", "group_norm"),
}


def net_and_batch(case, seed):
    torch.manual_seed(seed)
    net = tinytl_net(*CASES[case], resolution=32).double()
    net.classifier[0].p = 0.0  # each process would drop other features
    generator = torch.Generator().manual_seed(1)
    return net, torch.randn(N_SAMPLES, 3, 32, 32, dtype=torch.float64, generator=generator)


def work(rank, folder):
    """Runs in a process of its own: writes the gradients of two steps of each case."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    limit = datetime.timedelta(seconds=LIMIT_S)
    store = dist.FileStore(f"{folder}/store", N_PROCESSES)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=N_PROCESSES, timeout=limit)
    try:
        for case in CASES:
            # Another start in each process: DDP hands out the first one's.
            net, x = net_and_batch(case, seed=rank)
            make_memory_efficient_(net)
            ddp = DistributedDataParallel(net)  # the second step fails where a gradient was not made
            half = x.view(N_PROCESSES, -1, *x.shape[1:])[rank]
            steps = [outcome(ddp, half)[1] for _ in range(2)]
            torch.save(steps, f"{folder}/{case}-{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the processes have written what they found."""
    where = tmp_path_factory.mktemp("ddp")
    running = torch.multiprocessing.spawn(work, (str(where),), N_PROCESSES, join=False)
    try:
        deadline = time.monotonic() + LIMIT_S
        while not running.join(timeout=LIMIT_S):  # it returns early where one of them is done
            assert time.monotonic() < deadline, f"still running after {LIMIT_S} s"
    finally:
        for process in running.processes:
            process.kill()  # does nothing where it has ended
    return where


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_gradient_of_the_joint_batch(folder, case):
    net, x = net_and_batch(case, seed=0)
    _, expected = outcome(net, x)
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    for rank in range(N_PROCESSES):
        for step in torch.load(folder / f"{case}-{rank}.pt"):
            mine = {name.removeprefix("module."): grad for name, grad in step.items()}
            assert {name for name, grad in mine.items() if grad is not None} == trained
            assert_same_gradients(mine, expected, 1e-10)


@pytest.mark.parametrize("case", CASES)
def test_processes_agree_to_the_bit(folder, case):
    first, second = (torch.load(folder / f"{case}-{rank}.pt")[1] for rank in range(N_PROCESSES))
    for name, grad in first.items():
        assert grad is None or torch.equal(grad, second[name]), name
