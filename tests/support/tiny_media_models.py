"""Encoders of media of a few layers with random weights, saved as transformers saves trained ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

hf: Any = import_module("transformers")

SIDE = 32  # of the pictures that the models read
WORDS = [f"word{n}" for n in range(40)]
SHAPE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION: dict[str, Any] = {**SHAPE, "image_size": SIDE, "patch_size": 8}
WAVES: dict[str, Any] = {
    **SHAPE,
    "conv_dim": (16, 16),
    "conv_kernel": (400, 8),
    "conv_stride": (160, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 5,
    "mask_time_prob": 0.0,
}

_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
_SWIN: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
_FRAMES: dict[str, Any] = {**VISION, "num_frames": 4}
_DECODER: dict[str, Any] = {
    "decoder_hidden_size": 16,
    "decoder_intermediate_size": 16,
    "decoder_num_attention_heads": 2,
}

_WHISPER = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}


def saved(kind: str, folder: Path, *, seed: int = 0, **processing: Any) -> Path:
    """A folder with a model of `kind`, a name in `MADE`, and what makes its input.

    Args:
        seed: of the weights.
        processing: settings of its processor that differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model, processor = MADE[kind]()
    with torch.no_grad():
        for parameter in model.parameters():  # some begin as zeros, so that inputs would not matter
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    if processor is not None:
        for name, value in processing.items():
            setattr(getattr(processor, "image_processor", processor), name, value)
        processor.save_pretrained(folder)
    return folder


def tokenizer(length: int = 16) -> Any:
    """A tokenizer of `WORDS` by spaces, with the special tokens of CLIP."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["<pad>", "<start>", "<unk>", *WORDS, "<end>"]
    fast = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<start>", 1), ("<end>", len(names) - 1)]
    fast.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    special = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=fast, model_max_length=length, **special)


def _text(**more: Any) -> dict[str, Any]:
    ids = {"vocab_size": len(WORDS) + 4, "bos_token_id": 1, "pad_token_id": 0, "eos_token_id": len(WORDS) + 3}
    return {**SHAPE, **ids, "max_position_embeddings": 16, **more}


def _images(name: str, **more: Any) -> Any:
    edge, crop = {"shortest_edge": SIDE}, {"height": SIDE, "width": SIDE}
    sizes = {"size": edge, "crop_size": crop} if name in ("CLIP", "DeiT", "VideoMAE", "Vivit") else {"size": crop}
    return getattr(hf, f"{name}ImageProcessor")(**sizes, **more)


def _clip() -> tuple[Any, Any]:
    config = hf.CLIPConfig(text_config=_text(), vision_config=VISION, projection_dim=24)
    return hf.CLIPModel(config), hf.CLIPProcessor(image_processor=_images("CLIP"), tokenizer=tokenizer())


def _siglip() -> tuple[Any, Any]:
    config = hf.SiglipConfig(text_config=_text(), vision_config=VISION)
    return hf.SiglipModel(config), hf.SiglipProcessor(image_processor=_images("Siglip"), tokenizer=tokenizer())


def _clap() -> tuple[Any, Any]:
    sound = {
        **{"patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2]},
        **{"num_hidden_layers": 2, "window_size": 4, "spec_size": 64, "num_mel_bins": 16, "projection_dim": 24},
        **{"aff_block_r": 1, "num_classes": 2, "patch_size": 4, "patch_stride": (4, 4), "hidden_size": 32},
    }
    config = hf.ClapConfig(
        text_config=_text(max_position_embeddings=18, projection_dim=24), audio_config=sound, projection_dim=24
    )
    extractor = hf.ClapFeatureExtractor(
        **{"feature_size": 16, "sampling_rate": 8000, "hop_length": 80, "max_length_s": 1, "fft_window_size": 256},
        **{"frequency_max": 4000, "truncation": "rand_trunc"},
    )
    return hf.ClapModel(config), hf.ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer())


def _whisper() -> tuple[Any, Any]:
    layers = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in _WHISPER.items()}
    ids = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1}
    config = hf.WhisperConfig(
        d_model=32, num_mel_bins=16, max_source_positions=50, max_target_positions=16, **layers, **ids
    )
    return hf.WhisperForConditionalGeneration(config), hf.WhisperFeatureExtractor(feature_size=16, chunk_length=1)


def _spectrogram() -> tuple[Any, Any]:
    config = hf.ASTConfig(**SHAPE, patch_size=8, max_length=100, num_mel_bins=16, time_stride=8, frequency_stride=8)
    return hf.ASTForAudioClassification(config), hf.ASTFeatureExtractor(max_length=100, num_mel_bins=16)


def _waves() -> Any:
    return hf.Wav2Vec2FeatureExtractor()


MADE: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "clip": _clip,
    "siglip": _siglip,
    "clap": _clap,
    "vit": lambda: (hf.ViTForImageClassification(hf.ViTConfig(**VISION)), _images("ViT")),
    "deit": lambda: (hf.DeiTModel(hf.DeiTConfig(**VISION)), _images("DeiT")),
    "dinov2": lambda: (hf.Dinov2Model(hf.Dinov2Config(**VISION)), _images("CLIP")),
    "clip_vision_model": lambda: (hf.CLIPVisionModel(hf.CLIPVisionConfig(**VISION)), _images("CLIP")),
    "siglip_vision_model": lambda: (hf.SiglipVisionModel(hf.SiglipVisionConfig(**VISION)), _images("Siglip")),
    "convnext": lambda: (hf.ConvNextModel(hf.ConvNextConfig(**_STAGES)), _images("ViT")),
    "convnextv2": lambda: (hf.ConvNextV2Model(hf.ConvNextV2Config(**_STAGES)), _images("ViT")),
    "resnet": lambda: (hf.ResNetModel(hf.ResNetConfig(**_STAGES, embedding_size=8)), _images("ViT")),
    "swin": lambda: (hf.SwinModel(hf.SwinConfig(**_SWIN)), _images("ViT")),
    "whisper": _whisper,
    "wav2vec2": lambda: (hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(**WAVES)), _waves()),
    "hubert": lambda: (hf.HubertModel(hf.HubertConfig(**WAVES)), _waves()),
    "wavlm": lambda: (hf.WavLMModel(hf.WavLMConfig(**WAVES)), _waves()),
    "audio-spectrogram-transformer": _spectrogram,
    "videomae": lambda: (hf.VideoMAEForPreTraining(hf.VideoMAEConfig(**_FRAMES, **_DECODER)), _images("VideoMAE")),
    "vivit": lambda: (hf.VivitModel(hf.VivitConfig(**_FRAMES, tubelet_size=[2, 8, 8])), _images("Vivit")),
    "timesformer": lambda: (hf.TimesformerModel(hf.TimesformerConfig(**_FRAMES)), _images("VideoMAE")),
}
