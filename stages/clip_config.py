"""Check the configuration of an open_clip model folder before open_clip sees it: only known entries, no code, no downloads.

open_clip hands parts of a configuration to `transformers` and `timm`, which can run code of the folder or fetch other models.
"""

from __future__ import annotations

import json
import os
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from stages.errors import InputError
from stages.files.records import Record, first_fault, json_digest
from stages.files.strict_json import parse_json_object

_CONTEXT_LENGTH = 77  # of open_clip where the configuration has none

# far above the largest published models
Size = Annotated[int, Field(ge=1, le=8192)]
Count = Annotated[int, Field(ge=1, le=256)]
Side = Annotated[int, Field(ge=1, le=2048)]
Ratio = Annotated[float, Field(gt=0, le=16)]
_LARGEST_GRID = 128
_LARGEST_EMBEDDING = 1 << 23  # values of all positions; those of sines are computed on the CPU in float64


class Activation(Record):
    """Arguments of GELU."""

    approximate: Literal["none", "tanh"] = "none"


class Norm(Record):
    """Arguments of the layer norm."""

    eps: float = 1e-5


class Transformer(Record):
    """What the text and the image tower have in common."""

    mlp_ratio: Ratio = 4.0
    ls_init_value: float | None = None
    final_ln_after_pool: bool = False
    output_tokens: bool = False
    act_kwargs: Activation | None = None
    norm_kwargs: Norm | None = None
    block_type: Literal["default", "custom"] | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False


class VisionConfig(Transformer):
    """`vision_cfg`: the image tower."""

    layers: Count | Annotated[list[Count], Field(min_length=4, max_length=4)] = 12
    width: Size = 768
    head_width: Size = 64
    patch_size: Side | None = 16
    image_size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] = 224
    patch_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attentional_pool: bool | Literal["parallel", "cascade"] = False
    attn_pooler_queries: Size = 256
    attn_pooler_heads: Size = 8
    no_ln_pre: bool = False
    pos_embed_type: Literal["learnable", "sin_cos_2d"] = "learnable"
    pool_type: str = "tok"
    timm_model_name: str | None = None
    timm_model_pretrained: bool = False
    timm_pool: str = "avg"
    timm_proj: Literal["linear", "mlp", "none", ""] | None = "linear"
    timm_proj_bias: bool = False
    timm_drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    timm_drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None

    @property
    def side(self) -> int:
        """The side of the images."""
        return self.image_size if isinstance(self.image_size, int) else self.image_size[0]

    @field_validator("timm_model_name")
    @classmethod
    def _known_to_timm(cls, name: str | None) -> str | None:
        if name is not None:
            import timm

            if not timm.is_model(name):  # timm itself would look for an unknown name on the network
                raise ValueError(f"timm has no model '{name}'")
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        patch = self.patch_size or 32  # a ResNet has none; it downsamples by 32
        if isinstance(self.image_size, list) and len(set(self.image_size)) > 1:
            raise ValueError("the images are not square")
        if not patch <= self.side <= _LARGEST_GRID * patch:
            raise ValueError(f"images of {self.side} px do not fit patches of {patch} px")
        if (self.side // patch) ** 2 * self.width > _LARGEST_EMBEDDING:
            raise ValueError(f"patches of {patch} px of images of {self.side} px are too many for a width of {self.width}")
        if self.head_width > self.width:
            raise ValueError(f"a head is wider than the width {self.width}")
        return self


class TokenizerConfig(Record):
    """`tokenizer_kwargs`: how texts are cleaned. Everything else would reach `transformers`."""

    clean: Literal["canonicalize", "lower", "whitespace"] = "lower"
    strip_sep_token: bool = False


class Tokens(Record):
    """The sizes of a transformer over text."""

    context_length: Size = _CONTEXT_LENGTH
    vocab_size: Annotated[int, Field(ge=1, le=1 << 20)] = 49408
    width: Size = 512
    heads: Size = 8
    layers: Count = 12


class TextConfig(Transformer, Tokens):
    """`text_cfg`: the text tower and its tokenizer."""

    embed_cls: bool = False
    pad_id: int = 0
    eos_id: int = 2
    no_causal_mask: bool = False
    pool_type: str = "argmax"
    proj_bias: bool = False
    proj_type: Literal["linear", "none"] = "linear"
    hf_tokenizer_name: str | None = None
    tokenizer_mode: Literal["clips", ""] | None = None
    tokenizer_kwargs: TokenizerConfig | None = None
    hf_model_name: str | None = None
    hf_model_pretrained: bool = False
    hf_proj_type: Literal["linear", "mlp"] | None = "mlp"
    hf_pooler_type: str | None = "mean_pooler"

    @field_validator("hf_tokenizer_name", "hf_model_name")
    @classmethod
    def _used_by_open_clip(cls, name: str | None) -> str | None:
        if name and name not in _published_names():
            raise ValueError(f"'{name}' is none of the tokenizers and text models that open_clip's own configurations name")
        return name


class DecoderConfig(Tokens):
    """`multimodal_cfg`: the decoder of a CoCa model."""

    mlp_ratio: Annotated[int, Field(ge=1, le=16)] = 4
    dim_head: Size = 64
    n_queries: Size = 256
    attn_pooler_heads: Size = 8


class Tower(Record):
    """An image tower alone, as a checkpoint records it."""

    embed_dim: Size
    vision_cfg: VisionConfig
    quick_gelu: bool = False


class ModelConfig(Tower):
    """`model_cfg`: the architecture."""

    text_cfg: TextConfig
    multimodal_cfg: DecoderConfig | None = None
    custom_text: bool = False
    init_logit_scale: float = 1.0
    init_logit_bias: float | None = None
    nonscalar_logit_scale: bool = False


class Preprocessing(Record, extra="ignore"):
    """What is used of `preprocess_cfg`: the normalization of pixels in [0, 1]."""

    mean: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] | None = None


