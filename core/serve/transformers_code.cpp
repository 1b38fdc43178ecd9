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
  return R"python("""Attention whose layers may differ in everything; for transformers >= 5, < 6.

What a layer of kind "latent" caches of a token is its latent and its rotated keys: cache.layers[i].keys [batch, 1,
tokens, latent] and .values [batch, 1, tokens, rotated]; one of kind "mkla" caches its one vector as keys, and values of
no width; one of kind "grouped_query" keys and values. Up-projections are taken into queries and outputs, so that
neither keys nor values are ever rebuilt.
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


def rotated(rows, cos, sin):
    """First dims of all pairs, then their partners, turned."""
    first, second = rows.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Attention(nn.Module):
    """What the kinds have in common. What config.json states of the layer are attributes."""

    def __init__(self, config, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx
        for name, value in config.latent_layers[layer_idx].items():
            setattr(self, name, value)

    def to_heads(self, x, kv_heads):
        """[batch, kv_heads, ...] for all query heads."""
        return x.repeat_interleave(self.heads // kv_heads, 1) if kv_heads < self.heads else x

    def softmax(self, scores, attention_mask):
        """Scores [batch, heads, queries, keys] as weights; without a mask the queries are the last of the keys."""
        length, known = scores.shape[-2:]
        scores = scores * self.scale
        if attention_mask is None and length > 1:
            attention_mask = torch.ones(length, known, dtype=torch.bool, device=scores.device).tril(known - length)
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        elif attention_mask is not None:
            scores = scores + attention_mask
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)

    def finish(self, out):
        """Of all heads [batch, heads, tokens, width]."""
        return self.o_proj(out.transpose(1, 2).flatten(2))


class LatentAttention(Attention):
    """Keys and values are made of a latent, and keys have a few rotated dims beside it."""

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
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

    def rotate(self, x, cos, sin):
        return torch.cat([rotated(x[..., : self.rotated], cos, sin), x[..., self.rotated :]], -1)

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
        rope = rotated(rope, cos, sin).transpose(1, 2).flatten(2)
        latent, rope = latent.unsqueeze(1), rope.unsqueeze(1)
        if cache is not None:
            latent, rope = cache.update(latent, rope, self.layer_idx)
        rope = rope.squeeze(1).unflatten(-1, (rope_heads, self.rotated)).transpose(1, 2)
        weights = self.softmax(self.scores(query, rope, latent.squeeze(1)), attention_mask)
        return self.finish(self.values(weights, latent.squeeze(1))), weights

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


class MeanKeyAttention(Attention):
    """One vector is cached for all heads: a latent, and slots, which are rotated when they are read (and are latent,
    too, where the layout is "dual"). Beside it keys have a part that is made of their position alone.

    Scores depend on how far tokens are apart: positions are counted from the first token of the cache on.
    """

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        hidden = config.hidden_size
        self.frequencies = config.rope_frequencies
        self.turned = 2 * len(self.slots)
        self.cached = self.latent_width + self.turned
        self.read = self.cached if self.layout == "dual" else self.latent_width
        self.placed = self.head_dim if self.position else 0
        key_width = self.turned + self.placed + self.read
        self.q_proj = nn.Linear(hidden, self.heads * self.head_dim, bias=self.query_bias)
        self.q_up_proj = nn.Linear(self.head_dim, self.heads * key_width, bias=False)
        self.kv_down_proj = nn.Linear(hidden, self.cached, bias=self.down_bias)
        self.v_up_proj = nn.Linear(self.read, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, hidden, bias=self.output_bias)

    def table(self, count, like):
        """Cosines and sines of positions 0 to count, [count, pairs]."""
        frequencies = torch.tensor(self.frequencies, dtype=torch.float64, device=like.device)
        angles = torch.arange(count, device=like.device)[:, None] * frequencies
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)

    def queries(self, hidden_states, cos, sin):
        """Rotated slots, rotated position part, latent part, side by side: [batch, heads, tokens, key width]."""
        query = self.q_proj(hidden_states).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
        query = query @ self.q_up_proj.weight.view(self.heads, -1, self.head_dim).transpose(1, 2)
        slots, place, latent = query.split([self.turned, self.placed, self.read], -1)
        pairs = self.placed // 2
        slots = rotated(slots, cos[:, self.slots], sin[:, self.slots])
        return torch.cat([slots, rotated(place, cos[:, :pairs], sin[:, :pairs]), latent], -1)

    def keys(self, cached, cos, sin):
        pairs = self.placed // 2
        slots = rotated(cached[..., self.latent_width :], cos[:, self.slots], sin[:, self.slots])
        place = torch.cat([cos[:, :pairs], sin[:, :pairs]], -1).expand(cached.shape[0], 1, -1, -1)
        return torch.cat([slots, place, cached[..., : self.read]], -1)

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, cache=None, **kwargs):
        cache = kwargs.get("past_key_values") if cache is None else cache
        length = hidden_states.shape[1]
        cached = self.kv_down_proj(hidden_states).unsqueeze(1)
        if cache is not None:
            cached = cache.update(cached, cached[..., :0], self.layer_idx)[0]
        cos, sin = self.table(cached.shape[2], cached)
        query = self.queries(hidden_states, cos[-length:], sin[-length:])
        weights = self.softmax(query @ self.keys(cached, cos, sin).transpose(-1, -2), attention_mask)
        up = self.v_up_proj.weight.view(1, self.kv_heads, self.head_dim, self.read)
        out = weights @ cached[..., : self.read] @ self.to_heads(up, self.kv_heads).transpose(-1, -2)
        return self.finish(out), weights


class GroupedAttention(Attention):
    """An unconverted layer."""

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        hidden, keys = config.hidden_size, self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(hidden, self.heads * self.head_dim, bias=self.query_bias)
        self.k_proj = nn.Linear(hidden, keys, bias=self.key_bias)
        self.v_proj = nn.Linear(hidden, keys, bias=self.value_bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, hidden, bias=self.output_bias)
        self.q_norm = Norm((self.head_dim,), config.rms_norm_eps) if self.qk_norm else nn.Identity()
        self.k_norm = Norm((self.head_dim,), config.rms_norm_eps) if self.qk_norm else nn.Identity()

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, cache=None, **kwargs):
        cache = kwargs.get("past_key_values") if cache is None else cache
        query, keys, values = (
            map(hidden_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for map in (self.q_proj, self.k_proj, self.v_proj)
        )
        cos, sin = (table.unsqueeze(1) for table in position_embeddings)
        query, keys = rotated(self.q_norm(query), cos, sin), rotated(self.k_norm(keys), cos, sin)
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer_idx)
        weights = self.softmax(query @ self.to_heads(keys, self.kv_heads).transpose(-1, -2), attention_mask)
        return self.finish(weights @ self.to_heads(values, self.kv_heads)), weights


KINDS = {"latent": LatentAttention, "mkla": MeanKeyAttention, "grouped_query": GroupedAttention}


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
            stated = config.latent_layers[index]
            layer.self_attn = KINDS[stated["kind"]](config, index)
            hidden, width, bias = config.hidden_size, stated["intermediate"], stated["mlp_bias"]
            layer.mlp.gate_proj = nn.Linear(hidden, width, bias=bias)
            layer.mlp.up_proj = nn.Linear(hidden, width, bias=bias)
            layer.mlp.down_proj = nn.Linear(width, hidden, bias=bias)
        self.post_init()
)python";
}

}  // namespace mla
