"""Selection of devices, the start-up recipe, precision policies."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from mindground.errors import DeviceError
from mindground.runtime import device


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return str(path)


def test_prepare_before_mindspore_sets_what_is_unset(run_python, tmp_path: Path) -> None:
    code = """
        import os, sys
        from mindground.runtime import device
        before = os.sched_getaffinity(0)
        device.prepare()
        assert "mindspore" not in sys.modules and "mpi4py" not in sys.modules
        print(os.environ["ONEDNN_MAX_CPU_ISA"], os.environ["GLOG_v"], os.sched_getaffinity(0) == before)
    """
    # The user's values stand, even an empty one; what conftest.py prepared for this process is the default.
    done = run_python([script(tmp_path, code)], GLOG_v="4", ONEDNN_MAX_CPU_ISA="")
    assert done.stdout.split() == ["4", "True"], done.stderr
    assert (os.environ["GLOG_v"], os.environ["ONEDNN_MAX_CPU_ISA"]) == ("3", "AVX2")


def test_prepare_too_late_says_so(run_python, tmp_path: Path) -> None:
    code = "import mindspore\nfrom mindground.runtime import device\ndevice.prepare()\ndevice.prepare()\n"
    done = run_python([script(tmp_path, code)])
    assert done.stderr.count("was imported before") == 1


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="binding to one core means nothing on one core")
def test_ranks_bound_by_mpirun_get_the_jobs_cpus_and_pinning_by_hand_is_respected(run_python, tmp_path: Path) -> None:
    code = """
        import os
        from mindground.runtime import device
        bound = len(os.sched_getaffinity(0))
        device.prepare()
        print(bound, len(os.sched_getaffinity(0)))
    """
    path = script(tmp_path, code)
    bind = {"PRTE_MCA_hwloc_default_binding_policy": "core", "PRTE_MCA_rmaps_default_mapping_policy": ""}
    widened = run_python([path], ranks=2, **bind).stdout.split()
    assert widened == ["1", str(len(os.sched_getaffinity(0)))] * 2
    kept = run_python([path], ranks=2, MINDGROUND_KEEP_AFFINITY="1", **bind).stdout.split()
    assert kept == ["1", "1"] * 2
    pin = f"import os, runpy; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); runpy.run_path({path!r})"
    assert run_python(["-c", pin]).stdout.split() == ["1", "1"]


def test_apply_selects_proves_and_describes() -> None:
    import mindspore as ms

    before = ms.get_context("mode")
    try:
        info = device.apply(mode_name="PYNATIVE")
        assert info.target in ("Ascend", "GPU", "CPU") and info.target == ms.get_context("device_target")
        assert (info.mode, ms.get_context("mode")) == ("PYNATIVE", ms.PYNATIVE_MODE)
        assert device.apply(mode_name="GRAPH").mode == "GRAPH"
        assert ms.get_context("mode") == ms.GRAPH_MODE
        assert device.fast_cpu_kernels() is (info.target == "CPU")
        report = device.describe()
        assert report["device"] == info.target and report["mindspore"].startswith("2.") and report["cpus"]
    finally:
        ms.set_context(mode=before)


def test_fast_kernels_before_anything_is_applied(run_python, tmp_path: Path) -> None:
    code = """
        from mindground.runtime import device
        device.prepare()
        first = device.fast_cpu_kernels()
        from mindground.config import DeviceConfig
        print(first, device.apply().target == "CPU")
    """
    first, after = run_python([script(tmp_path, code)]).stdout.split()
    assert first == after


def _absent() -> str:
    from mindspore import hal

    return next((name for name in ("GPU", "Ascend") if not hal.is_available(name)), "")


def test_an_absent_device_is_refused_with_advice() -> None:
    missing = _absent()
    if not missing:
        pytest.skip("this machine has every device")
    with pytest.raises(DeviceError, match=f"{missing}.*--device_target"):
        device.apply(device_target=missing)


def test_a_failed_selection_is_not_taken_for_success(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = _absent()
    if not missing:
        pytest.skip("this machine has every device")
    import mindspore as ms

    # A backend that claims to be there and leaves MindSpore computing on the CPU.
    monkeypatch.setattr(ms.hal, "device_count", lambda target: 1)
    monkeypatch.setattr(ms, "set_device", lambda *args: None)
    with pytest.raises(DeviceError, match="computes on"):
        device._activate(missing, 0)
    with pytest.raises(DeviceError, match="at most 1"):
        device._activate(missing, 1)


def test_unknown_device() -> None:
    with pytest.raises(DeviceError, match="auto"):
        device.apply(device_target="TPU")
    with pytest.raises(DeviceError, match="'graph'.*PYNATIVE"):
        device.apply(mode_name="graph")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_refused_where_the_backend_lacks_it(precision: str) -> None:
    with pytest.raises(DeviceError, match="float32"):
        device._check_precision("CPU", precision)
    device._check_precision("Ascend", precision)


def test_no_bfloat16_on_cuda() -> None:
    device._check_precision("GPU", "float16")
    with pytest.raises(DeviceError, match="float16"):
        device._check_precision("GPU", "bfloat16")


def test_seeds_repeat() -> None:
    import random

    import mindspore as ms
    import numpy as np

    def draw() -> list[float]:
        device.seed_everything(5)
        normal = ms.ops.standard_normal((3,)).asnumpy().tolist()
        return [random.random(), float(np.random.rand()), *normal]

    assert draw() == draw()


def test_run_distribute_false_refuses_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    with pytest.raises(DeviceError, match="run_distribute"):
        device.apply(run_distribute=False)


@pytest.mark.parametrize(
    ("environment", "threads", "own"),
    [
        ({}, 0, None),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 3, {3, 4, 5}),
        ({"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "7", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, 0, None),
        # The second of two machines, where the environment has only the rank among all.
        ({"PMI_SIZE": "4", "PMI_RANK": "2", "MPI_LOCALNRANKS": "2"}, 3, {0, 1, 2}),
        ({"PMI_SIZE": "12", "PMI_RANK": "3"}, 1, None),
        ({"PMI_SIZE": "2", "PMI_RANK": "0", "MINDGROUND_KEEP_AFFINITY": "1"}, 3, None),
    ],
)
def test_ranks_of_one_machine_get_cpus_of_their_own(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], threads: int, own: set[int] | None
) -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given: list[set[int]] = []
    monkeypatch.setattr(device, "_by_core", lambda cpu: (0, 0, cpu))
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(device.os, "sched_setaffinity", lambda pid, cpus: given.append(set(cpus)))
    assert device._share_cpus("Ascend") == 0 and not given
    assert device._share_cpus("CPU") == threads
    assert {frozenset(cpus) for cpus in given} == ({frozenset(own)} if own else set())


def test_binding_survives_ended_threads_and_says_when_it_is_forbidden(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(error: OSError) -> None:
        def call(pid: int, cpus: list[int]) -> None:
            raise error

        monkeypatch.setattr(device.os, "sched_setaffinity", call)
        device._bind([0])

    refuse(ProcessLookupError(3, "No such process"))
    assert not caplog.records
    refuse(PermissionError(1, "Operation not permitted"))
    assert [record.getMessage() for record in caplog.records if "[0]" in record.getMessage()]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core cannot be shared out")
def test_every_thread_of_a_rank_stays_on_its_own_cpus(run_python, tmp_path: Path) -> None:
    code = """
        import os
        from pathlib import Path
        from mindground.runtime import device
        from mindground.config import DeviceConfig
        device.apply(device_target="CPU")
        device.apply(device_target="CPU")  # once is enough, also when it is asked for twice
        threads = [os.sched_getaffinity(int(task.name)) for task in Path("/proc/self/task").iterdir()]
        assert len(threads) > 1 and all(cpus == threads[0] for cpus in threads), threads
        print(*sorted(threads[0]), sep=",")
    """
    output = run_python([script(tmp_path, code)], ranks=2).stdout.split()
    first, second = ({int(cpu) for cpu in line.split(",")} for line in output)
    assert not first & second and len(first) == len(second) == len(os.sched_getaffinity(0)) // 2
