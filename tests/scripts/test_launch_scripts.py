"""The scripts of launchers and versions: each is read by what will read it, as far as that is here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "scripts" / "launch"


def launch(script: str, tmp_path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a script with msrun, srun and scontrol that print how they were called."""
    stubs = tmp_path / "bin"
    stubs.mkdir(exist_ok=True)
    bodies = {
        "msrun": 'echo "msrun $*"',
        "srun": 'while [ "${1#--}" != "$1" ]; do echo "srun $1"; shift; done; exec "$@"',
    }
    bodies["scontrol"] = "printf 'node-a\\nnode-b\\n'"
    for name, body in bodies.items():
        (stubs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (stubs / name).chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if k not in ("NODES", "NODE_RANK", "MASTER", "CARDS", "PORT")}
    # A checkout without .venv, so that the stubs are found first.
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True, exist_ok=True)
    if not (checkout / "scripts" / "launch").exists():
        (checkout / "scripts" / "launch").symlink_to(LAUNCH)
    return subprocess.run(
        ["sh", f"scripts/launch/{script}", *words],
        cwd=checkout,
        env=kept | {"PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_msrun_on_one_machine_and_on_two(tmp_path: Path) -> None:
    done = launch("msrun.sh", tmp_path, "--config", "my file.yaml")
    assert done.returncode == 0, done.stderr
    call = done.stdout
    assert "--worker_num=8 --local_worker_num=8 --node_rank=0 --master_addr=127.0.0.1" in call and "--join=True" in call
    assert call.rstrip().endswith("/src/train.py --config my file.yaml")
    two = launch("msrun.sh", tmp_path, NODES="2", NODE_RANK="1", MASTER="10.0.0.1", CARDS="4", PORT="9000").stdout
    assert "--worker_num=8 --local_worker_num=4 --node_rank=1 --master_addr=10.0.0.1 --master_port=9000" in two


@pytest.mark.parametrize("given", [{}, {"NODE_RANK": "0"}, {"MASTER": "10.0.0.1"}])
def test_several_machines_need_their_number_and_the_first_ones_address(given: dict[str, str], tmp_path: Path) -> None:
    done = launch("msrun.sh", tmp_path, NODES="2", **given)
    assert done.returncode == 2 and "NODE_RANK" in done.stderr and "MASTER" in done.stderr and not done.stdout


def test_slurm_starts_one_msrun_on_every_machine(tmp_path: Path) -> None:
    variables = {"SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "40017", "SLURM_NODEID": "1"}
    done = launch("slurm.sbatch", tmp_path, "--config", "a b.yaml", **variables)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "srun --kill-on-bad-exit=1" in lines and "srun --ntasks-per-node=1" in lines
    assert "--worker_num=16 --local_worker_num=8 --node_rank=1 --master_addr=node-a --master_port=20017" in lines[-1]
    assert lines[-1].endswith("--config a b.yaml")
    directives = re.findall(
        r"^#SBATCH --([\w-]+)=", (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {"nodes", "ntasks-per-node", "gres"} <= set(directives)


def _job(name: str) -> dict[str, Any]:
    return yaml.safe_load((LAUNCH / name).read_text(encoding="utf-8"))


def test_the_job_of_the_ascend_operator() -> None:
    job = _job("ascendjob.yaml")
    assert job["kind"] == "AscendJob" and job["metadata"]["labels"]["framework"] == "mindspore"
    parts = job["spec"]["replicaSpecs"]
    total = sum(part["replicas"] for part in parts.values())
    assert job["spec"]["runPolicy"]["schedulingPolicy"]["minAvailable"] == total == 3
    scheduler, worker = (parts[name]["template"]["spec"]["containers"][0] for name in ("Scheduler", "Worker"))
    assert "resources" not in scheduler and "src/train.py" in scheduler["command"]
    (command,) = worker["args"]
    for name in ("MS_WORKER_NUM", "MS_LOCAL_WORKER", "MS_NODE_RANK", "MS_SCHED_HOST", "MS_SCHED_PORT"):
        assert f"=${name}" in command
    assert "--join=True" in command and "\n" not in command
    cards = worker["resources"]["limits"]
    assert cards == worker["resources"]["requests"] and set(cards.values()) == {8}
    for container in (scheduler, worker):
        assert container["ports"][0]["name"] == "ascendjob-port"


def test_the_job_of_the_mpi_operator() -> None:
    job = _job("mpijob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    parts, slots = job["spec"]["mpiReplicaSpecs"], job["spec"]["slotsPerWorker"]
    launcher = parts["Launcher"]["template"]["spec"]["containers"][0]
    assert launcher["command"] == ["mpirun"] and all(isinstance(word, str) for word in launcher["args"])
    count = int(launcher["args"][launcher["args"].index("-n") + 1])
    assert count == slots * parts["Worker"]["replicas"] == 16
    worker = parts["Worker"]["template"]["spec"]["containers"][0]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == slots
    volumes = {volume["name"] for volume in parts["Worker"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in worker["volumeMounts"]} == volumes


def _requirements(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"([\w-]+)(.*)", line.strip()) for line in lines if line.strip() and line[0] != "#"]
    return {match[1]: match[2] for match in found if match}


def test_the_package_allows_what_the_requirements_pin() -> None:
    pinned, allowed = _requirements("requirements.txt"), _requirements("requirements-package.txt")
    assert pinned.pop("mindspore") == "==2.7.2" and allowed.pop("mindspore") == ">=2.7.2,<2.12"
    assert pinned.pop("mindformers") == "==1.8.0"
    assert pinned == allowed


def test_the_second_versions_take_the_other_requirements(tmp_path: Path) -> None:
    checkout, log = tmp_path / "my checkout", tmp_path / "log"
    (checkout / "scripts").mkdir(parents=True)
    for name in ("scripts/second_versions.sh", "scripts/environment.sh", "requirements.txt"):
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    stubs = checkout / ".venv-second" / "bin"
    stubs.mkdir(parents=True)
    for name in ("python", "mpirun"):
        (stubs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{log}"\n', encoding="utf-8")
        (stubs / name).chmod(0o755)

    def run(*words: str, **variables: str) -> list[str]:
        log.write_text("", encoding="utf-8")
        done = subprocess.run(
            ["sh", str(checkout / "scripts" / "second_versions.sh"), *words],
            env=os.environ | variables, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return log.read_text(encoding="utf-8").splitlines()

    calls = run("/golden", "bert*")
    assert (
        calls[0].startswith("python -m pip install")
        and calls[1] == "python tests/golden/run.py --root /golden --case bert*"
    )
    assert calls[2].startswith("mpirun -n 2 python src/train.py") and calls[3].startswith("python src/eval.py")
    installed = (checkout / ".venv-second" / "installed.txt").read_text(encoding="utf-8").splitlines()
    assert installed[:2] == ["mindspore==2.9.0", "mindformers==1.9.0"]
    assert not any(line.startswith("mindspore==2.7") for line in installed) and any(
        "mpi4py" in line for line in installed
    )
    assert not any("pip" in call for call in run()), "what is installed is installed again"
    assert any("pip" in call for call in run(MINDSPORE="2.10.0", MINDFORMERS=""))


def test_the_page_on_ranks_names_every_script_limit_and_version() -> None:
    from mindground.runtime.collectives import TIMEOUTS
    from mindground.runtime.versions import MATCHING
    from mindground.runtime.watch import EVERY_S, LIMIT_S

    page = (ROOT / "docs" / "ranks.md").read_text(encoding="utf-8")
    for path in LAUNCH.iterdir():
        assert f"scripts/launch/{path.name}" in page
    for name, value in TIMEOUTS.items():
        assert f"| `{name}` | {value} s |" in page
    for version, pair in MATCHING.items():
        assert f"| {version} | {pair.mindformers} | {pair.cann} |" in page
    assert f"every {EVERY_S:.0f} s" in page and f"for {LIMIT_S:.0f} s" in page
    assert EVERY_S + LIMIT_S < 60, "a job ends within a minute"
