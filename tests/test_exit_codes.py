"""What a user sees when something is wrong, and what a script sees."""

from __future__ import annotations

import pytest

from mindground.cli.exit_codes import run_command
from mindground.engine.progress import duration
from mindground.engine.signals import RunInterrupted
from mindground.errors import ConfigError


def test_a_user_error_is_one_sentence_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: object) -> int:
        raise ConfigError("train.batch_size=0 must be at least 1")

    assert run_command(main, []) == 2
    assert capsys.readouterr().err == "ConfigError: train.batch_size=0 must be at least 1\n"
    assert run_command(main, [], label="error") == 2
    assert capsys.readouterr().err == "error: train.batch_size=0 must be at least 1\n"
    assert run_command(main, ["--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_keeps_its_trace_and_a_stop_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(argv: object) -> int:
        raise KeyError("x")

    def stopped(argv: object) -> int:
        raise RunInterrupted("saved last.ckpt", 143)

    assert run_command(broken, []) == 1
    assert "KeyError" in capsys.readouterr().err
    assert run_command(stopped, []) == 143
    assert "saved last.ckpt" in capsys.readouterr().err
    assert run_command(lambda argv: 0, ["--x"]) == 0


def test_a_full_disk_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: object) -> int:
        with open("/dev/full", "w", encoding="utf-8") as stream:
            stream.write("a record of the run")
        return 0

    assert run_command(main, []) == 2
    assert "the disk is full" in capsys.readouterr().err

    def broken(argv: object) -> int:
        raise PermissionError(13, "not yours")

    assert run_command(broken, []) == 1
    assert "Traceback" in capsys.readouterr().err


def test_durations() -> None:
    assert [duration(s) for s in (5, 75, 3725)] == ["0:05", "1:15", "1:02:05"]


def test_a_missing_package_is_named_and_a_missing_part_of_ours_is_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: object) -> int:
        import package_that_nobody_has  # noqa: F401

        return 0

    def broken(argv: object) -> int:
        import mindground.part_that_nobody_wrote  # noqa: F401

        return 0

    assert run_command(main, []) == 2
    told = capsys.readouterr().err
    assert "package_that_nobody_has is not installed" in told and "requirements.txt" in told and "Traceback" not in told
    assert run_command(broken, []) == 1
    assert "Traceback" in capsys.readouterr().err
