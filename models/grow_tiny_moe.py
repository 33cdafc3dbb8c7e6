"""Grows tiny-moe, a mixture of experts of Qwen3-MoE's architecture, out of tiny-llama, on a GPU.

    python3 models/grow_tiny_moe.py models/tiny-llama OUTPUT [--text FILE...] [--sample-tokens N] [--steps N]
                                    [--minutes M] [--from EARLIER_OUTPUT] [--seed N]

tiny-llama writes text: windows of 512 tokens, temperature 1, from a new line on, which starts articles and novels
alike (behind its end-of-text token it writes articles alone). The student starts from every second layer of
tiny-llama, its experts from random features of the layer's feed-forward block, and learns tiny-llama's distribution
at every position: cross-entropy with soft targets, and a term that balances the experts (Fedus et al. 2021, arXiv
2101.03961). Matrices of the layers learn by Muon (Jordan et al. 2024: momentum, orthogonalized by five Newton-Schulz
steps), the others by Adam. With --from it goes on from what an earlier run left; another seed then
samples other text. OUTPUT gets config.json, model.safetensors (fp16) and the tokenizer; the perplexities of
the texts and the share of tokens of every expert are printed.
"""
import argparse
import json
import math
import pathlib
import shutil
import time

import tokenizers
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

LAYERS, EXPERTS, TOP, WIDTH = 8, 8, 2, 128
WINDOW, EPS = 512, 1e-6
BALANCE = 0.01


class Sizes:
    def __init__(self, config):
        self.hidden, self.layers = config["hidden_size"], config["num_hidden_layers"]
        self.heads, self.kv_heads, self.head = (config["num_attention_heads"], config["num_key_value_heads"],
                                                config["head_dim"])
        self.features = config["intermediate_size"]
        self.vocabulary, self.theta = config["vocab_size"], config["rope_parameters"]["rope_theta"]
        self.eps = config["rms_norm_eps"]


def rope_tables(sizes, device):
    frequencies = sizes.theta ** (-torch.arange(0, sizes.head, 2, dtype=torch.float32, device=device) / sizes.head)
    angles = torch.outer(torch.arange(WINDOW, dtype=torch.float32, device=device), frequencies)
    return torch.cat([angles.cos()] * 2, 1), torch.cat([angles.sin()] * 2, 1)


def rotated(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos.to(x.dtype) + torch.cat([-x[..., half:], x[..., :half]], -1) * sin.to(x.dtype)


def rms(x, gain, eps):
    return (F.rms_norm(x.float(), (x.shape[-1],), eps=eps) * gain.float()).to(x.dtype)


def heads_of(x, head):
    return x.unflatten(-1, (-1, head)).transpose(1, 2)  # [B, heads, T, head]


def attend(q, k, v):
    groups = q.shape[1] // k.shape[1]
    mixed = F.scaled_dot_product_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1),
                                           is_causal=True)
    return mixed.transpose(1, 2).flatten(2)


class Teacher:
    """tiny-llama's forward pass, of whole windows and token by token."""

    def __init__(self, folder, device, dtype):
        self.sizes = Sizes(json.loads((folder / "config.json").read_text()))
        self.weights = {}
        for shard in sorted(folder.glob("*.safetensors")):
            self.weights.update({name: value.to(device, dtype) for name, value in load_file(shard).items()})
        self.cos, self.sin = rope_tables(self.sizes, device)

    def layer(self, n, name):
        return self.weights[f"model.layers.{n}.{name}.weight"]

    def qkv(self, n, x):
        h = rms(x, self.layer(n, "input_layernorm"), self.sizes.eps)
        return [heads_of(h @ self.layer(n, f"self_attn.{name}_proj").T, self.sizes.head) for name in "qkv"]

    def finish(self, n, x, mixed):
        x = x + mixed @ self.layer(n, "self_attn.o_proj").T
        h = rms(x, self.layer(n, "post_attention_layernorm"), self.sizes.eps)
        gated = F.silu(h @ self.layer(n, "mlp.gate_proj").T) * (h @ self.layer(n, "mlp.up_proj").T)
        return x + gated @ self.layer(n, "mlp.down_proj").T

    def logits(self, x):
        return rms(x, self.weights["model.norm.weight"], self.sizes.eps) @ self.weights["model.embed_tokens.weight"].T

    def __call__(self, ids):
        x = self.weights["model.embed_tokens.weight"][ids]
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for n in range(self.sizes.layers):
            q, k, v = self.qkv(n, x)
            x = self.finish(n, x, attend(rotated(q, cos, sin), rotated(k, cos, sin), v))
        return self.logits(x)

    def step(self, ids, place, keys, values, length):
        """Logits behind ids [B] at `place` (a tensor); keys and values [layers, B, kv, window, head] are filled in."""
        x = self.weights["model.embed_tokens.weight"][ids][:, None]
        cos, sin = self.cos[place], self.sin[place]
        hidden = torch.arange(length, device=ids.device) > place
        for n in range(self.sizes.layers):
            q, k, v = self.qkv(n, x)
            keys[n].index_copy_(2, place, rotated(k, cos, sin))
            values[n].index_copy_(2, place, v)
            grouped = rotated(q, cos, sin).unflatten(1, (self.sizes.kv_heads, -1)).squeeze(3)  # [B, kv, group, head]
            scores = grouped @ keys[n][:, :, :length].transpose(2, 3) / math.sqrt(self.sizes.head)
            mixed = scores.float().masked_fill(hidden, -math.inf).softmax(-1).to(x.dtype) @ values[n][:, :, :length]
            x = self.finish(n, x, mixed.flatten(1)[:, None])
        return self.logits(x)[:, 0]