@lru_cache
def _published_names() -> frozenset[str]:
    """The tokenizers and text models of the hub that open_clip's own configurations name."""
    import open_clip

    texts = [open_clip.get_model_config(name)["text_cfg"] for name in open_clip.list_models()]
    return frozenset(text[key] for text in texts for key in ("hf_tokenizer_name", "hf_model_name") if text.get(key))


def read_config(path: Path, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The architecture (`model_cfg`) and the preprocessing (`preprocess_cfg`) of a model folder.

    Args:
        path: of open_clip_config.json.
        model: name of the model in errors.

    Raises InputError if the file is damaged, or has an entry that is not known or that could run code or fetch anything.
    """
    try:
        whole = parse_json_object(path.read_bytes())
        config, preprocessing = dict(whole["model_cfg"]), dict(whole.get("preprocess_cfg") or {})
        Preprocessing.model_validate(preprocessing)
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"the configuration of {model} is damaged", f"it is read from {path.name}") from None
    try:
        ModelConfig.model_validate(config)
    except ValidationError as error:
        raise InputError(
            f"the configuration of {model} cannot be used: {first_fault(error)}",
            f"its {path.name} may only describe an architecture: other entries can run code or download files; features of "
            "another text encoder can be given with `laat anchors --features FILE`",
        ) from None
    return config, preprocessing


def config_digest(config: dict[str, Any]) -> str:
    """SHA-256 of a checked or built-in architecture. Layout, order and entries at their default do not count."""
    try:
        return json_digest(ModelConfig.model_validate(config).model_dump_json(exclude_defaults=True))
    except ValidationError:  # a built-in architecture of a newer open_clip
        return json_digest(json.dumps(config))


def build_model(config: dict[str, Any]) -> Any:
    """The model of a checked or built-in architecture in float32, with random weights; downloads none.

    Raises InputError if a local folder would replace its published text model.
    """
    import open_clip

    config = deepcopy(config)
    text, vision = config["text_cfg"], config["vision_cfg"]
    _refuse_local(text.get("hf_model_name"))
    custom = config.pop("custom_text", False) or bool(text.get("hf_model_name"))
    text["hf_model_pretrained"] = vision["timm_model_pretrained"] = False
    if not custom:
        return open_clip.CLIP(**config)
    return open_clip.CoCa(**config) if config.get("multimodal_cfg") else open_clip.CustomTextCLIP(**config)


def build_tokenizer(config: dict[str, Any]) -> Any:
    """The tokenizer of a checked or built-in architecture. One of `transformers` is loaded by its name, without its code.

    Raises InputError if a local folder would replace it.
    """
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    text = config["text_cfg"]
    options = {"context_length": text.get("context_length", _CONTEXT_LENGTH), **(text.get("tokenizer_kwargs") or {})}
    name = text.get("hf_tokenizer_name")
    if not name:
        return SimpleTokenizer(**options)
    _refuse_local(name)
    return HFTokenizer(name, tokenizer_mode=text.get("tokenizer_mode"), trust_remote_code=False, **options)


def _refuse_local(name: str | None) -> None:
    """Raise InputError if `transformers` would take a published name for a path in the working directory."""
    if name and os.path.lexists(name):
        raise InputError(
            f"'{name}' in the working directory would be read instead of the published '{name}'",
            "run the command in another directory, or rename it",
        )
