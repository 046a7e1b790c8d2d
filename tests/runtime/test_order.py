"""The start on accelerators against a recorded `mindspore.communication`: what is called, in which order."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

# A MindSpore that claims to have eight cards, and notes what is asked of it. It computes on the CPU.
FAKE = """
import json, os, sys
from mindground.runtime import device
device.prepare()
import mindspore as ms
from mindspore import communication

calls = []
state = {"target": "CPU", "rank": RANK, "size": SIZE}

def note(name, answer=None):
    def call(*args, **more):
        calls.append([name, *map(str, args)])
        return answer
    return call

init_tensor = ms.Tensor.__init__
def new_tensor(self, *args, **more):
    if not calls or calls[-1][0] != "tensor":
        calls.append(["tensor"])
    init_tensor(self, *args, **more)

ms.Tensor.__init__ = new_tensor
ms.hal.is_available = lambda target: target in ("CPU", "Ascend")
ms.hal.device_count = lambda target: 8
def set_device(target, number=0):
    state["target"] = target
    calls.append(["set_device", target, str(number)])
ms.set_device = set_device
context = ms.get_context
ms.get_context = lambda name: state["target"] if name == "device_target" else context(name)
communication.init = note("init")
communication.get_rank = note("get_rank", state["rank"])
communication.get_group_size = note("get_group_size", state["size"])
communication.release = note("release")
"""


def run(run_python: Any, tmp_path: Path, code: str, rank: int = 0, size: int = 8, **environment: str) -> Any:
    path = tmp_path / "script.py"
    head = FAKE.replace("RANK", str(rank)).replace("SIZE", str(size))
    path.write_text(head + textwrap.dedent(code), encoding="utf-8")
    return run_python([path], timeout=600, **environment)


MSRUN = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "8", "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": "8118"}


def test_device_then_collectives_then_the_first_tensor(run_python: Any, tmp_path: Path) -> None:
    """Everything that a training imports comes first, as in a training: no tensor may be made by an import."""
    code = """
        import importlib, pkgutil, mindground
        for module in pkgutil.walk_packages(mindground.__path__, "mindground."):
            if not module.name.endswith("__main__") and ".bench." not in module.name:
                importlib.import_module(module.name)
        assert calls == [], calls
        info = device.apply("auto", threads=0)
        assert (info.target, info.device_id) == ("Ascend", 5)
        device.apply("auto")
        from mindground.runtime import distributed
        comm = distributed.get_comm()
        assert (comm.rank, comm.size, comm.reduces_on_device, comm.needs_watch) == (5, 8, True, True)
        limits = {name: os.environ[name] for name in ("HCCL_EXEC_TIMEOUT", "HCCL_CONNECT_TIMEOUT", "MS_TOPO_TIMEOUT")}
        print(json.dumps([calls, limits]))
        os._exit(0)
    """
    done = run(run_python, tmp_path, code, rank=5, **MSRUN, MS_NODE_ID="5", DEVICE_ID="5", HCCL_EXEC_TIMEOUT="90")
    assert done.returncode == 0, done.stderr[-2000:]
    calls, limits = json.loads(done.stdout.splitlines()[-1])
    assert [call[0] for call in calls] == ["set_device", "init", "get_rank", "get_group_size", "tensor"]
    assert calls[0] == ["set_device", "Ascend", "5"] and calls[1] == ["init"]
    assert limits == {"HCCL_EXEC_TIMEOUT": "90", "HCCL_CONNECT_TIMEOUT": "600", "MS_TOPO_TIMEOUT": "600"}


def test_the_scheduler_only_serves_and_reports_nothing(run_python: Any, tmp_path: Path) -> None:
    code = """
        import logging
        from mindground.cli.exit_codes import run_command
        def main(words):
            logging.getLogger("mindground").info("a report")
            device.apply("auto")
            print("trained")
        try:
            code = run_command(main, [])
        except SystemExit as end:
            code = end.code
        print(json.dumps([code, calls]))
    """
    done = run(run_python, tmp_path, code, **{**MSRUN, "MS_ROLE": "MS_SCHED"}, RANK_ID="0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == [0, [["init"]]] and "a report" not in done.stderr


def test_ranks_that_only_mindspore_knows(run_python: Any, tmp_path: Path) -> None:
    """Two machines without --node_rank: RANK_ID is 0 on all ranks beside the scheduler; one alone is the first."""
    code = """
        from mindground.cli.exit_codes import run_command
        from mindground.runtime import distributed
        import logging
        def main(words):
            log = logging.getLogger("mindground")
            log.info("too early to know")
            device.apply("auto")
            comm = distributed.get_comm()
            log.info("rank %d speaks", comm.rank)
            print(comm.rank, comm.is_main)
            sys.stdout.flush()
            os._exit(0)
        run_command(main, [])
    """
    said = []
    for rank in (0, 3):
        done = run(run_python, tmp_path, code, rank=rank, **MSRUN, RANK_ID="0", DEVICE_ID=str(rank))
        said.append((done.stdout.split(), "too early" in done.stderr, f"rank {rank} speaks" in done.stderr))
    assert said == [(["0", "True"], False, True), (["3", "False"], False, False)]


@pytest.mark.parametrize(
    ("rank", "size", "says"),
    [(2, 8, "rank 5 of 8, MindSpore sees rank 2 of 8"), (0, 1, "MindSpore sees rank 0 of 1")],
)
def test_launcher_and_mindspore_that_disagree(rank: int, size: int, says: str, run_python: Any, tmp_path: Path) -> None:
    environment = {**MSRUN, "MS_NODE_ID": "5", "DEVICE_ID": "5"}
    done = run(run_python, tmp_path, 'device.apply("Ascend")', rank=rank, size=size, **environment)
    assert done.returncode != 0 and says in done.stderr


def test_msrun_on_cpus_is_refused_before_anything_starts(run_python: Any, tmp_path: Path) -> None:
    code = """
        ms.hal.is_available = lambda target: target == "CPU"
        from mindground.cli.exit_codes import run_command
        code = run_command(lambda words: device.apply("auto"), [])
        assert calls == [], calls
        sys.exit(code)
    """
    for role in ("MS_WORKER", "MS_SCHED"):
        done = run(run_python, tmp_path, code, **{**MSRUN, "MS_ROLE": role}, RANK_ID="0")
        assert done.returncode == 2 and "mpirun -n 8 python src/train.py" in done.stderr, done.stderr[-2000:]
        assert "Traceback" not in done.stderr