@torch.no_grad()
def sample(teacher, first, tokens, batch, device, dtype):
    """Windows [n, WINDOW] that the teacher writes from the token `first` on; steps of one length are one CUDA graph."""
    sizes, windows = teacher.sizes, []
    shape = (sizes.layers, batch, sizes.kv_heads, WINDOW, sizes.head)
    keys, values = torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype)
    ids = torch.zeros(batch, dtype=torch.long, device=device)
    place = torch.zeros(1, dtype=torch.long, device=device)
    output = torch.zeros((batch, WINDOW), dtype=torch.int16, device=device)

    def step(length):
        output.index_copy_(1, place, ids.to(torch.int16)[:, None])
        logits = teacher.step(ids, place, keys, values, length).float()
        noise = torch.empty_like(logits).exponential_()
        ids.copy_((logits.softmax(-1) / noise).argmax(-1))  # a draw from the distribution
        place.add_(1)

    graphs = {}
    for length in range(128, WINDOW + 1, 128):
        if device.type != "cuda":
            break
        place.zero_()
        step(length)  # warms up
        place.zero_()
        graphs[length] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[length]):
            step(length)
    while len(windows) * batch * WINDOW < tokens:
        ids.fill_(first)
        place.zero_()
        for t in range(WINDOW):
            length = (t // 128 + 1) * 128
            graphs[length].replay() if graphs else step(length)
        windows.append(output.clone())
    return torch.cat(windows)


class Student(torch.nn.Module):
    def __init__(self, teacher):
        super().__init__()
        sizes = self.sizes = teacher.sizes
        self.cos, self.sin = teacher.cos, teacher.sin
        self.embedding = torch.nn.Parameter(teacher.weights["model.embed_tokens.weight"].float().clone())
        self.norm = torch.nn.Parameter(teacher.weights["model.norm.weight"].float().clone())
        self.layers = torch.nn.ModuleList()
        generator = torch.Generator().manual_seed(0)
        scale = sizes.features / (TOP * WIDTH)
        for n in range(LAYERS):
            source = n * sizes.layers // LAYERS
            layer = torch.nn.ParameterDict()
            for name in "qkvo":
                layer[name] = teacher.layer(source, f"self_attn.{name}_proj").float().clone()
            for name in ("q_norm", "k_norm"):
                layer[name] = torch.full((sizes.head,), 3.0, device=self.cos.device)
            layer["before_attention"] = teacher.layer(source, "input_layernorm").float().clone()
            layer["before_experts"] = teacher.layer(source, "post_attention_layernorm").float().clone()
            layer["router"] = (torch.randn(EXPERTS, sizes.hidden, generator=generator) * 0.02).to(self.cos.device)
            features = torch.cat([torch.randperm(sizes.features, generator=generator) for _ in range(2)])[:EXPERTS * WIDTH]
            features = features.to(self.cos.device)
            for name in ("gate", "up"):
                rows = teacher.layer(source, f"mlp.{name}_proj").float()[features]
                layer[name] = rows.unflatten(0, (EXPERTS, WIDTH)).contiguous()
            down = teacher.layer(source, "mlp.down_proj").float()[:, features] * math.sqrt(scale)
            layer["down"] = down.unflatten(1, (EXPERTS, WIDTH)).transpose(0, 1).contiguous()  # [experts, hidden, width]
            self.layers.append(layer)

    def experts(self, layer, h):
        """The weighted sum of the chosen experts, the balancing term, and how many tokens each expert has."""
        probabilities = (h.float() @ layer["router"].T).softmax(-1)
        best, chosen = probabilities.topk(TOP, -1)
        gates = torch.zeros_like(probabilities).scatter(-1, chosen, best / best.sum(-1, keepdim=True))
        used = (gates > 0).float().mean((0, 1))
        balance = EXPERTS / TOP * (used * probabilities.mean((0, 1))).sum()
        x = h.flatten(0, 1)
        gate, up = [(x @ layer[name].to(h.dtype).flatten(0, 1).T) for name in ("gate", "up")]
        gated = (F.silu(gate) * up).unflatten(-1, (EXPERTS, WIDTH)) * gates.flatten(0, 1).to(h.dtype)[..., None]
        out = gated.flatten(1) @ layer["down"].to(h.dtype).transpose(1, 2).flatten(0, 1)
        return out.unflatten(0, h.shape[:2]), balance, used

    def forward(self, ids):
        dtype = torch.bfloat16 if ids.is_cuda else torch.float32
        x = self.embedding.to(dtype)[ids]
        cos, sin, balance, shares = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]], 0.0, []
        for layer in self.layers:
            h = rms(x, layer["before_attention"], EPS)
            q, k, v = [heads_of(h @ layer[name].to(dtype).T, self.sizes.head) for name in "qkv"]
            q = rotated(rms(q, layer["q_norm"], EPS), cos, sin)
            k = rotated(rms(k, layer["k_norm"], EPS), cos, sin)
            x = x + attend(q, k, v) @ layer["o"].to(dtype).T
            out, term, used = self.experts(layer, rms(x, layer["before_experts"], EPS))
            x, balance = x + out, balance + term
            shares.append(used)
        return rms(x, self.norm, EPS) @ self.embedding.to(dtype).T, balance / LAYERS, torch.stack(shares)


