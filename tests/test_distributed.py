"""Real ranks under a real mpirun: sums, disagreements, failures that must not hang."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from mindground.runtime import distributed
from mindground.runtime.distributed import SingleComm, agree

HEAD = """
import sys, threading, time
import numpy as np
from mindground.runtime import device
from mindground.runtime import distributed
device.prepare()
from mindground.config import DeviceConfig
comm = distributed.get_comm()
"""


def script(tmp_path: Path, text: str, head: str = HEAD) -> str:
    path = tmp_path / "script.py"
    path.write_text(head + textwrap.dedent(text), encoding="utf-8")
    return str(path)


def test_two_ranks_sum_gather_and_agree(run_python, tmp_path: Path) -> None:
    code = """
        big = np.arange(300_000, dtype=np.float32) * (comm.rank + 1)
        comm.all_reduce_mean_(big)
        assert np.array_equal(big, np.arange(300_000, dtype=np.float32) * 1.5)
        assert comm.all_gather_object({"rank": comm.rank}) == [{"rank": 0}, {"rank": 1}]
        assert comm.broadcast_object(["from", comm.rank]) == ["from", 0]
        array = np.full((3, 2), float(comm.rank))
        comm.broadcast_array_(array)
        assert not array.any() and not comm.reduces_on_device and not comm.needs_watch
        try:
            comm.graph_all_reduce()
        except distributed.DeviceError as error:
            assert "inside the compiled step" in str(error)
        else:
            raise AssertionError("collectives inside a graph on a CPU")
        assert distributed.get_comm() is comm is distributed.current_comm()
        distributed.agree(comm, "same on both")
        try:
            distributed.agree(comm, f"mine is {comm.rank}")
        except distributed.DeviceError as error:
            assert "[1]" in str(error)
        else:
            raise AssertionError("a disagreement went unnoticed")
        comm.barrier()
        print("rank", comm.rank, "of", comm.size, comm.is_main)
    """
    done = run_python([script(tmp_path, code)], ranks=2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(done.stdout.strip().splitlines()) == ["rank 0 of 2 True", "rank 1 of 2 False"]


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("threading.Thread(target=lambda: 1 / 0).start(); time.sleep(60)", "ZeroDivisionError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "rank 1"),
    ],
    ids=["exception", "thread", "killed"],
)
def test_a_failing_rank_ends_the_job(failure: str, says: str, run_python, tmp_path: Path) -> None:
    code = f"""
        comm.barrier()
        if comm.rank == 1:
            {failure}
        comm.barrier()
        print("survived")
    """
    begin = time.monotonic()
    done = run_python([script(tmp_path, code)], ranks=2)
    assert time.monotonic() - begin < 60
    assert done.returncode != 0
    assert says in done.stderr and "survived" not in done.stdout


def test_a_rank_that_ends_early_ends_the_job(run_python, tmp_path: Path) -> None:
    code = """
        distributed.EXIT_TIMEOUT_S = 2.0
        if comm.rank == 1:
            sys.exit(3)
        comm.barrier()
        print("survived")
    """
    done = run_python([script(tmp_path, code)], ranks=2)
    assert done.returncode != 0
    assert "rank 1 is done" in done.stderr and "survived" not in done.stdout


def test_one_process_never_imports_mpi(run_python, tmp_path: Path) -> None:
    done = run_python([script(tmp_path, "print(comm.size, 'mpi4py' in sys.modules)")])
    assert done.stdout.split() == ["1", "False"], done.stderr


def test_launcher_and_mpi_that_disagree_are_refused(run_python, tmp_path: Path) -> None:
    done = run_python([script(tmp_path, "")], OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="1")
    assert done.returncode != 0
    assert "rank 1 of 2" in done.stderr and "rank 0 of 1" in done.stderr and "mpirun" in done.stderr


def test_several_ranks_without_mpi4py_get_advice(run_python, tmp_path: Path) -> None:
    head = "import sys\nsys.modules['mpi4py'] = None\n" + HEAD
    done = run_python([script(tmp_path, "", head)], OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")
    assert "mpi4py cannot be imported" in done.stderr and "requirements.txt" in done.stderr


def test_single_comm() -> None:
    comm = SingleComm()
    buffer = np.arange(3, dtype=np.float32)
    comm.all_reduce_mean_(buffer)
    comm.barrier()
    assert buffer.tolist() == [0, 1, 2]
    assert (comm.all_gather_object("a"), comm.broadcast_object("b")) == (["a"], "b")
    agree(comm, "alone")
    with pytest.raises(ValueError, match="float32"):
        comm.all_reduce_mean_(np.zeros(3))
    with pytest.raises(ValueError, match="contiguous"):
        comm.all_reduce_mean_(np.zeros((4, 4), np.float32)[:, 0])


def test_get_comm_without_a_launcher() -> None:
    assert distributed.get_comm().size == 1
