"""The start on accelerators against a recorded `mindspore.communication`: what is called, in which order."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from conftest import clean_environment

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


# Every other start in one process: each gets a fresh MindGround, as far as it remembers anything.
SCENARIOS = """
    import logging
    from mindground.cli.exit_codes import run_command
    from mindground.runtime import collectives, distributed

    def outcome(rank, size, environment, cards=True):
        device._applied = collectives._rank = distributed._current = None
        calls.clear()
        for name in [name for name in os.environ if name.startswith(("MS_", "RANK_", "DEVICE_ID"))]:
            del os.environ[name]
        os.environ.update(environment)
        communication.get_rank, communication.get_group_size = note("get_rank", rank), note("get_group_size", size)
        ms.hal.is_available = lambda target: target == "CPU" or (cards and target == "Ascend")
        state["target"], found, said = "CPU", [], []
        def main(words):
            log = logging.getLogger("mindground")
            log.info("early")
            device.apply("auto")
            comm = distributed.get_comm()
            log.info("late")
            found.extend([comm.rank, comm.is_main])
        DeviceComm = distributed.DeviceComm
        DeviceComm.abort = lambda self, code: None
        err, sys.stderr = sys.stderr, __import__("io").StringIO()
        try:
            code = run_command(main, [])
        except SystemExit as end:
            code = end.code
        finally:
            said, sys.stderr = sys.stderr.getvalue().splitlines(), err
        return {"code": code, "calls": [call[0] for call in calls], "found": found, "said": said}

    print(json.dumps({name: outcome(*case) for name, case in json.loads(sys.argv[1]).items()}))
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each start comes to."""
    worker = {**MSRUN, "RANK_ID": "0", "DEVICE_ID": "0"}
    known = {**MSRUN, "MS_NODE_ID": "5", "DEVICE_ID": "5"}
    scheduler = {**MSRUN, "MS_ROLE": "MS_SCHED"}
    cases = {
        "scheduler": (0, 8, {**scheduler, "RANK_ID": "0"}),
        "scheduler without a card": (0, 8, scheduler, False),
        "scheduler on cpus": (0, 8, {**scheduler, "RANK_ID": "0"}, False),
        "scheduler of one rank": (0, 1, {**scheduler, "MS_WORKER_NUM": "1", "RANK_ID": "0"}),
        "worker on cpus": (0, 8, worker, False),
        "unknown, becomes 0": (0, 8, worker),
        "unknown, becomes 3": (3, 8, {**worker, "DEVICE_ID": "3"}),
        "another rank": (2, 8, known),
        "another size": (0, 1, known),
        "no such card": (9, 16, {**MSRUN, "MS_WORKER_NUM": "16", "MS_NODE_ID": "9", "DEVICE_ID": "9"}),
    }
    folder = tmp_path_factory.mktemp("starts")
    path = folder / "script.py"
    path.write_text(FAKE.replace("RANK,", "0,").replace("SIZE}", "8}") + textwrap.dedent(SCENARIOS), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path, json.dumps(cases)],
        env=clean_environment(), cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("name", ["scheduler", "scheduler without a card"])
def test_the_scheduler_only_serves_and_reports_nothing(name: str, starts: dict[str, Any]) -> None:
    assert starts[name] == {"code": 0, "calls": ["init"], "found": [], "said": []}


def test_a_scheduler_that_nobody_will_join_waits_for_nobody(starts: dict[str, Any]) -> None:
    assert starts["scheduler of one rank"] == {"code": 0, "calls": [], "found": [], "said": []}


@pytest.mark.parametrize("name", ["scheduler on cpus", "worker on cpus"])
def test_msrun_on_cpus_is_refused_before_anything_starts(name: str, starts: dict[str, Any]) -> None:
    told = starts[name]
    assert (told["code"], told["calls"], told["found"]) == (2, [], [])
    assert len(told["said"]) == 1 and "mpirun -n 8 python src/train.py" in told["said"][0]


def test_ranks_that_only_mindspore_knows(starts: dict[str, Any]) -> None:
    """Two machines without --node_rank: RANK_ID is 0 on all ranks beside the scheduler; one alone is the first."""
    first, fourth = starts["unknown, becomes 0"], starts["unknown, becomes 3"]
    assert first["found"] == [0, True] and first["said"] == ["late"]
    assert fourth["found"] == [3, False] and fourth["said"] == []
    assert first["calls"][:2] == ["set_device", "init"]


def test_launcher_and_mindspore_that_disagree(starts: dict[str, Any]) -> None:
    assert "rank 5 of 8, MindSpore sees rank 2 of 8" in starts["another rank"]["said"][-1]
    assert "MindSpore sees rank 0 of 1" in starts["another size"]["said"][-1]
    assert starts["another rank"]["code"] == starts["another size"]["code"] == 2


def test_more_ranks_than_cards_are_refused_before_the_collectives(starts: dict[str, Any]) -> None:
    told = starts["no such card"]
    assert told["code"] == 2 and told["calls"] == [] and "local rank 9 has no Ascend device" in told["said"][-1]
