"""A worker of vLLM for processors without AVX-512, for which its CPU release has no 4-bit product: the matrix is
unpacked, as vLLM has rearranged it on loading, and PyTorch multiplies."""

import torch
import vllm._custom_ops
from vllm.v1.worker.cpu_worker import CPUWorker


def nibbles(packed):
    """The eight codes of every int32, the lowest first, along a new last dimension."""
    return (packed.unsqueeze(-1) >> torch.arange(0, 32, 4, dtype=torch.int32)) & 15


def unpack(packed, scales, zeros):
    """Weights [inputs, outputs]; packed: blocks of sixteen outputs, by inputs; scales, zeros: [groups, outputs]."""
    groups, outputs = scales.shape
    inputs = packed.numel() * 8 // outputs
    codes = nibbles(packed.reshape(outputs // 16, inputs, 2)).flatten(2).permute(1, 0, 2)
    zeros = 8 if zeros is None else nibbles(zeros).reshape(groups, 1, outputs)
    codes = codes.reshape(groups, inputs // groups, outputs)
    return ((codes - zeros) * scales.float().unsqueeze(1)).reshape(inputs, outputs)


def cpu_gemm_wna16(input, q_weight, scales, zeros, bias, pack_factor, isa_hint):
    weights = unpack(q_weight, scales, zeros).T
    bias = None if bias is None else bias.float()
    return torch.nn.functional.linear(input.float(), weights, bias).to(input.dtype)


class Worker(CPUWorker):
    def __init__(self, *arguments, **options):
        vllm._custom_ops.cpu_gemm_wna16 = cpu_gemm_wna16
        super().__init__(*arguments, **options)
