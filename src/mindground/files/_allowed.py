"""The names that a weight file may use, and the function that handles each of them. No name is ever imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from mindground.errors import WeightsError, shown
from mindground.files._globals import (
    STORAGES,
    Call,
    Global,
    Instance,
    NumpyArray,
    NumpyType,
    array_from_bytes,
    named,
)
from mindground.files._sizes import checked_sizes
from mindground.files._tensors import TORCH_DTYPES, StorageRef, TensorRef

__all__ = ["ALLOWED"]

_UNREADABLE_DTYPES = (
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"),
    *("complex32", "chalf", "qint8", "quint8", "qint32", "quint4x2", "quint2x4", "bits8", "bits16"),
    *("per_tensor_affine", "per_channel_affine"),
)
"""Names that tensors of kinds without a counterpart in numpy mention; those tensors are refused by name."""


# -- torch ---------------------------------------------------------------------------------------------------------


def _tensor(call: Call) -> TensorRef:
    storage, offset, size, stride = call.args[:4]
    return _window(storage, offset, size, stride, None)


def _tensor_v3(call: Call) -> TensorRef:
    storage, offset, size, stride = call.args[:4]
    kind = call.args[6]
    if type(kind) is not Global or kind.name not in TORCH_DTYPES:
        raise _unreadable(call, named(kind))
    return _window(storage, offset, size, stride, TORCH_DTYPES[kind.name])


def _window(storage: Any, offset: Any, size: Any, stride: Any, kind: str | None) -> TensorRef:
    if not isinstance(storage, StorageRef):
        raise ValueError("a tensor without a storage")
    kind = kind or storage.kind
    if kind == "untyped":
        raise ValueError("a tensor without a type")
    (start,) = checked_sizes((offset,), "offset")
    return TensorRef(storage, start, checked_sizes(size, "size"), checked_sizes(stride, "stride"), kind)


def _unreadable(call: Call, kind: str) -> WeightsError:
    return WeightsError(
        f"{call.path}: tensors of type {kind.removeprefix('torch.')} cannot be read; convert them to float16 or float32"
    )


def _quantised(call: Call) -> Any:
    raise _unreadable(call, "quantised")


def _parameter(call: Call) -> Any:
    return call.args[0]


def _from_type(call: Call) -> Any:
    return call.again(call.args[0], call.args[2])


def _storage_from_bytes(call: Call) -> Any:
    (data,) = call.args
    if call.nested is None or type(data) not in (bytes, str):
        raise ValueError("a torch file inside another one, too deep")
    # A file holds each inner file once and is larger than all of them; reading one costs more than its bytes.
    call.copied(4 * len(data))
    return call.nested(data.encode("latin1") if type(data) is str else data)


def _torch_array(call: Call) -> Any:
    return call.args[0]


# -- numpy and Python ----------------------------------------------------------------------------------------------


def _numpy_reconstruct(call: Call) -> NumpyArray:
    return NumpyArray()


_DTYPE_CODE = re.compile(r"[<>=|]?[A-Za-z][A-Za-z]*[0-9]{0,6}(\[[0-9A-Za-z]{1,8}\])?")


def _numpy_dtype(call: Call) -> NumpyType:
    code = call.args[0]
    code = code.name if type(code) is Global else code
    if type(code) is not str or len(code) > 20 or not _DTYPE_CODE.fullmatch(code):
        raise ValueError(f"numpy type {shown(code)}")
    return NumpyType(np.dtype(code))


def _numpy_scalar(call: Call) -> Any:
    kind, raw = call.args
    return array_from_bytes(raw, kind, (), "C", call.budget).item()


def _numpy_frombuffer(call: Call) -> NumpyArray:
    raw, kind, shape, order = call.args
    return NumpyArray(array_from_bytes(raw, kind, shape, order, call.budget))


def _mapping(call: Call) -> dict[Any, Any]:
    """Of another dictionary, or of pairs (how Python 2 writes an OrderedDict)."""
    if not call.args:
        return {}
    (source,) = call.args
    if type(source) is dict:
        call.copied(100 * len(source))
        return dict(source)
    pairs = _items(call)
    if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise ValueError("a dictionary of something else than pairs")
    call.copied(100 * len(pairs))
    call.keys.check(key for key, _ in pairs)
    return dict(pairs)


def _default_mapping(call: Call) -> dict[Any, Any]:
    return {}


def _items(call: Call) -> Any:
    """The only argument, a list or the like; its copy is counted."""
    if not call.args:
        return ()
    (source,) = call.args
    if type(source) not in (list, tuple, set, frozenset):
        raise ValueError(f"items of {shown(source)}")
    call.copied(8 * len(source))
    return source


def _list(call: Call) -> list[Any]:
    return list(_items(call))


def _tuple(call: Call) -> tuple[Any, ...]:
    return tuple(_items(call))


def _set(call: Call) -> set[Any]:
    items = _items(call)
    call.copied(64 * len(items))
    call.keys.check(items)
    return set(items)


def _encode(call: Call) -> bytes:
    text, encoding = call.args
    if encoding not in ("latin1", "latin-1") or type(text) is not str:
        raise ValueError(f"bytes written as {shown(encoding)}")
    call.copied(len(text))
    return text.encode("latin1")


def _bytes(call: Call) -> bytes:
    if not call.args:
        return b""
    data = call.args[0]
    if type(data) is bytes:
        return data
    if type(data) is not str:
        raise ValueError("bytes made from something else than bytes")
    call.copied(len(data))
    return data.encode("latin1")


def _reconstructor(call: Call) -> Any:
    return call.again(call.args[0], ())


def _instance(call: Call) -> Instance:
    return Instance(call.target.full, call.args)


def _first(call: Call) -> Any:
    return call.args[0]


def _name_only(call: Call) -> Any:
    raise ValueError(f"{call.target.full} is called, although weight files only mention it")


_INERT = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "collections.deque",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    *(f"pathlib._local.{kind}" for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    "torch.device",
    "torch.optim.lr_scheduler.LambdaLR",
    "torch.optim.lr_scheduler.MultiStepLR",
    "torch.optim.lr_scheduler.StepLR",
    "easydict.EasyDict",
    "yacs.config.CfgNode",
    "detectron2.config.config.CfgNode",
    "addict.addict.Dict",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    *(
        f"omegaconf.nodes.{kind}Node"
        for kind in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")
    ),
    "typing.Any",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
)

ALLOWED: dict[str, Callable[[Call], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_device_tensor_from_numpy": _torch_array,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.storage._load_from_bytes": _storage_from_bytes,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch.Size": _tuple,
    "torch.Tensor": _name_only,
    "torch.nn.parameter.Parameter": _name_only,
    "torch.jit._pickle.build_intlist": _list,
    "torch.jit._pickle.build_doublelist": _list,
    "torch.jit._pickle.build_boollist": _list,
    "torch.jit._pickle.build_tensorlist": _list,
    "torch.jit._pickle.restore_type_tag": _first,
    "numpy.core.multiarray._reconstruct": _numpy_reconstruct,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy.core.numeric._frombuffer": _numpy_frombuffer,
    "numpy.dtype": _numpy_dtype,
    "numpy.ndarray": _name_only,
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _default_mapping,
    "builtins.dict": _mapping,
    "builtins.list": _list,
    "builtins.tuple": _tuple,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    **{f"builtins.{name}": _name_only for name in ("int", "long", "bool", "float", "complex", "str", "object")},
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstructor,
    **{f"torch.{name}": _name_only for name in STORAGES},
    **{f"torch.cuda.{name}": _name_only for name in STORAGES},
    **{f"torch.storage.{name}": _name_only for name in ("UntypedStorage", "_UntypedStorage")},
    **{f"torch.{name}": _name_only for name in (*TORCH_DTYPES, *_UNREADABLE_DTYPES)},
    **{f"numpy.{name}": _name_only for name in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool_")},
    **{name: _instance for name in _INERT},
}
"""Full name -> the function to run where the pickle calls it; a listed name may also appear uncalled."""
