"""RMSIN and LAVT whole, which files of theirs are read, and what of them learns."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.probe import check_norms, tensors, tolerance
from golden.compute import fill, loss_and_gradients
from mindground.backbones.swin import SwinClassifier
from mindground.models.rmsin.builder import build_network
from mindground.models.rmsin.config import CimConfig, RmsinConfig, SwinConfig, TextConfig
from mindground.models.rmsin.losses import two_class_dice
from mindground.models.rmsin.network import Rmsin
from mindground.models.rmsin.weights import UPSTREAM_MAP, WEIGHT_MAPS
from mindground.nn.resize import resize_maps
from mindground.weights.load import parameter_shapes

# Parts of the last stage that no result depends on: they are kept for files, not computed, and do not learn.
IDLE = ("backbone.layers.3.res_gate.", "backbone.layers.3.visual_gate.", "backbone.layers.3.visual_residual.")


def settings_of(config: dict[str, Any], model: str, **text: Any) -> RmsinConfig:
    """The `model` section of a whole-model case, without dropout."""
    backbone, bert = config["backbone"], config["bert"]
    swin = {name: backbone[name] for name in ("embed_dim", "depths", "num_heads", "window_size")}
    cim = backbone.get("cim", {"img_shape": 0, "key_dim": 32, "num_heads": 8})
    return RmsinConfig(
        variant="rmsin" if model == "rmsin" else "lavt",
        swin=SwinConfig(**swin, drop_path_rate=0.0),
        text=TextConfig(**bert, dropout=0.0, **text),
        fusion_heads=backbone["num_heads_fusion"],
        cim=CimConfig(grid=round(cim["img_shape"] ** 0.5), key_dim=cim["key_dim"], heads=cim["num_heads"]),
        routing_dropout=0.0,
    )


def network(case: Case, **text: Any) -> Rmsin:
    """The network of a whole-model case; everything learns that can, unless `text` says otherwise."""
    size = case.config["img_size"]
    everything = {"train_layers": case.config["bert"]["num_hidden_layers"], "train_embeddings": True}
    settings = settings_of(case.config, case.meta["model"], **(text or everything))
    return build_network(settings, img_size=size if isinstance(size, int) else max(size))


class _Stages(nn.Cell):
    """Every intermediate that the cases hold, in one graph."""

    def __init__(self, net: Rmsin) -> None:
        super().__init__()
        self.net = net

    def construct(self, ids: ms.Tensor, mask: ms.Tensor, image: ms.Tensor) -> dict[str, ms.Tensor]:
        net = self.net
        text, real = net.encode_text(ids, mask)
        x = net.backbone.patch_embed(image)
        found = {"text": text, "patch_embed": ops.transpose(x, (0, 3, 1, 2))}
        maps = ()
        for index in range(4):
            layer = net.backbone.layers[index]
            for block in layer.blocks:
                x = block(x)
            batch, height, width, channels = x.shape
            fused = layer.hook.fusion(x.reshape((batch, height * width, channels)), text, real)
            found["stage" + str(index) + "/fused"] = fused
            fused = fused.reshape(x.shape)
            # The last stage's own result counts, too, although nothing follows it.
            x = layer.hook.gated(x, fused)
            if layer.merges:
                x = layer.downsample(x)
            found["stage" + str(index) + "/next"] = x.reshape((batch, -1, x.shape[3]))
            normal = net.backbone.norms[index](fused)
            found["stage" + str(index) + "/norm"] = normal.reshape((batch, -1, channels))
            maps = maps + (ops.transpose(normal, (0, 3, 1, 2)),)
        if net.interacts:
            maps = net.cim(maps)
            for index in range(4):
                found["cim" + str(index)] = maps[index]
        x = maps[3]
        for index in range(3):
            level = net.decoder.levels[index]
            fine = maps[2 - index]
            if net.interacts:
                joined = ops.concat((resize_maps(x, (fine.shape[2], fine.shape[3]), "aligned"), fine), 1)
                alpha, theta = level.conv2.routing(ops.relu(level.bn1(level.conv1(joined))))
                found["arc" + str(4 - index) + "/alpha"] = alpha
                found["arc" + str(4 - index) + "/theta"] = theta
            x = level(x, fine)
        low = net.decoder.classify(x)
        found["logits_low"] = low
        found["logits"] = resize_maps(low, (image.shape[2], image.shape[3]), "aligned")
        return found


def strided(case: Case, name: str, values: np.ndarray) -> np.ndarray:
    """One of so many values along every axis, as the case keeps them."""
    steps = case.config["stride"].get(name, [1] * values.ndim)
    return values[tuple(slice(None, None, step) for step in steps)]


def targets_of(mask: np.ndarray) -> list[ms.Tensor]:
    """Target (B, H, W) of 0 and 1 -> what `loss` takes after the outputs."""
    return tensors(mask[:, None].astype(np.float32), np.ones((len(mask), 1), np.float32))


class StepLoss(nn.Cell):
    """The total that training differentiates."""

    def __init__(self, net: Rmsin) -> None:
        super().__init__()
        self.net = net

    def construct(self, ids: ms.Tensor, mask: ms.Tensor, image: ms.Tensor, *targets: ms.Tensor) -> ms.Tensor:
        return self.net.loss(self.net(ids, mask, image), *targets)[0]


class LossOf(nn.Cell):
    """Cross-entropy and Dice of given logits; LAVT does not train with the latter, its cases state it beside."""

    def __init__(self, net: Rmsin) -> None:
        super().__init__()
        self.net = net

    def construct(self, logits: ms.Tensor, mask: ms.Tensor, has_mask: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        batch = logits.shape[0]
        flat = (logits.reshape((batch, -1)), mask.reshape((batch, -1)), has_mask.reshape((batch,)))
        return self.net.loss((logits,), mask, has_mask)[1], two_class_dice(*flat)


class Low(nn.Cell):
    """Logits of both classes before they are resized, and the loss terms that follow from them."""

    def __init__(self, net: Rmsin) -> None:
        super().__init__()
        self.net = net

    def construct(
        self, ids: ms.Tensor, mask: ms.Tensor, image: ms.Tensor, *targets: ms.Tensor
    ) -> tuple[ms.Tensor, ...]:
        text, real = self.net.encode_text(ids, mask)
        low = self.net.decoder(self.net.maps(image, text, real))
        difference = resize_maps(low[:, 1:2] - low[:, 0:1], (image.shape[2], image.shape[3]), "aligned")
        return (low, *self.net.loss((difference,), *targets))


def _check_training(case: Case, checks: Checks, net: Rmsin, given: list[ms.Tensor]) -> None:
    """One pass forward and one backward with batch statistics, and the running statistics after the former."""
    lavt = case.meta["model"] == "lavt"
    net.set_train(True)
    low, total, ce, *dice = (value.asnumpy() for value in Low(net)(*given))
    name = "train/logits_low"
    checks.output(name, low, case.outputs[name], tolerance(case, name))
    checks.loss("ce", ce, case.losses["ce"])
    checks.loss("dice", 0.0 if lavt else dice[0], case.losses["dice"])
    ours = UPSTREAM_MAP.to_theirs({name: item.asnumpy() for name, item in net.parameters_and_names()})
    for key in case.outputs:
        name = key.removeprefix("train/")
        if key != name and name != "logits_low":
            checks.output(key, ours[name], case.outputs[key], tolerance(case, key))
    scalar, gradients = loss_and_gradients(StepLoss(net), net, given)
    checks.loss("total", scalar, case.losses["total"])
    checks.loss("total of the parts", total, case.losses["total"])
    named = UPSTREAM_MAP.to_theirs(gradients)
    idle = [name for name in named if name.startswith(IDLE) and not name.endswith(("running_mean", "running_var"))]
    checks.true("the last gates do not learn", not any(named[name].any() for name in idle) and bool(idle))
    checks.true("the case knows of no gradient there", not set(idle) & set(case.grad_norms))
    check_norms(case, checks, named)


@claim(model=("rmsin", "lavt"), kind=("rmsin", "lavt"), whole=True, suite=("pynative",))
def check_network(case: Case, mode: str, checks: Checks) -> None:
    net = network(case)
    fill(net, case, UPSTREAM_MAP)
    net.set_train(False)
    given = tensors(*(case.inputs[name] for name in ("ids", "mask", "image")))
    found = {name: value.asnumpy() for name, value in _Stages(net)(*given).items()}
    for name in case.outputs:
        if not name.startswith("train/"):
            checks.output(name, strided(case, name, found[name]), case.outputs[name], tolerance(case, name))
    difference = found["logits"][:, 1:] - found["logits"][:, :1]
    if not case.losses:
        checks.output("what the network returns", net(*given)[0].asnumpy(), difference, 1e-5)
        return
    targets = targets_of(case.inputs["target"])
    ce, dice = (float(value.asnumpy()) for value in LossOf(net)(ms.Tensor(difference), *targets))
    for name, value in (("ce", ce), ("dice", dice), ("total", 0.9 * ce + 0.1 * dice)):
        checks.loss(f"eval/{name}", value, case.losses[f"eval/{name}"])
    _check_training(case, checks, net, [*given, *targets])


# ---- files -------------------------------------------------------------------------------------------------------


@claim(model=("rmsin", "lavt"), kind="swin_import", modes=("host",))
def check_import(case: Case, mode: str, checks: Checks) -> None:
    """Which entries of a classifier enter the backbone, which are resized, ignored, and what starts anew."""

    swin, backbone, note = case.config["swin"], case.config["backbone"], case.meta["note"]
    settings = {name: swin[name] for name in ("embed_dim", "depths", "num_heads", "window_size")}
    classifier = _state_of(SwinClassifier(swin["num_classes"], **settings), swin)
    bert = {"vocab_size": 8, "hidden_size": backbone["l_in"], "num_hidden_layers": 1, "num_attention_heads": 1}
    bert |= {"intermediate_size": 8, "max_position_embeddings": 8}
    net = build_network(settings_of({"backbone": backbone, "bert": bert}, case.config["target"]), img_size=480)
    shapes = {name: shape for name, shape in parameter_shapes(net).items() if not name.startswith("text_encoder.")}
    adapted = WEIGHT_MAPS["swin"].to_ours(classifier, shapes)
    # Ours are counted, not read: theirs of the same size are copied unchanged, to the same numbers.
    counted = [name for name in note["copied"] if name.endswith("relative_position_index")]
    resized = [name for name, _, _ in note["resized"] if not name.endswith("relative_position_index")]
    ours = {theirs for theirs, name in adapted.renamed.items() if name not in adapted.reshaped}
    checks.true("copied", ours == set(note["copied"]) - set(counted), str(sorted(ours ^ set(note["copied"]))[:5]))
    fitted = {theirs for theirs, name in adapted.renamed.items() if name in adapted.reshaped}
    checks.true("resized", fitted == set(resized), str(sorted(fitted ^ set(resized))[:5]))
    ignored = {name for name in adapted.ignored if not name.endswith("relative_position_index")}
    theirs = {name for name in note["ignored"] if not name.endswith("relative_position_index")}
    checks.true("ignored", ignored == theirs, str(sorted(ignored ^ theirs)[:5]))
    checks.true("nothing unexplained", not adapted.unexpected, str(adapted.unexpected[:5]))
    rest = _names_of({name: shape for name, shape in shapes.items() if name not in adapted.tensors})
    left = {
        name for name in note["left_at_init"] if not name.endswith(("num_batches_tracked", "relative_position_index"))
    }
    left = {name for name in left if not name.startswith("classifier.")}
    prefixed = {name.removeprefix("backbone.") for name in rest if not name.startswith("classifier.")}
    checks.true("left at the start", prefixed == left, str(sorted(prefixed ^ left)[:5]))
    index_files = [name for name in classifier if name.endswith("relative_position_index")]
    trackers = len(note["left_at_init"]) - len(left)
    counts = [
        len(ours) + len(counted),
        len(fitted) + len(index_files) - len(counted),
        len(ignored),
        len(prefixed) + trackers,
    ]
    checks.exact("counts", counts, case.outputs["counts"])


def _names_of(shapes: dict[str, tuple[int, ...]]) -> set[str]:
    return set(UPSTREAM_MAP.to_theirs({name: np.zeros(0, np.float32) for name in shapes}))


def _state_of(classifier: nn.Cell, swin: dict[str, Any]) -> dict[str, np.ndarray]:
    """A file of Microsoft's: the classifier's tensors, and the two kinds of buffers."""
    from mindground.backbones.swin_weights import CLASSIFIER_MAP

    state = CLASSIFIER_MAP.to_theirs({name: item.asnumpy() for name, item in classifier.parameters_and_names()})
    window, side = swin["window_size"], swin["img_size"] // 4
    for stage, depth in enumerate(swin["depths"]):
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            state[f"{name}.attn.relative_position_index"] = np.zeros((window**2, window**2), np.int64)
            if block % 2 and side > window:
                state[f"{name}.attn_mask"] = np.zeros((1,), np.float32)
        side //= 2
    return state


# ---- what learns -------------------------------------------------------------------------------------------------

GROUPS = ("backbone_no_decay", "backbone", "decoder", "text")


def groups_of(net: Rmsin) -> dict[str, int]:
    """Upstream's name of every parameter -> index of its group, -1 where it does not learn."""
    found = {name: -1 for name, _ in net.parameters_and_names()}
    names = {id(item): name for name, item in net.parameters_and_names()}
    for group in net.parameter_groups():
        found |= {names[id(item)]: GROUPS.index(group.name) for item in group.parameters}
    numbered = UPSTREAM_MAP.to_theirs({name: np.asarray(index) for name, index in found.items()})
    return {name: int(index) for name, index in numbered.items()}


