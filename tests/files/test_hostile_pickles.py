"""Small pickles that ask for a crash, for endless work or for all memory: one sentence each, at every door."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

import pytest

from files.limited import outcomes, refused
from files.opcodes import (
    PROTO,
    all_forms,
    forms,
    integer,
    name,
    nested,
    shared,
    table,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    tuple_of,
)

MILLION = 1_000_000
STATE = table((text("a"), tensor()))


def _keyed(key: bytes) -> dict[str, bytes]:
    return {
        "dict": b"}" + key + b"Ns",
        "dicts": b"}(" + key + b"Nu",
        "old dict": b"(" + key + b"Nd",
        "set": b"\x8f(" + key + b"\x90",
        "frozenset": b"(" + key + b"\x91",
        "OrderedDict": name("collections", "OrderedDict") + tuple_of(b"](" + tuple_of(key, b"N") + b"e") + b"R",
        "set call": name("builtins", "set") + tuple_of(b"](" + key + b"e") + b"R",
        "object": name("argparse", "Namespace") + b")R" + key + b"Ns",
    }


KEYS = {"nested": nested(200_000), "shared": shared(40), "list": b"]", "long": integer(1 << 70)}


@pytest.mark.parametrize("key", KEYS)
def test_keys_and_members_are_verified_before_they_are_hashed(key: str, tmp_path: Path) -> None:
    refused(all_forms(list(_keyed(KEYS[key]).values()), tmp_path), "is the key")


def test_what_may_be_a_key(tmp_path: Path) -> None:
    value = {"a": 1, 2: 3, 1.5: 4, True: 5, None: 6, b"x": 7, ("a", (1, 2)): 8, "s": {1, ("b", 2)}, "f": frozenset("c")}
    path = tmp_path / "plain.p"
    path.write_bytes(pickle.dumps(value, 4))
    from mindground.files.plain_torch import read_plain_torch

    assert read_plain_torch(path) == value


def test_hashes_that_were_chosen_to_collide(tmp_path: Path) -> None:
    prime = (1 << 61) - 1  # Python's hash of an integer is its remainder
    many = b"}(" + b"".join(integer(n * prime << 10) + b"N" for n in range(1, 100_000)) + b"u"
    refused(forms(many, tmp_path), "is the key")
    tuples = b"\x8f(" + b"".join(integer(n) + b"\x85" for n in range(100_000)) + b"\x90"
    refused(forms(tuples, tmp_path), "tuples")


@pytest.mark.parametrize("levels", [34, 200])
def test_shared_values_in_messages(levels: int, tmp_path: Path) -> None:
    bomb = shared(levels)
    cases = [
        bomb + b"Q",
        bomb,
        name("numpy", "dtype") + tuple_of(bomb) + b"R",
        name("_codecs", "encode") + tuple_of(text("a"), bomb) + b"R",
        name("torch._utils", "_rebuild_tensor_v2")
        + tuple_of(tuple_of(text("storage"), bomb, text("0"), text("cpu"), integer(4)) + b"Q")
        + b"R",
        tuple_of(text("storage"), name("torch", "FloatStorage"), bomb, text("cpu"), integer(4)) + b"Q",
        tuple_of(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), bomb) + b"Q",
        name("torch._utils", "_rebuild_tensor_v3") + tuple_of(*[b"N"] * 6, bomb) + b"R",
    ]
    refused(all_forms(cases, tmp_path))


def test_models_that_hold_themselves(tmp_path: Path) -> None:
    refused(forms(b"}q\x01" + text("model") + b"h\x01s" + text("a") + tensor() + b"s", tmp_path), "holds itself")


def test_wrappers_of_wrappers_of_shared_dictionaries(tmp_path: Path) -> None:
    body = b"}"
    for level in range(1, 6):
        entries = [(text(str(n)), b"h" + bytes([level])) for n in range(250)]
        body = body + b"q" + bytes([level]) + b"0" + table(*entries)
    refused(forms(table((text("model"), body), (text("a"), tensor())), tmp_path), "too often")


def test_shared_values_beside_tensors(tmp_path: Path) -> None:
    jobs = forms(table((text("a"), tensor()), (text("b"), shared(40))), tmp_path)
    weights = [job for job in jobs if job[0] == "read_weights" and job[1].name != "bare.p"]
    refused([job for job in jobs if job not in weights])
    assert [kind for kind, _ in outcomes(weights)] == ["read", "read"]


def test_lists_that_no_program_can_visit(tmp_path: Path) -> None:
    bodies = [shared(40), nested(100_000), b"]q\x01h\x01a", b"](" + shared(30) + b"NNe"]
    refused([job for job in all_forms(bodies, tmp_path) if job[0] != "read_weights"], "hostile")


def test_many_instructions_in_a_small_archive(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for body in (b"]", b"N0", b"\x8f", b"\x94"):
        content = PROTO + b"]" + body * (30 * MILLION // len(body)) + b"."
        path.write_bytes(torch_zip(content, method=zipfile.ZIP_DEFLATED))
        assert path.stat().st_size < 200_000
        refused([("read_weights", path), ("read_plain_torch", path)], "more objects than")


def test_a_pickle_that_is_too_large_for_its_archive(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(torch_zip(PROTO + b"]" * (100 << 20), method=zipfile.ZIP_DEFLATED))
    refused([("read_weights", path), ("read_plain_torch", path)], "claims to hold")


@pytest.mark.parametrize("kind", ["list", "tuple", "set", "OrderedDict", "encode", "bytes", "bytearray"])
def test_copies_are_counted(kind: str, tmp_path: Path) -> None:
    long_text = text("a" * (1 << 20))
    long_list = b"](" + b"N" * 100_000 + b"e"
    source, call, arguments = {
        "list": (long_list, name("builtins", "list"), b"h\x01\x85"),
        "tuple": (long_list, name("builtins", "tuple"), b"h\x01\x85"),
        "set": (b"](" + b"".join(map(integer, range(50_000))) + b"e", name("builtins", "set"), b"h\x01\x85"),
        "OrderedDict": (
            b"}(" + b"".join(integer(n) + b"N" for n in range(50_000)) + b"u",
            name("collections", "OrderedDict"),
            b"h\x01\x85",
        ),
        "encode": (long_text, name("_codecs", "encode"), b"h\x01" + text("latin1") + b"\x86"),
        "bytes": (long_text, name("builtins", "bytes"), b"h\x01\x85"),
        "bytearray": (long_text, name("builtins", "bytearray"), b"h\x01\x85"),
    }[kind]
    again = b"h\x02" + arguments + b"R"
    body = source + b"q\x010" + call + b"q\x020](" + again * 20_000 + b"e"
    jobs = [job for job in forms(body, tmp_path) if job[0] != "read_plain_pickle"]
    refused(jobs, "in memory")


def test_inner_torch_files_are_counted(tmp_path: Path) -> None:
    inner = torch_legacy(PROTO + table((text("a"), tensor()), (text("b"), b"](" + b"N" * 50_000 + b"e")) + b".")
    call = name("torch.storage", "_load_from_bytes") + b"q\x020"
    body = b"B" + struct.pack("<I", len(inner)) + inner + b"q\x010" + call + b"](" + b"h\x02h\x01\x85R" * 20_000 + b"e"
    jobs = [job for job in forms(body, tmp_path) if job[0] == "read_weights" and job[1].name == "bare.p"]
    refused(jobs, "in memory")


def test_numbers_of_remembered_values(tmp_path: Path) -> None:
    puts = [b"r\x00\x00\x00\x10", b"r\xff\xff\xff\xff", b"p268435456\n", b"p-1\n"]
    refused(all_forms([b"K\x01" + put for put in puts], tmp_path), "remembered")


def test_gaps_in_the_numbers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.p"
    path.write_bytes(b"(lp1\nS'some text'\np7\nag7\na.")  # the first number is 1, and 2 to 6 were left out
    from mindground.files.pickles import read_plain_pickle

    assert read_plain_pickle(path) == ["some text", "some text"]
    for get in (b"g3\n", b"g-1\n", b"g8\n"):
        path.write_bytes(b"(lp1\nS'some text'\np7\na" + get + b"a.")
        refused([("read_plain_pickle", path)], "damaged")


def test_names_of_tensors(tmp_path: Path) -> None:
    leaves = b"}(" + b"".join(text(str(n)) + b"h\x01" for n in range(100_000)) + b"u"
    for number, key in enumerate(("x" * MILLION, "x" * 4000)):
        body = table((text("t"), tensor() + b"q\x01"), (text(key), leaves))
        jobs = [job for job in forms(body, tmp_path) if job[0] == "read_weights" and job[1].name != "bare.p"]
        refused(jobs, ("characters", "in memory")[number])


def test_long_class_names(tmp_path: Path) -> None:
    long = b"X" + struct.pack("<I", MILLION) + b"t" * MILLION
    refused(forms(long + b"q\x010](" + b"h\x01h\x01\x93" * 50_000 + b"e", tmp_path), "short text")


def test_an_expanded_tensor_needs_one_copy_within_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for step, sizes, says in (
        (0, [(1 << 28,), (1 << 20, 1 << 20), (2,) * 31], "in memory"),
        (0, [(1 << 48,) * 32], ""),
        (1, [(1 << 28,), (2,) * 31], "reaches number"),
    ):
        for size in sizes:
            body = table((text("a"), tensor(size=size, stride=(step,) * len(size))))
            path.write_bytes(torch_zip(PROTO + body + b"."))
            refused([("read_weights", path), ("read_plain_torch", path)], says)
    body = table((text("a"), tensor(size=((1 << 24) - 64,), stride=(0,))))  # nearly 64 MiB, once
    path.write_bytes(torch_zip(PROTO + body + b"."))
    assert outcomes([("read_weights", path)]) == [("read", "WeightFile")]


def test_sizes_before_they_are_multiplied(tmp_path: Path) -> None:
    for size in ((1,) * 33, (1,) * 100_000, (1 << 62,) * 100_000, (-1,), (1 << 49,)):
        body = table((text("a"), tensor(size=size, stride=(0,) * len(size))))
        jobs = [job for job in forms(body, tmp_path) if job[1].name != "bare.p"]
        refused(jobs)