def orthogonalized(g):
    x = g.bfloat16() if g.is_cuda else g.clone()
    turned = x.shape[-2] > x.shape[-1]
    x = x.mT if turned else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if turned else x).to(g.dtype)


class Muon:
    def __init__(self, parameters, rate):
        self.parameters, self.rate = parameters, rate
        self.momenta = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, part):
        for p, momentum in zip(self.parameters, self.momenta):
            momentum.lerp_(p.grad, 0.05)
            update = orthogonalized(p.grad.lerp(momentum, 0.95))
            scale = math.sqrt(max(1, p.shape[-2] / p.shape[-1]))
            p.mul_(1 - part * self.rate * 0.01).add_(update, alpha=-part * self.rate * scale)


def tensors_of(student):
    """The student's parameters, or parts of them, by Hugging Face's names."""
    tensors = {"model.embed_tokens.weight": student.embedding, "model.norm.weight": student.norm}
    for n, layer in enumerate(student.layers):
        prefix = f"model.layers.{n}."
        for name in "qkvo":
            tensors[f"{prefix}self_attn.{name}_proj.weight"] = layer[name]
        for name in ("q_norm", "k_norm"):
            tensors[f"{prefix}self_attn.{name}.weight"] = layer[name]
        tensors[prefix + "input_layernorm.weight"] = layer["before_attention"]
        tensors[prefix + "post_attention_layernorm.weight"] = layer["before_experts"]
        tensors[prefix + "mlp.gate.weight"] = layer["router"]
        for name in ("gate", "up", "down"):
            for e in range(EXPERTS):
                tensors[f"{prefix}mlp.experts.{e}.{name}_proj.weight"] = layer[name][e]
    return tensors


def train(teacher, windows, options, device):
    student = Student(teacher).to(device)
    if options.earlier:
        earlier = load_file(options.earlier / "model.safetensors")
        with torch.no_grad():
            for name, value in tensors_of(student).items():
                value.copy_(earlier[name])
    matrices = [p for layer in student.layers for name, p in layer.items() if p.dim() >= 2 and name != "router"]
    chosen = {id(p) for p in matrices}
    others = [p for p in student.parameters() if id(p) not in chosen]
    muon = Muon(matrices, 0.02)
    adam = torch.optim.Adam(others, lr=1e-3, betas=(0.9, 0.98), fused=device.type == "cuda")
    piece = options.batch // options.pieces

    def loss_of(ids):
        with torch.no_grad():
            target = teacher(ids).float().softmax(-1)
        logits, balance, shares = student(ids)
        loss = -(target * logits.float().log_softmax(-1)).sum(-1).mean()
        return loss + BALANCE * balance, loss.detach(), shares.detach()

    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    compute = torch.compile(loss_of) if device.type == "cuda" else loss_of
    steps, started, step = options.steps, time.time(), 0
    order = torch.randperm(len(windows), device=device)
    while step < steps:
        if step == 60:  # compiled by now
            synchronize()
            timed = time.time()
        if step == 160 and options.minutes:
            synchronize()
            left = options.minutes * 60 - (time.time() - started)
            steps = min(steps, step + int(left / ((time.time() - timed) / 100)))
            print(f"{steps} steps", flush=True)
        part = min(1, (step + 1) / 50) * min(1, (steps - step) / (0.5 * steps))
        for one in adam.param_groups:
            one["lr"] = 1e-3 * part
        for q in range(options.pieces):
            first = (step * options.batch + q * piece) % max(1, len(order) - piece + 1)
            ids = windows[order[first:first + piece]].long()
            total, loss, shares = compute(ids)
            (total / options.pieces).backward()
        muon.step(part)
        adam.step()
        student.zero_grad(set_to_none=False)
        if step % 200 == 0 or step == steps - 1:
            print(f"step {step} of {steps}, {time.time() - started:.0f} s: soft cross-entropy {loss.item():.4f}, "
                  f"smallest share {100 * shares.min().item():.1f} %", flush=True)
        step += 1
    print(f"{step} steps of {options.batch * WINDOW} tokens out of {windows.numel()} in {time.time() - started:.0f} s")
    return student


