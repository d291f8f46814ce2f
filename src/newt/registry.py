"""All Parts, in the order of execution. A new Part is one import and one name here."""

from __future__ import annotations

from collections.abc import Sequence

from newt.config.core import SECTIONS
from newt.config.section import Section
from newt.extend import Family, Feature, Method, Part
from newt.families.cohere import Cohere
from newt.families.deepseek import Deepseek
from newt.families.falcon import Falcon
from newt.families.gemma import Gemma
from newt.families.gemma3 import Gemma3
from newt.families.gemma4 import Gemma4
from newt.families.glm import Glm
from newt.families.gpt2 import Gpt2
from newt.families.gpt_neox import GptNeox
from newt.families.gpt_oss import GptOss
from newt.families.granite import Granite
from newt.families.jamba import Jamba
from newt.families.llama import Llama
from newt.families.mistral import Mistral
from newt.families.mixtral import Mixtral
from newt.families.olmo import Olmo
from newt.families.phi import Phi
from newt.families.qwen import Qwen
from newt.families.qwen_hybrid import QwenHybrid
from newt.families.smollm import SmolLm
from newt.families.starcoder import Starcoder
from newt.features.attention import Attention
from newt.features.attention_kernels import AttentionKernels
from newt.features.auto_find_batch_size import AutoFindBatchSize
from newt.features.bench_eval import BenchEval
from newt.features.causal_lm_eval import CausalLmEval
from newt.features.checkpointing import Checkpointing
from newt.features.chunked_loss import ChunkedLoss
from newt.features.comet import Comet
from newt.features.compile import Compile
from newt.features.context_parallel import ContextParallel
from newt.features.custom_trainer import CustomTrainer
from newt.features.cut_cross_entropy import CutCrossEntropy
from newt.features.ddp import Ddp
from newt.features.deepspeed import Deepspeed
from newt.features.dense_mixer import DenseMixer
from newt.features.derived import Derived
from newt.features.dion import Dion
from newt.features.dynamic_checkpoint import DynamicCheckpoint
from newt.features.eaft import Eaft
from newt.features.early_stopping import EarlyStopping
from newt.features.expert_parallel import ExpertParallel
from newt.features.flash_extras import FlashExtras
from newt.features.flattening import Flattening
from newt.features.fp8 import Fp8
from newt.features.fp32_norms import Fp32Norms
from newt.features.freeze import Freeze
from newt.features.fsdp import Fsdp
from newt.features.garbage_collection import GarbageCollection
from newt.features.generation_samples import GenerationSamples
from newt.features.gradio import Gradio
from newt.features.grokfast import Grokfast
from newt.features.hatchery import Hatchery
from newt.features.hub import Hub, HubDataset
from newt.features.images import Images
from newt.features.jagged_restarts import JaggedRestarts
from newt.features.liger import Liger
from newt.features.lisa import Lisa
from newt.features.llmcompressor import LlmCompressor
from newt.features.lm_eval import LmEval
from newt.features.loading import Loading
from newt.features.lora import Lora
from newt.features.lora_init import LoraInit
from newt.features.lora_kernels import LoraKernels
from newt.features.lora_plus import LoraPlus
from newt.features.lr_groups import LrGroups
from newt.features.mesh import Mesh
from newt.features.mlflow import Mlflow
from newt.features.moe import Moe
from newt.features.moe_kernels import MoeKernels
from newt.features.mora import Mora
from newt.features.multimodal import Multimodal
from newt.features.neftune import Neftune
from newt.features.npu import Npu
from newt.features.offload import Offload
from newt.features.optimizer_in_bwd import OptimizerInBwd
from newt.features.optimizers import Optimizers
from newt.features.otel import Otel
from newt.features.packing import Packing
from newt.features.pose import Pose
from newt.features.precision import Precision
from newt.features.profiler import Profiler
from newt.features.qat import Qat
from newt.features.qgalore import QGalore
from newt.features.quantized_base import QuantizedBase
from newt.features.ray import Ray
from newt.features.relora import Relora
from newt.features.rl import Rl
from newt.features.router_loss import RouterLoss
from newt.features.sampling import Sampling
from newt.features.schedules import Schedules
from newt.features.selective_checkpointing import SelectiveCheckpointing
from newt.features.spectrum import Spectrum
from newt.features.streaming import Streaming
from newt.features.swanlab import Swanlab
from newt.features.tensorboard import Tensorboard
from newt.features.throughput import Throughput
from newt.features.tiled_mlp import TiledMlp
from newt.features.tokens import Tokens
from newt.features.trackio import Trackio
from newt.features.wandb import Wandb
from newt.features.watchdog import Watchdog
from newt.features.weight_scales import WeightScales
from newt.layouts import entry_types as entry_types
from newt.methods.diffusion import Diffusion
from newt.methods.distill import Distill
from newt.methods.dpo import Dpo
from newt.methods.ebft import Ebft
from newt.methods.grpo import Grpo
from newt.methods.kto import Kto
from newt.methods.orpo import Orpo
from newt.methods.pretrain import Pretrain
from newt.methods.process_reward import ProcessReward
from newt.methods.reward import Reward
from newt.methods.sft import Sft
from newt.methods.simpo import Simpo

