import json

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPVisionModel

from rf_agent.config import VisionConfig
from rf_agent.nn.towers import VisionTower
from rf_agent.weights.clip import VISION, read_vision
from rf_agent.weights.files import ConversionError

VISION_SHAPE = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 28,
    "patch_size": 14,
}
TEXT_SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def hugging_face(activation="quick_gelu"):
    torch.manual_seed(0)
    vision = {**VISION_SHAPE, "hidden_act": activation}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config={**TEXT_SHAPE, "vocab_size": 20})).eval()


def tower(path, **options):
    model, source = read_vision(path, **options)
    tower = VisionTower(VisionConfig(model=model, position_embedding=False), model["image_size"], views=1)
    tower.model.load_state_dict({name.removeprefix(VISION): tensor for name, tensor in source.tensors.items()})
    return tower, source


@pytest.mark.parametrize("form", ["model", "tower", "folder", "folder of the tower"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_hugging_face(form, activation, tmp_path):
    model, options = hugging_face(activation), {"head_width": 8, "quick_gelu": activation == "quick_gelu"}
    path = tmp_path / "clip.pt"
    if form == "model":
        torch.save(model.state_dict(), path)
    elif form == "tower":
        names = {name for name in model.state_dict() if name.startswith("vision_model.")}
        torch.save({name: model.state_dict()[name] for name in names}, path)
    elif form == "folder of the tower":
        path, options = tmp_path / "folder", {}
        alone = CLIPVisionModel(model.config.vision_config)
        alone.load_state_dict(
            {
                # with or without a prefix, as the installed transformers has it
                name: model.state_dict()[f"vision_model.{name.removeprefix('vision_model.')}"]
                for name in alone.state_dict()
            }
        )
        alone.save_pretrained(path)
    else:
        path, options = tmp_path / "folder", {}  # its config.json says it all
        model.save_pretrained(path)
    ours, source = tower(path, **options)
    pixels = torch.randn(2, 1, 3, 28, 28)
    with torch.no_grad():
        wanted = model.vision_model(pixels[:, 0]).last_hidden_state[:, 1:]
        torch.testing.assert_close(ours(pixels)[:, 0], wanted, atol=1e-5, rtol=1e-5)
    reasons = set(source.ignored.values())
    assert reasons == {"comes after the patch tokens"} | (
        {"not of the vision tower"} if form in ("model", "folder") else set()
    )


def open_clip(path, **more):
    """A whole model in the layout of OpenAI and open_clip, the text tower with confusable names."""
    tensors = {
        "visual.class_embedding": torch.randn(24),
        "visual.positional_embedding": torch.randn(5, 24),
        "visual.conv1.weight": torch.randn(24, 3, 14, 14),
        "visual.proj": torch.randn(24, 8),
        "positional_embedding": torch.randn(77, 16),
        "text_projection": torch.randn(16, 8),
        "transformer.resblocks.0.ln_1.weight": torch.randn(16),
    }
    shapes = {"attn.in_proj": (72, 24), "attn.out_proj": (24, 24), "mlp.c_fc": (40, 24), "mlp.c_proj": (24, 40)}
    for norm in ("ln_pre", "ln_post", "transformer.resblocks.0.ln_1", "transformer.resblocks.0.ln_2"):
        tensors |= {f"visual.{norm}.weight": torch.randn(24), f"visual.{norm}.bias": torch.randn(24)}
    for name, (rows, columns) in shapes.items():
        joint = "_" if name == "attn.in_proj" else "."
        tensors[f"visual.transformer.resblocks.0.{name}{joint}weight"] = torch.randn(rows, columns)
        tensors[f"visual.transformer.resblocks.0.{name}{joint}bias"] = torch.randn(rows)
    torch.save({name: tensor for name, tensor in (tensors | more).items() if tensor is not None}, path)
    return tensors


def test_open_clip(tmp_path):
    tensors = open_clip(tmp_path / "clip.pt")
    ours, source = tower(tmp_path / "clip.pt", head_width=8)
    assert ours.model.conv1.weight.equal(tensors["visual.conv1.weight"])
    assert source.ignored["positional_embedding"] == "not of the vision tower"
    assert source.ignored["visual.proj"] == "comes after the patch tokens"
    assert ours.tokens == 4 and len(ours.model.transformer.resblocks) == 1


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16), (1280, 16), (1408, 16), (1664, 16)])
def test_published_towers_have_the_heads_of_their_width(tmp_path, width, heads):
    """As the model_configs of open_clip have it for ViT-B, L, H, g and bigG."""
    tensors = {
        "visual.class_embedding": torch.zeros(width),
        "visual.positional_embedding": torch.zeros(257, width),
        "visual.conv1.weight": torch.zeros(width, 3, 14, 14),
        "visual.transformer.resblocks.0.mlp.c_fc.weight": torch.zeros(4, width),
    }
    torch.save(tensors, tmp_path / "clip.pt")
    model, _ = read_vision(tmp_path / "clip.pt", quick_gelu=False)
    assert (model["width"], model["heads"], model["quick_gelu"]) == (width, heads, False)
    if width <= 1024:
        assert read_vision(tmp_path / "clip.pt")[0]["quick_gelu"]
    else:
        with pytest.raises(ConversionError, match=f"width {width}, which OpenAI has none of.*--no-quick-gelu"):
            read_vision(tmp_path / "clip.pt")


def test_a_config_that_leaves_out_what_is_usual(tmp_path):
    config = {**VISION_SHAPE, "hidden_size": 48}
    alone = CLIPVisionModel(CLIPConfig(vision_config={**config, "num_attention_heads": 12}).vision_config)
    alone.save_pretrained(tmp_path)
    kept = {"intermediate_size", "num_hidden_layers", "image_size", "patch_size"}
    (tmp_path / "config.json").write_text(json.dumps({key: config[key] for key in kept}))
    model, _ = read_vision(tmp_path)
    assert (model["width"], model["heads"], model["quick_gelu"]) == (48, 12, True)


def test_heads_that_do_not_divide_the_width_are_refused(tmp_path):
    open_clip(tmp_path / "clip.pt")
    with pytest.raises(ConversionError, match=r"visual.conv1.weight of .* is \(24, 3, 14, 14\).*heads of 64"):
        read_vision(tmp_path / "clip.pt")


def test_incomplete_towers_are_refused(tmp_path):
    open_clip(tmp_path / "clip.pt", **{"visual.positional_embedding": None})
    with pytest.raises(ConversionError, match="positional_embedding is missing"):
        read_vision(tmp_path / "clip.pt", head_width=8)