def save(student, source, output):
    sizes = student.sizes
    tensors = tensors_of(student)
    output.mkdir(parents=True, exist_ok=True)
    half = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in tensors.items()}
    save_file(half, output / "model.safetensors", metadata={"format": "pt"})
    config = dict(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", attention_bias=False,
                  bos_token_id=0, eos_token_id=0, dtype="float16", head_dim=sizes.head, hidden_act="silu",
                  hidden_size=sizes.hidden, intermediate_size=WIDTH, moe_intermediate_size=WIDTH,
                  num_experts=EXPERTS, num_experts_per_tok=TOP, norm_topk_prob=True, decoder_sparse_step=1,
                  mlp_only_layers=[], num_attention_heads=sizes.heads, num_key_value_heads=sizes.kv_heads,
                  num_hidden_layers=LAYERS, max_position_embeddings=1024, rms_norm_eps=EPS,
                  rope_theta=sizes.theta, tie_word_embeddings=True, use_sliding_window=False,
                  vocab_size=sizes.vocabulary)
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, output / name)
    with torch.no_grad():  # what is read back is what is measured
        for name, value in tensors.items():
            value.copy_(half[name].to(value.device, value.dtype))


@torch.no_grad()
def perplexity(model, ids):
    losses, shares = [], []
    for window in ids.split(16):
        output = model(window)
        logits, share = (output[0], output[2]) if isinstance(output, tuple) else (output, None)
        losses.append(F.cross_entropy(logits[:, :-1].float().flatten(0, 1), window[:, 1:].flatten(), reduction="sum"))
        shares.append(share)
    mean = sum(losses).item() / (ids.shape[0] * (ids.shape[1] - 1))
    return math.exp(mean), None if shares[0] is None else torch.stack(shares).mean(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("teacher", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--text", nargs="*", default=[])
    parser.add_argument("--sample-tokens", type=int, default=150_000_000)
    parser.add_argument("--sample-batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--from", dest="earlier", type=pathlib.Path, help="a folder that this program wrote")
    parser.add_argument("--minutes", type=float, default=0, help="train no longer than this")
    parser.add_argument("--batch", type=int, default=128, help="windows a step")
    parser.add_argument("--pieces", type=int, default=1, help="passes that a step is split into")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    teacher = Teacher(options.teacher, device, dtype)
    started = time.time()
    tokenizer = tokenizers.Tokenizer.from_file(str(options.teacher / "tokenizer.json"))
    first = tokenizer.encode("\n").ids[-1]
    windows = sample(teacher, first, options.sample_tokens, options.sample_batch, device, dtype)
    print(f"{windows.numel()} tokens written in {time.time() - started:.0f} s, of perplexity "
          f"{perplexity(teacher, windows[-256:].long())[0]:.1f} to tiny-llama", flush=True)
    student = train(teacher, windows, options, device)
    save(student, options.teacher, options.output)
    for text in options.text:
        ids = torch.tensor(tokenizer.encode(pathlib.Path(text).read_text(encoding="utf-8")).ids, device=device)
        ids = ids[:len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
        (of_teacher, _), (of_student, shares) = perplexity(teacher, ids), perplexity(student, ids)
        print(f"{text}: perplexity {of_student:.3f}, tiny-llama's {of_teacher:.3f} "
              f"({100 * (of_student / of_teacher - 1):+.1f} %)")
        for n, layer in enumerate(shares.tolist()):
            print(f"  layer {n}: tokens of each expert, % of all: " + " ".join(f"{100 * s / TOP:.1f}" for s in layer))


if __name__ == "__main__":
    main()
