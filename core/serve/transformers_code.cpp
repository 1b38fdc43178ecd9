#include "core/serve/transformers_code.h"

namespace mla {

const char* configuration_code() {
  return R"python("""Configuration of a model converted to latent attention; for transformers >= 5, < 6."""

from transformers.models.qwen2.configuration_qwen2 import Qwen2Config


class MlaforgeConfig(Qwen2Config):
    """Qwen2's, and beside it, in lists with an entry for each layer, what each layer's attention is (latent_layers),
    and the frequencies of all rotation pairs (rope_frequencies)."""

    model_type = "mlaforge_latent"
)python";
}

const char* modeling_code() {
  return R"python("""Latent attention whose layers may differ in everything; for transformers >= 5, < 6.

What a layer caches of a token is its latent and its rotated keys: cache.layers[i].keys [batch, 1, tokens, latent] and
.values [batch, 1, tokens, rotated]. Up-projections are taken into queries and outputs, so that neither keys nor values
are ever rebuilt.
"""

import torch
from torch import nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM

from .configuration_mlaforge import MlaforgeConfig


class Up(nn.Module):
    """y = W x + b, either of which may be missing."""

    def __init__(self, rows, columns, has_weight, has_bias):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.empty(rows, columns)) if has_weight else None)
        self.register_parameter("bias", nn.Parameter(torch.empty(rows)) if has_bias else None)


class Norm(nn.Module):
    """RMSNorm over the last dim, with one weight for all heads or one for each."""

    def __init__(self, shape, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*shape))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        weight = self.weight if self.weight.dim() == 1 else self.weight[:, None]
        return weight * wide.to(x.dtype)


class LatentAttention(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx
        for name, value in config.latent_layers[layer_idx].items():
            setattr(self, name, value)
        self.rotated = 2 * len(self.kept_pairs[0])
        width, rope_heads, hidden = self.rotated + self.content_width, len(self.kept_pairs), config.hidden_size
        keys, values = self.kv_heads * self.content_width, self.kv_heads * self.value_width
        self.q_proj = nn.Linear(hidden, self.heads * width, bias=self.query_bias)
        self.k_rope_proj = nn.Linear(hidden, rope_heads * self.rotated, bias=self.key_bias)
        self.kv_down_proj = nn.Linear(hidden, self.latent_width, bias=False)
        self.k_up_proj = Up(keys, self.key_slice[1], self.key_up, self.key_bias)
        self.v_up_proj = Up(values, self.value_slice[1], self.value_up, self.value_bias)
        self.o_proj = nn.Linear(self.heads * self.value_width, hidden, bias=self.output_bias)
        if self.qk_norm:
            of_heads = lambda heads: (heads, width) if self.norms_per_head else (width,)
            self.q_norm = Norm(of_heads(self.heads), config.rms_norm_eps)
            self.k_norm = Norm(of_heads(self.kv_heads), config.rms_norm_eps)

    def part(self, latent, of):
        return latent[..., of[0] : of[0] + of[1]]

    def to_heads(self, x, kv_heads):
        """[batch, kv_heads, ...] for all query heads."""
        return x.repeat_interleave(self.heads // kv_heads, 1) if kv_heads < self.heads else x

    def rotate(self, x, cos, sin):
        rows = x[..., : self.rotated]
        first, second = rows.chunk(2, -1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
        return torch.cat([turned, x[..., self.rotated :]], -1)

    def normed(self, rope, latent):
        """Keys are normalised before they are cached, content and rotated dims together."""
        content = self.part(latent, self.key_slice)
        if self.k_up_proj.bias is not None:
            content = content + self.k_up_proj.bias
        content = content.unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)
        keys = self.k_norm(torch.cat([rope, content], -1))
        begin, size = self.key_slice
        content = keys[..., self.rotated :].transpose(1, 2).flatten(2)
        latent = torch.cat([latent[..., :begin], content, latent[..., begin + size :]], -1)
        return keys[..., : self.rotated], latent

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, cache=None, **kwargs):
        cache = kwargs.get("past_key_values") if cache is None else cache
        batch, length = hidden_states.shape[:2]
        rope_heads = len(self.kept_pairs)
        query = self.q_proj(hidden_states).view(batch, length, self.heads, -1).transpose(1, 2)
        rope = self.k_rope_proj(hidden_states).view(batch, length, rope_heads, self.rotated).transpose(1, 2)
        latent = self.kv_down_proj(hidden_states)
        if self.qk_norm:
            query = self.q_norm(query)
            rope, latent = self.normed(rope, latent)
        pairs = torch.tensor(self.kept_pairs, dtype=torch.long, device=latent.device)
        cos, sin = (table[..., pairs].transpose(1, 2) for table in position_embeddings)
        query = self.rotate(query, self.to_heads(cos, rope_heads), self.to_heads(sin, rope_heads))
        rope = self.rotate(rope, cos, sin).transpose(1, 2).flatten(2)
        latent, rope = latent.unsqueeze(1), rope.unsqueeze(1)
        if cache is not None:
            latent, rope = cache.update(latent, rope, self.layer_idx)
        rope = rope.squeeze(1).unflatten(-1, (rope_heads, self.rotated)).transpose(1, 2)
        scores = self.scores(query, rope, latent.squeeze(1)) * self.scale
        if attention_mask is None and length > 1:
            allowed = torch.ones(length, latent.shape[2], dtype=torch.bool, device=latent.device)
            attention_mask = allowed.tril(latent.shape[2] - length)
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        elif attention_mask is not None:
            scores = scores + attention_mask
        weights = scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
        out = self.values(weights, latent.squeeze(1)).transpose(1, 2).flatten(2)
        return self.o_proj(out), weights

    def scores(self, query, rope, latent):
        content = query[..., self.rotated :]
        keys = self.part(latent, self.key_slice)
        scores = query[..., : self.rotated] @ self.to_heads(rope, rope.shape[1]).transpose(-1, -2)
        if self.content_width == 0:
            return scores
        if not self.key_up:  # a bias adds the same to all logits of a query
            own = keys.unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)
            return scores + content @ self.to_heads(own, self.kv_heads).transpose(-1, -2)
        up = self.k_up_proj.weight.view(1, self.kv_heads, self.content_width, -1)
        return scores + content @ self.to_heads(up, self.kv_heads) @ keys.unsqueeze(1).transpose(-1, -2)

    def values(self, weights, latent):
        part = self.part(latent, self.value_slice)
        if self.value_up:
            up = self.v_up_proj.weight.view(1, self.kv_heads, self.value_width, -1)
            out = weights @ part.unsqueeze(1) @ self.to_heads(up, self.kv_heads).transpose(-1, -2)
        else:
            own = part.unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)
            out = weights @ self.to_heads(own, self.kv_heads)
        if self.v_up_proj.bias is None:
            return out
        bias = self.v_up_proj.bias.view(1, self.kv_heads, 1, self.value_width)
        return out + self.to_heads(bias, self.kv_heads)


class Rotation(nn.Module):
    """Cosines and sines of all pairs, [batch, tokens, pairs]; angles in float64."""

    def __init__(self, config):
        super().__init__()
        self.frequencies = config.rope_frequencies

    def forward(self, x, position_ids):
        frequencies = torch.tensor(self.frequencies, dtype=torch.float64, device=x.device)
        angles = position_ids[..., None].double() * frequencies
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class MlaforgeForCausalLM(Qwen2ForCausalLM):
    config_class = MlaforgeConfig
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = False

    def __init__(self, config):
        super().__init__(config)
        self.model.rotary_emb = Rotation(config)
        for index, layer in enumerate(self.model.layers):
            layer.self_attn = LatentAttention(config, index)
            stated = config.latent_layers[index]
            hidden, width, bias = config.hidden_size, stated["intermediate"], stated["mlp_bias"]
            layer.mlp.gate_proj = nn.Linear(hidden, width, bias=bias)
            layer.mlp.up_proj = nn.Linear(hidden, width, bias=bias)
            layer.mlp.down_proj = nn.Linear(width, hidden, bias=bias)
        self.post_init()
)python";
}

}  // namespace mla
