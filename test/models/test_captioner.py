"""Captions by a BLIP with small random weights, in the layout of transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil

from redepth_ros.core.errors import ModelError
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.captioner import Captioner
from redepth_ros.models.engine import Engine

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "red", "chair", "room"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    config = BlipConfig(
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": 16,
            "encoder_hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "bos_token_id": 5,
            "sep_token_id": 3,
            "eos_token_id": 3,
            "pad_token_id": 0,
            "max_position_embeddings": 40,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
    )
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def captioner(folder):
    return Captioner.load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def test_a_caption_consists_of_the_vocabulary_and_is_reproducible(captioner, image):
    caption = captioner.caption(image)
    assert set(caption.split()) <= set(WORDS)
    assert caption == captioner.caption(image)


def test_weights_are_frozen(captioner):
    assert not captioner.network.training
    assert not any(one.requires_grad for one in captioner.network.parameters())


def test_weights_have_the_precision_that_was_asked_for(folder, image):
    captioner = Captioner.load(str(folder), device="cpu", precision="bfloat16")
    assert {one.dtype for one in captioner.network.parameters()} == {torch.bfloat16}
    assert set(captioner.caption(image).split()) <= set(WORDS)


@pytest.mark.parametrize("cache", [True, False])
def test_an_engine_asks_its_captioner_for_a_prompt_if_none_is_given(cache, folder, captioner, image):
    prior = Path(__file__).parent / "data" / "tiny-sd"
    engine = Engine.load("tiny", str(prior), captioner=str(folder), cache_captioner=cache, device="cpu")
    assert (engine.load_captioner() is engine.load_captioner()) == cache
    settings = RefineSettings(steps=1, ensemble_size=1)
    assert engine.start(image, settings).result().prompt == captioner.caption(image)
    assert engine.start(image, settings, prompt="a red chair").result().prompt == "a red chair"


def test_load_rejects_other_models(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match="has the type 'gpt2'; it must be a BLIP captioning model"):
        Captioner.load(str(tmp_path))
    with pytest.raises(ModelError, match="captioner 'x' is not a folder; name a folder with config"):
        Captioner.load("x")
