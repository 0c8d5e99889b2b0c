"""The smallest member of every family of timm: a video network that starts as the image network, or refused with the reason."""

import pytest
import timm
import torch

import kinema

TAKEN = [
    "beit_base_patch16_224",
    "cait_xxs24_224",
    "coat_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "test_convnext",
    "cpubone_nano",
    "csatv2",
    "test_byobnet",
    "cs3darknet_focus_s",
    "cspnext_tiny",
    "davit_tiny",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla46x_c",
    "dpn48b",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "test_efficientnet",
    "efficientvim_m1",
    "efficientvit_b0",
    "vit_tiny_patch16_dinov3_qkvb",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "ghostnet_050",
    "hardcorenas_b",
    "hgnetv2_b0",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnetv2_small",
    "levit_128s",
    "lowformer_b0",
    "test_mambaout",
    "test_coatnet",
    "poolformerv2_s12",
    "gmlp_ti16_224",
    "mobilenetv3_small_050",
    "mobilenetv5_base",
    "mobilevit_xxs",
    "naflexvit_base_patch16_parfac_gap",
    "nasnetalarge",
    "nest_tiny",
    "nextvit_small",
    "test_nfnet",
    "pit_ti_224",
    "pnasnet5large",
    "pvt_v2_b0",
    "rdnet_tiny",
    "regnetx_002",
    "repghostnet_050",
    "repvit_m1",
    "res2next50",
    "resnest14d",
    "test_resnet",
    "resnetv2_18",
    "rexnet_100",
    "selecsls42",
    "sequencer2d_s",
    "legacy_seresnet18",
    "shvit_s1",
    "skresnet18",
    "starnet_s050",
    "swiftformer_xs",
    "tiny_vit_5m_224",
    "tresnet_m",
    "twins_svt_small",
    "vgg11",
    "visformer_tiny",
    "test_vit",
    "vit_tiny_r_s16_p8_224",
    "test_vit_relpos",
    "vitamin_small_224",
    "volo_d1_224",
    "samvit_base_patch16_224",
    "ese_vovnet19b_slim_dw",
    "legacy_xception",
    "xception41p",
    "xcit_nano_12_p8_224",
]

NO_PLACE = "no row of transformer blocks"
REFUSED = {
    "crossvit_tiny_240": NO_PLACE,  # two rows of tokens of different sizes
    "halonet_h1": NO_PLACE,  # 1 x 1 convolutions and attention within windows
    "hiera_tiny_224": NO_PLACE,  # tokens sorted by windows
    "sam2_hiera_tiny": NO_PLACE,
    "swin_tiny_patch4_window7_224": NO_PLACE,  # blocks within stages, attention within windows
    "swinv2_tiny_window8_256": NO_PLACE,
    "swinv2_cr_tiny_224": NO_PLACE,
    "efficientvit_m0": "cuts frames into windows",
    "qwen3_vit_88m": NO_PLACE,  # patches of images of any size in one row
    "mvitv2_tiny": "cuts frames into windows",  # heads stand in the batch where keys are pooled
    "tnt_s_legacy_patch16_224": "something else than feature maps or tokens",  # tokens within tokens
}
TOO_LARGE = {"deepseek_vit_412m", "gemma4_vit_167m"}
"""Smallest of their families and still too large for this test."""


def built(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    size = model.pretrained_cfg["input_size"][1:]
    return model, torch.randn(1, 3, 2, *size)


def test_every_family_is_listed():
    listed = {*TAKEN, *REFUSED, *TOO_LARGE}
    assert all(name in timm.list_models() for name in listed)
    families = {timm.models.model_entrypoint(name).__module__.rpartition(".")[2] for name in listed}
    assert set(timm.list_modules()) - families == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKEN)
def test_it_starts_as_the_image_network(name):
    model, clip = built(name)
    with torch.no_grad():
        expected = torch.stack([model(clip[:, :, frame]) for frame in range(2)]).mean(dim=0)
        network = kinema.temporalize(model, "tada").eval()
        torch.testing.assert_close(network(clip), expected, rtol=1e-4, atol=1e-5)
    assert network.places


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_the_reason(name):
    with pytest.raises(ValueError, match=REFUSED[name]):
        kinema.temporalize(built(name)[0], "tada")
