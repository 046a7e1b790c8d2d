"""Pickles: calls of code, windows beyond a storage, and few bytes that stand for endless work or memory."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterator

from attack import opcodes as op
from attack.child import EVIDENCE
from attack.hostile.case import Case, either, read, refused

__all__ = ["cases"]

_SHELL = op.text(f"touch {EVIDENCE}")
_BARE = "array_pickle"
_PLAIN = ("refs_pickle", "cache_pickle", "pair_list", "token_table")
_LIST = op.name("builtins", "list")


def _wrapped(make: Callable[[str, str, bytes], Case], name: str, body: bytes) -> Iterator[Case]:
    """A whole pickle as it is, in a PyTorch zip, and in an old PyTorch file."""
    yield make(f"{name} (pickle)", _BARE, body)
    yield make(f"{name} (zip)", "torch_zip", op.in_zip(body))
    yield make(f"{name} (legacy)", "torch_legacy", op.in_legacy(body))


def cases() -> Iterator[Case]:
    """All of them."""
    for name, body in _calls().items():
        yield from _wrapped(refused, f"call: {name}", body)
    for name, body in _inert().items():
        yield read(f"kept as data: {name} (zip)", "torch_zip", op.in_zip(body))
        yield read(f"kept as data: {name} (legacy)", "torch_legacy", op.in_legacy(body))
    for name, body in _windows().items():
        yield from _wrapped(either, f"window: {name}", body)
    for name, body in _bombs().items():
        yield from _wrapped(either, f"bomb: {name}", body)
    for name, code in _instructions().items():
        body = b"\x80\x04" + code + b"."
        for reader in (_BARE, "refs_pickle", "pair_list"):
            yield either(f"instruction: {name}", reader, body)
    yield from _legacy_views()
    for reader in _PLAIN:
        yield from _plain(reader)
    yield from _pair_lists()


def _calls() -> dict[str, bytes]:
    system = op.name("os", "system")
    rebuild = op.name("torch._tensor", "_rebuild_from_type_v2")
    inner = op.in_legacy(op.pickled(op.call(system, _SHELL)))
    attribute = op.call(op.name("builtins", "getattr"), op.name("os", "path"), op.text("os"))
    parameter = op.call(
        op.name("torch._utils", "_rebuild_parameter"),
        op.name("torch._utils", "_rebuild_tensor_v2"),
        b"\x89",
        op.ORDERED,
    )
    tag = op.call(op.name("torch.jit._pickle", "restore_type_tag"), op.name("builtins", "set"), op.text("x"))
    objects = op.call(op.name("numpy", "dtype"), op.text("O"), b"\x89", b"\x88")
    array = op.call(
        op.name("numpy.core.multiarray", "_reconstruct"),
        op.name("numpy", "ndarray"),
        op.tuple_of(op.number(0)),
        op.text("b"),
    )
    shape = op.tuple_of(op.number(1))
    return {
        "GLOBAL and REDUCE": op.pickled(op.call(system, _SHELL)),
        "STACK_GLOBAL": op.pickled(op.text("posix") + op.text("system") + b"\x93" + op.tuple_of(_SHELL) + b"R", 4),
        "dotted attribute": op.pickled(
            op.text("torch") + op.text("Tensor.__class__") + b"\x93" + op.tuple_of(_SHELL) + b"R", 4
        ),
        "dotted module": op.pickled(op.text("collections.OrderedDict") + op.text("__init__.__globals__") + b"\x93", 4),
        "allowed name, divided elsewhere": op.pickled(
            op.text("torch") + op.text("nn.parameter.Parameter") + b"\x93" + op.tuple_of(_SHELL) + b"R", 4
        ),
        "space in a name": op.pickled(b"ctorch\nTensor x\n"),
        "INST": op.pickled(b"(" + _SHELL + b"ios\nsystem\n"),
        "OBJ": op.pickled(b"(" + system + _SHELL + b"o"),
        "NEWOBJ": op.pickled(op.name("subprocess", "Popen") + op.tuple_of(_SHELL) + b"\x81"),
        "NEWOBJ_EX": op.pickled(
            op.name("subprocess", "Popen") + op.tuple_of(_SHELL) + op.table((op.text("shell"), b"\x88")) + b"\x92", 4
        ),
        "EXT1": op.pickled(b"\x82\x01"),
        "EXT2": op.pickled(b"\x83\x01\x00"),
        "EXT4": op.pickled(b"\x84\x01\x00\x00\x00"),
        "getattr": op.pickled(attribute),
        "an instance is called": op.pickled(op.call(op.call(op.name("argparse", "Namespace")), _SHELL)),
        "a dict is called": op.pickled(op.call(b"}", _SHELL)),
        "text is called": op.pickled(op.call(op.text("os.system"), _SHELL)),
        "what a parameter rebuilds is called": op.pickled(op.call(parameter, _SHELL)),
        "type rebuilt from text": op.pickled(
            op.call(rebuild, op.text("os.system"), op.name("torch", "Tensor"), op.tuple_of(_SHELL), b"N")
        ),
        "type rebuilt from itself": op.pickled(
            op.call(
                rebuild,
                rebuild,
                op.name("torch", "Tensor"),
                op.tuple_of(rebuild, b"N", op.tuple_of(b"N"), b"N"),
                b"N",
            )
        ),
        "reconstructor of text": op.pickled(
            op.call(op.name("copyreg", "_reconstructor"), _SHELL, op.name("builtins", "object"), b"N")
        ),
        "tagged name is called": op.pickled(op.call(tag, b"]")),
        "BUILD on a tensor": op.state_dict(("a", op.tensor() + op.table((op.text("storage"), op.text("x"))) + b"b")),
        "numpy array of objects": op.state_dict(
            ("a", array + op.tuple_of(op.number(1), shape, objects, b"\x89", b"C\x08AAAAAAAA") + b"b")
        ),
        "numpy scalar object": op.pickled(
            op.call(op.name("numpy.core.multiarray", "scalar"), objects, b"C\x08AAAAAAAA")
        ),
        "numpy type by expression": op.pickled(
            op.call(op.name("numpy", "dtype"), op.text("__import__('os')"), b"\x89")
        ),
        "persistent text": op.pickled(b"Pfile:///etc/passwd\n"),
        "persistent module": op.pickled(
            op.tuple_of(op.text("module"), op.name("builtins", "object"), op.text("/etc/passwd"), op.text("x")) + b"Q"
        ),
        "storage by an absolute path": op.state_dict(("a", op.tensor(op.storage("/etc/passwd")))),
        "storage by a path upward": op.state_dict(("a", op.tensor(op.storage("../data.pkl")))),
        "a file in a file": op.state_dict(
            (
                "a",
                op.call(op.name("torch.storage", "_load_from_bytes"), b"B" + struct.pack("<I", len(inner)) + inner),
            )
        ),
        "defaultdict of a function": op.pickled(op.call(op.name("collections", "defaultdict"), system)),
        "name of a script in a plain file": op.pickled(op.call(op.name("__torch__.os", "system"), _SHELL)),
        "encode by another codec": op.pickled(op.call(op.name("_codecs", "encode"), op.text("abc"), op.text("rot13"))),
        "STOP alone": op.pickled(b""),
        "a mark is the result": op.pickled(b"("),
    }


def _inert() -> dict[str, bytes]:
    """Names that are allowed, used in ways that only a machine without code can take."""
    namespace = op.call(op.name("argparse", "Namespace"))
    kept = op.table((op.text("__class__"), op.text("x")), (op.text("__dict__"), b"}"))
    slots = op.tuple_of(b"N", op.table((op.text("name"), op.text("x"))))
    types = op.call(op.name("builtins", "set"), op.array_of(op.name("torch", "float32")))
    factory = op.call(op.name("collections", "defaultdict"), _LIST)
    return {
        "BUILD of a namespace": op.state_dict(("m", namespace + kept + b"b"), ("a", op.tensor())),
        "BUILD with slots": op.state_dict(("m", namespace + slots + b"b"), ("a", op.tensor())),
        "set of names": op.state_dict(("x", types), ("a", op.tensor())),
        "defaultdict of lists": op.pickled(factory + op.text("a") + op.tensor() + b"s"),
    }


def _windows() -> dict[str, bytes]:
    """Tensors that do not lie within their storage, or only when sizes overflow."""
    wider = (b"\x89", op.ORDERED, op.name("torch", "complex128"), op.ORDERED)
    found = {
        "stride below zero": op.tensor(offset=3, stride=(-1,)),
        "offset below zero": op.tensor(offset=-4),
        "offset beyond": op.tensor(offset=4),
        "offset of 64 bits": op.tensor(offset=2**64),
        "offset a float": op.tensor(offset=op.real(2.0)),
        "size beyond": op.tensor(size=(1_000_000,)),
        "stride beyond": op.tensor(size=(2,), stride=(1_000_000,)),
        "huge stride of one element": op.tensor(size=(1,), stride=(2**62,)),
        "stride of 63 bits": op.tensor(size=(2,), stride=(2**63,)),
        "stride that overflows": op.tensor(size=(2,), stride=(2**64 + 1,)),
        "stride whose bytes overflow": op.tensor(size=(2,), stride=(2**62 + 1,)),
        "product that overflows to 0": op.tensor(size=(2**32, 2**32), stride=(0, 0)),
        "product that overflows to 4": op.tensor(size=(2**62, 4, 4), stride=(0, 0, 0)),
        "empty with a huge side": op.tensor(size=(0, 2**62), stride=(1, 1)),
        "65 dimensions": op.tensor(size=(1,) * 65, stride=(1,) * 65),
        "200000 dimensions": op.tensor(size=(1,) * 200_000, stride=(1,) * 200_000),
        "size of text": op.tensor(size=op.tuple_of(op.text("4"))),
        "size a float": op.tensor(size=op.tuple_of(op.real(4.0))),
        "size not a number": op.tensor(size=op.tuple_of(op.real(float("nan")))),
        "wider type": op.tensor(function="_rebuild_tensor_v3", tail=wider),
        "1 GB by stride 0": op.tensor(size=(2**28 - 4,), stride=(0,)),
        "4 GB by stride 0": op.tensor(size=(2**30,), stride=(0,)),
        "2 GB of bfloat16 by stride 0": op.tensor(op.storage("0", 4, "BFloat16Storage"), size=(2**29,), stride=(0,)),
        "storage count below zero": op.tensor(op.storage("0", -4)),
        "storage count huge": op.tensor(op.storage("0", 2**62)),
        "storage count a float": op.tensor(op.storage("0", op.real(4.0))),
        "storage count of text": op.tensor(op.storage("0", op.text("4"))),
        "storage count true": op.tensor(op.storage("0", b"\x88")),
    }
    return {name: op.state_dict(("a", window)) for name, window in found.items()}


def _fan(levels: int, width: int) -> bytes:
    """Dicts in which every key holds the same next dict: width ** levels nodes, no tensor among them."""
    held = b"}q\x01"
    for level in range(levels):
        again = b"h" + bytes([level + 1])
        held = op.table(*[(op.number(key), again if key else held) for key in range(width)]) + b"q" + bytes([level + 2])
    return held


def _bombs() -> dict[str, bytes]:
    tensor = ("a", op.tensor())
    twice = op.doubled(34)
    leaves = op.table(*[(op.number(key), b"N") for key in range(1000)]) + b"q\x01"
    wide = op.table(*[(op.number(key), b"h\x01" if key else leaves) for key in range(100)])
    copies = b"h\x01h\x00\x85R" * 20_000
    encoded = op.text("x" * 1_000_000) + b"q\x00" + op.text("latin1") + b"q\x02\x86q\x030"
    return {
        "key of 200000 nested tuples": op.pickled(b"}" + op.nested(200_000) + b"Ns"),
        "key of 2 ** 40 shared tuples": op.pickled(b"}" + op.doubled(40) + b"Ns"),
        "set of 200000 nested tuples": op.pickled(b"(" + op.nested(200_000) + b"\x91", 4),
        "set of 2 ** 40 shared tuples": op.pickled(b"\x8f(" + op.doubled(40) + b"\x90", 4),
        "metadata of 2 ** 40 shared tuples": op.state_dict(tensor, ("meta", op.doubled(40))),
        "metadata of 200000 nested tuples": op.state_dict(tensor, ("meta", op.nested(200_000))),
        "list that holds itself": op.state_dict(tensor, ("meta", b"]q\x05h\x05a")),
        "model that holds itself": op.pickled(
            b"}q\x00(" + op.text("model") + b"h\x00" + op.text("a") + op.tensor() + b"u"
        ),
        "model of 250 ** 5 shared dicts": op.state_dict(tensor, ("model", _fan(5, 250))),
        "1 MB key over 100000 leaves": op.pickled(
            op.table((op.text("t"), op.tensor()), (op.text("k" * 1_000_000), wide))
        ),
        "one text 100000 times": op.state_dict(
            tensor, ("meta", b"](" + op.text("x" * 1_000_000) + b"2" * 100_000 + b"e")
        ),
        "persistent id of 2 ** 34": op.pickled(twice + b"Q"),
        "storage class of 2 ** 34": op.state_dict(("a", op.storage(kind=twice))),
        "storage key of 2 ** 34": op.state_dict(("a", op.storage(twice))),
        "storage count of 2 ** 34": op.state_dict(("a", op.storage("0", twice))),
        "numpy type of 2 ** 34": op.pickled(op.call(op.name("numpy", "dtype"), twice, b"\x89")),
        "encoded text of 2 ** 34": op.pickled(op.call(op.name("_codecs", "encode"), twice, op.text("latin1"))),
        "encoding of 2 ** 34": op.pickled(op.call(op.name("_codecs", "encode"), op.text("a"), twice)),
        "result of 2 ** 34": op.pickled(twice),
        "20000 copies of a list": op.pickled(
            op.array_of(b"N" * 50_000) + b"q\x000](" + _LIST + b"q\x01h\x00\x85R" + copies + b"e"
        ),
        "20000 copies of 1 MB of text": op.pickled(
            encoded + b"](" + op.name("_codecs", "encode") + b"q\x01h\x03R" + b"h\x01h\x03R" * 20_000 + b"e"
        ),
        "5 million empty lists": op.pickled(b"]" * 5_000_000),
        "5 million marks": op.pickled(b"(" * 5_000_000),
    }


def _instructions() -> dict[str, bytes]:
    """One instruction whose length or number is out of all proportion."""
    return {
        "LONG4 of 2 GB": b"\x8b\xff\xff\xff\x7f",
        "LONG4 of less than nothing": b"\x8b\xff\xff\xff\xff",
        "BINUNICODE8 of 2 ** 63": b"\x8d" + b"\xff" * 7 + b"\x7f",
        "BINBYTES8 of 2 ** 40": b"\x8e" + struct.pack("<Q", 2**40),
        "BYTEARRAY8 of 2 ** 33": b"\x96" + struct.pack("<Q", 2**33),
        "FRAME of 2 ** 60": b"\x95" + struct.pack("<Q", 2**60) + b"N",
        "LONG_BINPUT 2 ** 31 - 1": b"Nr\xff\xff\xff\x7f",
        "LONG_BINPUT 2 ** 28": b"Nr\x00\x00\x00\x10",
        "PUT 10 ** 30": b"Np1" + b"0" * 30 + b"\n",
        "INT of 100000 digits": b"I" + b"9" * 100_000 + b"\n",
        "LONG of 100000 digits": b"L" + b"9" * 100_000 + b"L\n",
        "PROTO 200": b"\x80\xc8N",
        "UNICODE with half an escape": b"V\\ud800\\u12\n",
        "STRING without an end": b"S'abc\n",
        "BINUNICODE of half a pair": b"X\x03\x00\x00\x00\xed\xa0\x80",
        "persistent name with a line end": b"(" + op.text("a\n\x1b[2Jb") + b"tQ",
        "name with control characters": b"c\x1b[2J\rx\nsystem\n",
    }


def _legacy_views() -> Iterator[Case]:
    for name, (start, count) in {
        "start below zero": (-1, 2),
        "count beyond": (2, 4),
        "start huge": (2**62, -(2**62) + 2),
    }.items():
        view = op.tuple_of(op.text("v"), op.number(start), op.number(count))
        window = op.tensor(op.storage("0", 4, "FloatStorage", view), size=(2,))
        yield refused(f"view of a storage: {name}", "torch_legacy", op.in_legacy(op.state_dict(("a", window))))
    below = op.state_dict(("a", op.tensor(op.storage("0", -4))))
    yield refused("count below zero in the data", "torch_legacy", op.in_legacy(below, (("0", -4, bytes(400)),)))


def _plain(reader: str) -> Iterator[Case]:
    """Pickles of annotations: nothing but plain values may stand there."""
    item = op.text("a.png"), op.text("x"), op.tuple_of(*[op.number(1)] * 4), op.text("s"), b"]"
    record = [(op.text(key), op.number(1)) for key in ("ann_id", "image_id", "category_id")]
    record += [(op.text("split"), op.text("train")), (op.text("sentences"), b"]")]
    for name, body in {
        "os.system": op.call(op.name("os", "system"), _SHELL),
        "EXT1": b"\x82\x01",
        "persistent name": b"Pabc\n",
        "persistent id of 2 ** 34": op.doubled(34) + b"Q",
        "key of 200000 nested tuples": b"}" + op.nested(200_000) + b"Ns",
        "key of 2 ** 40 shared tuples": b"}" + op.doubled(40) + b"Ns",
        "BUILD on a list": b"]" + op.table((op.text("x"), b"N")) + b"b",
        "text of 2 ** 34": op.array_of(op.tuple_of(op.doubled(34), *item[1:])),
        "box of 2 ** 34": op.array_of(op.tuple_of(*item[:2], op.doubled(34), *item[3:])),
        "id of 2 ** 30": op.array_of(op.table((op.text("ref_id"), op.doubled(30)), *record)),
        "list that holds itself": b"]q\x00h\x00a",
    }.items():
        yield refused(f"plain pickle: {name}", reader, op.pickled(body))


def _pair_lists() -> Iterator[Case]:
    shared = op.pickled(op.tuple_of(op.tensor(), op.doubled(31)))
    yield refused("tensor beside 2 ** 31 shared tuples", "pair_list", op.in_zip(shared))
    huge = op.tuple_of(op.text("a.png"), op.text("x"), op.tuple_of(*[op.number(10**400)] * 4), op.text("s"), b"]")
    yield refused("box of 400 digits", "pair_list", op.pickled(op.array_of(huge)))
    surrogate = pickle.dumps([("a.png", "x", [1, 2, 3, 4], "\ud800 ship", [])], 2)
    yield either("half a surrogate pair in a sentence", "pair_list", op.in_legacy(surrogate, ()))
    for place, name in enumerate(("image", "id", "box", "sentence", "words")):
        for value in (None, 5, [], {"a": 1}, "x" * 10_000, float("nan")):
            item = ["a.png", "x", [1, 2, 3, 4], "ship", []]
            item[place] = value
            content = pickle.dumps([tuple(item)], 2)
            yield either(f"{name} is {value!r:.12}", "pair_list", op.in_legacy(content, ()))