METHODS: tuple[type[Method], ...] = (
    Sft,
    Pretrain,
    Distill,
    Diffusion,
    Dpo,
    Kto,
    Orpo,
    Simpo,
    Grpo,
    Ebft,
    Reward,
    ProcessReward,
)
FAMILIES: tuple[type[Family], ...] = (
    Llama,
    Mistral,
    Mixtral,
    Qwen,
    QwenHybrid,
    Gemma,
    Gemma3,
    Gemma4,
    Phi,
    Gpt2,
    GptNeox,
    GptOss,
    Falcon,
    Deepseek,
    Granite,
    Olmo,
    Cohere,
    Glm,
    SmolLm,
    Starcoder,
    Jamba,
)
FEATURES: tuple[type[Feature], ...] = (
    Lora,
    LoraInit,
    Loading,
    WeightScales,
    Tokens,
    QuantizedBase,
    Moe,
    RouterLoss,
    Multimodal,
    Freeze,
    LoraPlus,
    Lisa,
    Relora,
    LoraKernels,
    Precision,
    Attention,
    Packing,
    AutoFindBatchSize,
    Checkpointing,
    Optimizers,
    OptimizerInBwd,
    Schedules,
    AttentionKernels,
    FlashExtras,
    Fp8,
    Compile,
    Offload,
    SelectiveCheckpointing,
    Liger,
    CutCrossEntropy,
    ChunkedLoss,
    Eaft,
    TiledMlp,
    MoeKernels,
    DenseMixer,
    Spectrum,
    Mora,
    Neftune,
    Grokfast,
    LrGroups,
    Dion,
    QGalore,
    JaggedRestarts,
    Ddp,
    Deepspeed,
    Fsdp,
    Fp32Norms,
    Mesh,
    ContextParallel,
    ExpertParallel,
    Ray,
    EarlyStopping,
    Watchdog,
    GarbageCollection,
    Throughput,
    CausalLmEval,
    GenerationSamples,
    BenchEval,
    LmEval,
    Profiler,
    DynamicCheckpoint,
    Wandb,
    Mlflow,
    Comet,
    Tensorboard,
    Trackio,
    Swanlab,
    Otel,
    Gradio,
    Images,
    LlmCompressor,
    Hatchery,
    Rl,
    Streaming,
    Sampling,
    Flattening,
    Pose,
    Qat,
    Hub,
    HubDataset,
    CustomTrainer,
    Npu,
    Derived,
)


def sections(extra: Sequence[type[Part]] = ()) -> tuple[type[Section], ...]:
    """Every section of top-level keys: the core ones, those of the Parts, then those of ``extra`` Parts."""
    parts: tuple[type[Part], ...] = (*METHODS, *FAMILIES, *FEATURES, *extra)
    return tuple(dict.fromkeys((*SECTIONS, *(section for part in parts for section in part.Settings))))
