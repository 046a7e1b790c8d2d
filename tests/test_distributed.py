"""Real ranks under a real mpirun: sums, disagreements, failures that must not hang."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from mindground.errors import DeviceError
from mindground.runtime import distributed, launcher
from mindground.runtime.distributed import SingleComm, agree, gather_objects
from mindground.runtime.launcher import launched_local_rank, launched_rank, launched_size

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
        assert not comm.reduces_on_device and comm.reducer([]) is None
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


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (1, 0, 0)),
        (
            {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
            (8, 5, 1),
        ),
        ({"PMI_SIZE": "4", "PMI_RANK": "2", "MPI_LOCALRANKID": "0"}, (4, 2, 0)),
        ({"RANK_SIZE": "8", "RANK_ID": "7", "DEVICE_ID": "3"}, (8, 7, 3)),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, (1, 0, 0)),
    ],
)
def test_launchers(variables: dict[str, str], expected: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for names in launcher._LAUNCHERS:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (launched_size(), launched_rank(), launched_local_rank()) == expected


@pytest.mark.parametrize(("size", "rank"), [("2", "2"), ("0", "0"), ("two", "0")])
def test_impossible_launcher_values(size: str, rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", size)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", rank)
    with pytest.raises(DeviceError, match="OMPI_COMM_WORLD"):
        launched_size()


def test_objects_of_any_length_through_equal_arrays() -> None:
    # Two ranks in turn: what the second collective of each would have delivered, put together by hand.
    values = ["short", {"long": list(range(100))}]
    sent: list[list[np.ndarray]] = [[], []]
    for rank, value in enumerate(values):

        def record(array: np.ndarray, rank: int = rank) -> np.ndarray:
            sent[rank].append(array)
            return np.stack([array, array]) if array.size > 1 else np.asarray([[array[0]], [1000]], np.int32)

        gather_objects(value, record)
    arrays = np.stack([sent[0][1], sent[1][1]])
    lengths = np.stack([sent[0][0], sent[1][0]])
    replies = iter([lengths, arrays[:, : int(lengths.max())]])
    assert gather_objects(values[0], lambda array: next(replies)) == values


def test_get_comm_without_a_launcher() -> None:
    assert distributed.get_comm().size == 1
