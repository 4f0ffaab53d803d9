"""`last_k` and `freeze_first_k` mean one thing in all families: the neck goes with the top."""

import pytest
import timm
import torch
from transformers import AutoConfig

from tlx.backbones.timm.grouping import layer_groups
from tlx.backbones.transformers import stacks, trunks
from tlx.methods import strategies
from tlx.methods.stages import Group, Layout

IMAGES = {
    # network: (layer groups that k counts, what last_k k=1 trains)
    "resnet18": (5, ("layer4",)),
    "vit_tiny_patch16_224": (13, ("blocks.11", "norm")),
    "beit_base_patch16_224": (13, ("blocks.11", "fc_norm")),
    "deit_tiny_distilled_patch16_224": (13, ("blocks.11", "norm")),
    "convnext_atto": (5, ("stages.3", "head.norm")),
    "swin_tiny_patch4_window7_224": (5, ("layers.3", "norm")),
    "mobilenetv2_100": (8, ("blocks.6", "conv_head", "bn2")),
    "mobilenetv3_small_050": (7, ("blocks.5", "conv_head")),
    "mobilenetv4_conv_small_035": (6, ("blocks.4", "conv_head", "norm_head")),
    "lcnet_050": (7, ("blocks.5", "conv_head")),
    "densenet121": (5, ("features.denseblock4", "features.norm5")),
    "vgg11_bn": (8, ("features.25", "features.26", "pre_logits")),
    "fasternet_t0": (5, ("stages.3", "conv_head")),
    "mambaout_femto": (5, ("stages.3", "head")),
    "poolformer_s12": (5, ("stages.3", "head.norm")),
    "caformer_s18": (5, ("stages.3", "head.norm")),
    "convformer_s18": (5, ("stages.3", "head.norm")),
    "pit_ti_224": (4, ("transformers.2", "norm")),
    "csatv2": (5, ("stages.3", "head.norm")),
}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
XLM = {"emb_dim": 16, "n_layers": 2, "n_heads": 2}
TEXTS = {
    "bert": (SIZES, 3, ("encoder.layer.1", "pooler")),
    "roberta": (SIZES, 3, ("encoder.layer.1",)),
    "gpt2": ({"n_embd": 16, "n_layer": 2, "n_head": 2}, 3, ("h.1", "ln_f")),
    "llama": (SIZES, 3, ("layers.1", "norm")),
    "xlm": (XLM, 3, ("attentions.1", "layer_norm1.1", "ffns.1", "layer_norm2.1")),
    "flaubert": (XLM, 3, ("attentions.1", "layer_norm1.1", "ffns.1", "layer_norm2.1")),
}


def of_image_network(name):
    with torch.device("meta"):
        full, trunk = (timm.create_model(name, num_classes=n) for n in (2, 0))
    groups, fine, _, neck = layer_groups(trunk, full)
    names = sorted(name for name, _ in trunk.named_parameters())
    assert sorted(name for group in fine for name in group.parameters) == names
    return names, groups, neck


def of_text_network(kind, sizes):
    config = AutoConfig.for_model(kind, **sizes)
    with torch.device("meta"), trunks.quiet():
        reads = "mean" if kind in ("gpt2", "llama") else "cls"
        network = trunks.built(trunks.Design(config, "pooled", reads, None))
    facts = trunks.facts(trunks.Design(config, "pooled", reads, None))
    stack = stacks.stack_of(network, layers=facts.layers, needs=facts.needs, declared=None)
    return sorted(name for name, _ in network.named_parameters()), stack.groups, stack.neck


@pytest.mark.parametrize("name", [*IMAGES, *TEXTS])
def test_k_counts_layers_and_the_neck_goes_with_the_top_one(name):
    if name in IMAGES:
        names, groups, neck = of_image_network(name)
        count, top = IMAGES[name]
    else:
        sizes, count, top = TEXTS[name]
        top = tuple(f"model.{part}" for part in top)
        names, groups, neck = of_text_network(name, sizes)
    assert sorted(n for group in groups for n in group.parameters) == names
    groups = (*groups, Group("head", ("head.own",), len(groups)))
    layout = Layout(groups=groups, fine_groups=groups, neck=neck)
    of_top = {n for n in names if n.startswith(tuple(f"{part}." for part in top))}
    assert set(strategies.last_k(layout, k=1)[0].trains) == {*of_top, "head.own"}
    assert set(strategies.last_k(layout, k=count)[0].trains) == {*names, "head.own"}
    below_top = strategies.freeze_first_k(layout, k=count - 1)[0]
    assert set(below_top.trains) == {*of_top, "head.own"}
    assert set(strategies.freeze_first_k(layout, k=count)[0].trains) == {"head.own"}
    with pytest.raises(ValueError, match=f"has {count} layer groups below its head"):
        strategies.last_k(layout, k=count + 1)
