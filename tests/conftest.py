"""What every test needs: start-up settings before MindSpore is imported, equal seeds, a clean folder."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mindground.runtime import device

device.prepare()

ROOT = Path(__file__).resolve().parents[1]
MPIRUN = Path(sys.executable).with_name("mpirun")


def clean_environment() -> dict[str, str]:
    """This environment without what a launcher left in it, with `src` importable and mpirun allowed."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("OMPI_COMM_", "PMIX_", "PMI_", "RANK_", "MS_", "SLURM_"))
    }
    return kept | {
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all",
        action="store_true",
        help="run every full-size reference case in every mode, not only those that a change reaches, and what takes "
        "minutes to compile",
    )


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """A command sets up logging for its process; what it set must not reach the next test."""
    logger = logging.getLogger("mindground")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(params=["graph", "pynative"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs in both modes of MindSpore; a whole file asks with `pytestmark = usefixtures("mode")`."""
    import mindspore as ms

    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    yield request.param
    ms.set_context(mode=before)


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python *arguments` in an empty folder; `ranks` > 1 puts a real mpirun before it."""

    def run(
        arguments: Sequence[str], *, ranks: int = 1, timeout: float = 60.0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        if ranks > 1:
            command = [str(MPIRUN), "-n", str(ranks), *command]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=clean_environment() | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