def check_groups_of(checks: Checks, ours: dict[str, int], names: list[str], groups: list[int]) -> None:
    idle = {name for name in names if name.startswith(IDLE)}
    expected = {name: -1 if name in idle else int(group) for name, group in zip(names, groups, strict=True)}
    wrong = [name for name, group in expected.items() if ours.get(name) != group]
    checks.true("groups", not wrong, f"{len(wrong)} differ, first {wrong[:3]}")
    running = ("running_mean", "running_var")
    extra = {name for name in ours if name not in expected and not name.endswith(running)}
    checks.true("no further parameter", not extra, str(sorted(extra)[:3]))


@claim(model="rmsin", kind="param_groups", modes=("host",))
def check_groups(case: Case, mode: str, checks: Checks) -> None:
    """Names and sizes at full size. The gates of the last stage, which torch skips, are in no group of ours."""
    settings = settings_of(case.config, "rmsin", train_layers=case.config["bert_trainable_layers"])
    net = build_network(settings, img_size=480)
    names = case.meta["note"]["param_names"]
    check_groups_of(checks, groups_of(net), names, case.outputs["group"].tolist())
    sizes = UPSTREAM_MAP.to_theirs({name: np.asarray(item.size) for name, item in net.parameters_and_names()})
    checks.exact("numel", [int(sizes[name]) for name in names], case.outputs["numel"])
    decays = {group.name: group.weight_decay for group in net.parameter_groups()}
    expected: dict[str, Any] = dict.fromkeys(GROUPS) | {"backbone_no_decay": 0.0}
    checks.true("decays", decays == expected, str(decays))
