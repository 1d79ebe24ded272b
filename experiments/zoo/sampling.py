"""Draw many samples of a small Llama at once, on a CPU. Reinforcement learning and distillation spend half of their
time on this.

Transformers' `generate` copies the whole cache of keys and values at every token, and once more to repeat the keys for
grouped queries. Here the cache has its full length from the start, queries of one group share a matrix product with
their keys, the weights of a LoRA adapter are merged before sampling, projections of the same input are one product, and
rows that have finished leave the batch.

    x ← x + W_o · softmax(q kᵀ / √d) v     with q, k rotated by their positions, and a causal mask that hides the left
                                           padding
    x ← x + W_down · (silu(W_gate x) ∘ W_up x)
"""

from dataclasses import dataclass, field

import torch
from torch.nn.functional import linear, silu

LOOK_EVERY = 8  # tokens between two looks at which rows have finished


@dataclass(slots=True)
class Cache:
    """Keys and values `[row, head, position, width]` per layer, of which `length` positions are filled, and the rows'
    left padding."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    padding: torch.Tensor
    length: int = 0

    def select(self, rows: torch.Tensor) -> "Cache":
        keys, values = ([layer[rows] for layer in layers] for layers in (self.keys, self.values))
        return Cache(keys, values, self.padding[rows], self.length)


@dataclass(slots=True)
class Sampler:
    """A copy of a Llama's weights, as the products need them; `refresh` takes them from the model again, its adapter
    merged."""

    model: torch.nn.Module
    layers: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refresh()

    @property
    def llama(self):
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @torch.no_grad()
    def refresh(self) -> None:
        self.layers = []
        for block in self.llama.model.layers:
            attention, mlp = block.self_attn, block.mlp
            self.layers.append(
                {
                    "qkv": torch.cat([merged(attention.q_proj), merged(attention.k_proj), merged(attention.v_proj)]),
                    "out": merged(attention.o_proj),
                    "gate_up": torch.cat([merged(mlp.gate_proj), merged(mlp.up_proj)]),
                    "down": merged(mlp.down_proj),
                }
            )

    @torch.inference_mode()
    def sample(
        self,
        prompts: list[list[int]],
        *,
        samples: int,
        budget: int,
        temperature: float,
        end: int,
        generator: torch.Generator,
    ) -> list[list[list[int]]]:
        """For each prompt, `samples` continuations of at most `budget` ids, with the end id where it came; greedy at
        temperature 0."""
        width = max(map(len, prompts))
        padding = torch.tensor([width - len(prompt) for prompt in prompts])
        cache = self._new_cache(len(prompts), width + budget, padding)
        logits = self._forward(torch.tensor([[end] * (width - len(prompt)) + prompt for prompt in prompts]), cache)
        rows = torch.arange(len(prompts)).repeat_interleave(samples)
        cache, logits = cache.select(rows), logits[rows]
        written = torch.full((len(rows), budget), end)
        going = torch.arange(len(rows))
        for t in range(budget):
            chosen = choose(logits, temperature, generator)
            written[going, t] = chosen
            if t + 1 == budget:
                break
            if t % LOOK_EVERY == LOOK_EVERY - 1:
                kept = (written[going, : t + 1] != end).all(dim=1).nonzero()[:, 0]
                if not len(kept):
                    break
                if len(kept) < len(going):
                    cache, going, chosen = cache.select(kept), going[kept], chosen[kept]
            logits = self._forward(chosen[:, None], cache)
        cut = [row[: row.index(end) + 1] if end in row else row for row in written.tolist()]
        return [cut[i : i + samples] for i in range(0, len(cut), samples)]

    def _new_cache(self, rows: int, length: int, padding: torch.Tensor) -> Cache:
        config = self.llama.config
        shape = (rows, config.num_key_value_heads, length, config.head_dim)
        dtype = self.llama.lm_head.weight.dtype
        return Cache(*([torch.zeros(shape, dtype=dtype) for _ in self.layers] for _ in range(2)), padding)

    def _forward(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Logits after the last of the new `ids` `[row, position]`, whose keys and values go into the cache."""
        llama = self.llama.model
        start, stop = cache.length, cache.length + ids.shape[1]
        x = llama.embed_tokens(ids)
        positions = (torch.arange(start, stop)[None] - cache.padding[:, None]).clamp(min=0)
        rotation = llama.rotary_emb(x, positions)
        seen = torch.arange(stop)
        hidden = (seen[None, None] < cache.padding[:, None, None]) | (
            seen[None, None] > torch.arange(start, stop)[None, :, None]
        )
        for index, (block, weights) in enumerate(zip(llama.layers, self.layers, strict=True)):
            x = x + self._attend(block.input_layernorm(x), weights, cache, index, rotation, hidden)
            gate, up = linear(block.post_attention_layernorm(x), weights["gate_up"]).chunk(2, dim=-1)
            x = x + linear(silu(gate) * up, weights["down"])
        cache.length = stop
        return self.llama.lm_head(llama.norm(x[:, -1].contiguous())).float()

    def _attend(
        self, x: torch.Tensor, weights: dict, cache: Cache, layer: int, rotation, hidden: torch.Tensor
    ) -> torch.Tensor:
        config = self.llama.config
        heads, groups, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        rows, new, _ = x.shape
        q, k, v = (
            linear(x, weights["qkv"]).view(rows, new, -1, width).transpose(1, 2).split([heads, groups, groups], dim=1)
        )
        q, k = rotate(q, rotation), rotate(k, rotation)
        stop = cache.length + new
        cache.keys[layer][:, :, cache.length : stop] = k
        cache.values[layer][:, :, cache.length : stop] = v
        keys, values = (held[layer][:, :, :stop].flatten(0, 1) for held in (cache.keys, cache.values))
        q = q.reshape(rows * groups, heads // groups * new, width)
        scores = torch.bmm(q, keys.transpose(1, 2)).float().view(rows, heads, new, stop) * width**-0.5
        scores = scores.masked_fill(hidden[:, None], torch.finfo(torch.float32).min)
        weighted = torch.bmm(scores.softmax(dim=-1).to(x.dtype).view(rows * groups, -1, stop), values)
        return linear(weighted.view(rows, heads, new, width).transpose(1, 2).reshape(rows, new, -1), weights["out"])


def merged(module: torch.nn.Module) -> torch.Tensor:
    """A linear layer's weight, with its LoRA adapter, in the weight's dtype."""
    if not hasattr(module, "base_layer"):
        return module.weight
    name = module.active_adapters[0]
    delta = module.lora_B[name].weight.float() @ module.lora_A[name].weight.float() * module.scaling[name]
    return (module.base_layer.weight.float() + delta).to(module.base_layer.weight.dtype)


def rotate(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cosine, sine = (part[:, None] for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def choose(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """The likeliest id of each row, or one drawn from softmax(logits / temperature), by one random number a row
    (inverse distribution)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    summed = (logits / temperature).softmax(dim=-1).cumsum(dim=-1)
    drawn = torch.rand(len(logits), 1, generator=generator) * summed[:, -1:]
    return torch.searchsorted(summed, drawn, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
