"""Captions by a small random BLIP in the genuine folder format."""

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
            "vocab_size": len(WORDS), "hidden_size": 16, "encoder_hidden_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 32, "bos_token_id": 5, "sep_token_id": 3,
            "eos_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 40,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_a_caption_is_made_of_the_vocabulary(folder):
    captioner = Captioner.load(str(folder), device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    caption = captioner.caption(image)
    assert set(caption.split()) <= set(WORDS)
    assert caption == captioner.caption(image)


@pytest.mark.parametrize("keep", [True, False])
def test_an_engine_asks_its_captioner_where_no_prompt_is_given(folder, keep):
    prior = Path(__file__).parent / "data" / "tiny-sd"
    engine = Engine.load("tiny", str(prior), captioner=str(folder), keep_captioner=keep, device="cpu")
    assert (engine.load_captioner() is engine.load_captioner()) == keep
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    settings = RefineSettings(steps=1, members=1)
    caption = Captioner.load(str(folder), device="cpu").caption(image)
    assert engine.start(image, settings).result().prompt == caption
    assert engine.start(image, settings, prompt="a red chair").result().prompt == "a red chair"


def test_what_is_no_captioner_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match="must be a BLIP captioning model"):
        Captioner.load(str(tmp_path))
    with pytest.raises(ModelError, match="captioner 'x' is not a folder"):
        Captioner.load("x")
