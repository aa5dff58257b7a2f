"""The text tower of the bundled CLIP model. It does not import open_clip, which takes seconds (timm, torchvision, a compiler).

It has open_clip's modules, operations and names of weights, so its features are those of open_clip, bit for bit.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from stages.uninitialised import Uninitialised


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        inner = int(width * mlp_ratio)
        layers = {"c_fc": nn.Linear(width, inner), "gelu": nn.GELU(), "c_proj": nn.Linear(inner, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class DemoText(nn.Module):
    """A causal transformer over tokens; the feature is that of the end token, which has the largest number.

    Args:
        config: `model_cfg` of the bundled model.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        text = config["text_cfg"]
        width, length = text["width"], text["context_length"]
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self._blocks = [_Block(width, text["heads"], text["mlp_ratio"]) for _ in range(text["layers"])]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(self._blocks)})
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, config["embed_dim"]))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu_(1), persistent=False)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (n, context) int64 -> features (n, D), not normalised."""
        x = self.token_embedding(tokens) + self.positional_embedding
        for block in self._blocks:
            x = block(x, self.mask)
        ends = tokens.argmax(dim=-1)
        features: Tensor = self.ln_final(x)[torch.arange(len(x), device=x.device), ends] @ self.text_projection
        return features


def load_demo_text(config: dict[str, Any], weights: bytes) -> DemoText:
    """The text tower from the bytes of the bundled model's safetensors file, which also has the image tower."""
    with Uninitialised():
        tower = DemoText(config)
    own = tower.state_dict().keys()
    tower.load_state_dict({name: value for name, value in load_tensors(weights).items() if name in own})
    return tower


def demo_tokenizer(config: dict[str, Any]) -> Any:
    """open_clip's tokenizer, from its file alone."""
    package = importlib.util.find_spec("open_clip")
    file = Path(str(package and package.origin)).with_name("tokenizer.py")
    module = ModuleType("open_clip_tokenizer")
    module.__file__ = str(file)  # its vocabulary lies beside it
    SourceFileLoader(module.__name__, str(file)).exec_module(module)
    return module.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
