"""What every launcher leaves in the environment of a rank: tables as data files, each with its source."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mindground.errors import DeviceError
from mindground.runtime import launcher
from mindground.runtime.collectives import check_launch
from mindground.runtime.launcher import UNKNOWN, Launch, find_launch

TABLES = sorted((Path(__file__).parent / "launchers").glob("*.json"))
CASES = [
    pytest.param(process, id=f"{path.stem}-{number}")
    for path in TABLES
    for number, process in enumerate(json.loads(path.read_text(encoding="utf-8"))["processes"])
]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of this test run, without what a launcher may have left in it."""
    for name in list(launcher.os.environ):
        if name.startswith(("OMPI_", "PMI", "SLURM_", "MS_", "RANK_", "MPI_", "DEVICE_ID")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("process", CASES)
def test_the_place_of_a_rank(process: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in process["environment"].items():
        monkeypatch.setenv(name, value)
    assert asdict(find_launch()) == process["expected"]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_table_names_its_source_and_gives_every_rank_its_own_card(path: Path) -> None:
    table = json.loads(path.read_text(encoding="utf-8"))
    assert len(table["source"]) > 20 and table["documentation"]
    places = [tuple(process["expected"][key] for key in ("rank", "local_rank")) for process in table["processes"]]
    known = [place for place in places if place[0] >= 0]
    assert len({rank for rank, _ in known}) == len(known) or path.stem == "slurm_batch_script"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "2"}, "OMPI_COMM_WORLD_RANK=2 does not fit"),
        ({"OMPI_COMM_WORLD_SIZE": "0", "OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_SIZE=0"),
        ({"OMPI_COMM_WORLD_SIZE": "two", "OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_SIZE='two'"),
        ({"OMPI_COMM_WORLD_SIZE": "-3", "OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_SIZE='-3'"),
        ({"PMI_SIZE": "9" * 30, "PMI_RANK": "0"}, "PMI_SIZE="),
        ({"PMI_SIZE": "2", "PMI_RANK": "0\x1b[2J"}, r"PMI_RANK='0\\+x1b"),
        ({"MS_ROLE": "MS_WORKER"}, "MS_WORKER_NUM=''"),
        ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "8", "MS_NODE_ID": "8"}, "MS_NODE_ID=8 does not fit"),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "x", "SLURM_LOCALID": "0"}, "SLURM_PROCID='x'"),
        ({"RANK_SIZE": "8", "RANK_ID": "8"}, "RANK_ID=8 does not fit"),
        ({"RANK_TABLE_FILE": "t.json", "RANK_ID": "1"}, "RANK_SIZE is not"),
    ],
)
def test_impossible_values_are_refused(environment: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match=says) as caught:
        find_launch()
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("counts", ["", "8(x)", "many", "8(x99999999999)", "3"])
def test_tasks_of_a_node_that_slurm_does_not_tell(counts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NUM_TASKS": "16", "TASKS_PER_NODE": counts}.items():
        monkeypatch.setenv(f"SLURM_STEP_{name}", value)
    for name, value in {"PROCID": "9", "LOCALID": "1", "NODEID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert find_launch() == Launch(16, 9, 1, 16, "srun")


def test_launchers_that_cannot_bring_ranks_together_are_refused_with_the_line_that_works() -> None:
    with pytest.raises(DeviceError, match=r"msrun cannot train on CPUs.*mpirun -n 4 python src/train\.py"):
        check_launch("CPU", Launch(4, 0, 0, 4, "msrun"))
    with pytest.raises(DeviceError, match=r"CPUs"):
        check_launch("CPU", Launch(4, UNKNOWN, 0, 4, "msrun", scheduler=True))
    with pytest.raises(DeviceError, match=r"srun started 16 tasks.*srun --ntasks-per-node=1 msrun.*slurm\.sbatch"):
        check_launch("Ascend", Launch(16, 3, 3, 8, "srun"))
    for target, by in (("CPU", "mpirun"), ("CPU", "srun"), ("Ascend", "msrun"), ("GPU", "mpirun"), ("CPU", "none")):
        check_launch(target, Launch(2 if by != "none" else 1, 0, 0, 2, by))
    check_launch("CPU", Launch(1, 0, 0, 1, "msrun"))
