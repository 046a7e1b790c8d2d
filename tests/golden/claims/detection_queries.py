"""Parts of models that match queries to objects: deformable attention, pixel decoder, decoder layer, matching."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.detection_parts import compare_loss
from golden.claims.probe import tensors
from golden.compute import Apply, fill
from mindground.detection.deformable import DeformableAttention
from mindground.detection.masked_attention import MaskedDecoderLayer, attention_bias
from mindground.detection.matching import match_queries, matching_costs
from mindground.detection.pixel_decoder import PixelDecoder
from mindground.detection.points import sample_at, sample_each, uncertain_points
from mindground.detection.queries import query_instances
from mindground.detection.weights import DECODER_LAYER_RULES, DEFORMABLE_RULES, PIXEL_DECODER_RULES, part_map


class _Deformable(nn.Cell):
    """The attention on maps of fixed sizes, as the mean of its product with a weight or as it is."""

    def __init__(
        self, net: DeformableAttention, sizes: list[list[int]], core: bool = False, mean: bool = False
    ) -> None:
        super().__init__()
        self.net, self.core, self.mean = net, core, mean
        self.sizes = tuple((height, width) for height, width in sizes)

    def construct(self, weight: ms.Tensor, x: ms.Tensor, position: ms.Tensor, reference: ms.Tensor) -> ms.Tensor:
        if self.core:
            return self.net.core(x, x + position, reference, self.sizes)
        found = self.net(x, position, reference, self.sizes)
        return (found * weight).mean() if self.mean else found


@claim(model="rsprompter", holds=("input/reference_points", "output/core"))
def check_deformable(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map, given = case.config, part_map("deformable attention", DEFORMABLE_RULES), case.inputs
    net = DeformableAttention(settings["embed_dims"], settings["heads"], settings["levels"], settings["points"])
    fill(net, case, weight_map)
    arrays = tensors(*(given[name] for name in ("w", "query", "query_pos", "reference_points")))
    sizes = settings["spatial_shapes"]
    checks.output("core", _Deformable(net, sizes, core=True)(*arrays).asnumpy(), case.outputs["core"], 1e-5)
    checks.output("out", _Deformable(net, sizes)(*arrays).asnumpy(), case.outputs["out"], 1e-5)
    compare_loss(case, checks, _Deformable(net, sizes, mean=True), net, arrays, weight_map)


class _PixelLoss(nn.Cell):
    def __init__(self, net: PixelDecoder) -> None:
        super().__init__()
        self.net = net

    def construct(self, weight: ms.Tensor, *maps: ms.Tensor) -> ms.Tensor:
        feature, memories = self.net(maps)
        total = (feature * weight).mean()
        for memory in memories:
            total = total + ops.square(memory).mean()
        return total


class _PixelMaps(nn.Cell):
    def __init__(self, net: PixelDecoder) -> None:
        super().__init__()
        self.net = net

    def construct(self, *maps: ms.Tensor) -> tuple[ms.Tensor, ...]:
        feature, memories = self.net(maps)
        return (feature, *memories)


@claim(model="rsprompter", holds=("config.gn_groups", "output/memory.2", "output/mask_feature"))
def check_pixel_decoder(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map = case.config, part_map("pixel decoder", PIXEL_DECODER_RULES)
    names = ("in_channels", "feat", "out", "layers", "heads", "ffn", "gn_groups")
    net = PixelDecoder(*(settings[name] for name in names))
    fill(net, case, weight_map)
    maps = tensors(*(case.inputs[f"feat.{level}"] for level in range(len(settings["strides"]))))
    for name, value in zip(("mask_feature", "memory.0", "memory.1", "memory.2"), _PixelMaps(net)(*maps), strict=True):
        checks.output(name, value.asnumpy(), case.outputs[name], 1e-5)
    compare_loss(case, checks, _PixelLoss(net), net, [*tensors(case.inputs["w"]), *maps], weight_map)


class _LayerLoss(nn.Cell):
    def __init__(self, net: MaskedDecoderLayer, mean: bool) -> None:
        super().__init__()
        self.net, self.mean = net, mean

    def construct(self, weight: ms.Tensor, x: ms.Tensor, position: ms.Tensor, memory: ms.Tensor, place: ms.Tensor,
                  blocked: ms.Tensor) -> ms.Tensor:  # fmt: skip
        found = self.net(x, position, memory, memory + place, attention_bias(blocked))
        return (found * weight).mean() if self.mean else found


@claim(model="rsprompter", holds=("input/key_pos", "input/mask", "output/out"))
def check_decoder_layer(case: Case, mode: str, checks: Checks) -> None:
    settings, weight_map, given = case.config, part_map("decoder layer", DECODER_LAYER_RULES), case.inputs
    net = MaskedDecoderLayer(settings["embed_dims"], settings["heads"], settings["ffn"])
    fill(net, case, weight_map)
    arrays = tensors(
        *(given[name] for name in ("w", "query", "query_pos", "key", "key_pos")), given["mask"].astype(np.float32)
    )
    checks.output("out", _LayerLoss(net, False)(*arrays).asnumpy(), case.outputs["out"], 1e-5)
    compare_loss(case, checks, _LayerLoss(net, True), net, arrays, weight_map)


@claim(model="rsprompter", holds=("config.oversample_ratio", "output/uncertain"))
def check_points(case: Case, mode: str, checks: Checks) -> None:
    given, settings = case.inputs, case.config
    logits, masks, points = given["logits"][:, 0], given["masks"].astype(np.float32), given["points"]
    for name, maps in (("sampled", logits), ("mask_sampled", masks)):
        checks.output(name, Apply(sample_at)(*tensors(maps, points)).asnumpy(), case.outputs[name], 1e-5)
        checks.output(f"{name} on the host", sample_each(maps, points), case.outputs[name], 1e-5)
    number = settings["num_points"]
    assert given["oversample"].shape[1] == number * settings["oversample_ratio"]
    assert given["extra"].shape[1] == number - int(number * settings["importance_sample_ratio"])
    chosen = uncertain_points(logits, given["oversample"], given["extra"], number)
    checks.exact("uncertain", chosen, case.outputs["uncertain"])


@claim(model="rsprompter", holds=("input/gt_points", "output/cost_dice"), modes=("host",))
def check_matching(case: Case, mode: str, checks: Checks) -> None:
    given, weights = case.inputs, case.config["weights"]
    assert case.config["dice_eps"] == 1.0
    costs = matching_costs(
        given["cls_logits"], given["pred_points"], given["gt_points"], given["gt_labels"],
        weights["cls"], weights["mask"], weights["dice"],
    )  # fmt: skip
    for name, ours in (("cost_cls", costs.classes), ("cost_mask", costs.masks), ("cost_dice", costs.dice)):
        checks.output(name, ours, case.outputs[name], 1e-5)
    checks.output("total", costs.total, case.outputs["total"], 1e-5)
    found = match_queries(costs.total)
    objects = np.zeros(len(costs.total), np.int64)
    objects[found.queries] = found.objects + 1
    checks.exact("gt_inds", objects, case.outputs["gt_inds"])
    labels = np.where(objects > 0, given["gt_labels"][objects - 1], -1)
    checks.exact("labels", labels, case.outputs["labels"])


@claim(model="rsprompter", holds=("input/cls", "output/query.0"), modes=("host",))
def check_instances(case: Case, mode: str, checks: Checks) -> None:
    given, limit = case.inputs, case.config["max_per_image"]
    for image, meta in enumerate(given["img_meta"]):
        size = (int(meta[2]), int(meta[3]))
        inside = (int(meta[2] * meta[5]), int(meta[3] * meta[4]))
        found = query_instances(given["cls"][image], given["masks"][image], inside, size, limit)
        for name, ours in (("scores", found.scores), ("class_scores", found.class_scores), ("boxes", found.boxes)):
            checks.output(f"{name}.{image}", ours, case.outputs[f"{name}.{image}"], 1e-5)
        for name, ours in (("labels", found.labels), ("query", found.queries), ("masks", found.masks)):
            checks.exact(f"{name}.{image}", ours, case.outputs[f"{name}.{image}"])
