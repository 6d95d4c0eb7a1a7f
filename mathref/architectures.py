"""The model families: what config.json and the tensor names of each one say, and what ModelConfig calls it.

Paper: none (PaLM 2's weights are closed); these are the open families that take its place, Gemma being its
makers' own.
Choices [P]: what a key means, also when it is absent, is what transformers makes of it. A value that asks for
something model.py does not compute is refused in one line, never passed over. Files are written with the keys
that old and new versions of other tools read (rope_theta and rope_scaling, not rope_parameters). Hugging
Face's names stand in this module and in weights.py, nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from mathref.config import MAX_LAYERS, ModelConfig
from mathref.rope import RopeScaling

# ModelConfig field -> config.json key, in every family
CONFIG_KEYS = {
    "vocab_size": "vocab_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_kv_head": "num_key_value_heads",
    "head_dim": "head_dim",
    "n_embd": "hidden_size",
    "n_inner": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "rope_theta": "rope_theta",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}
# RopeScaling field -> key within rope_scaling
ROPE_KEYS = {
    "default": {},
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_max_seq_len": "original_max_position_embeddings",
    },
}
# Keys that change what is computed, and the values under which model.py computes it.
REQUIRED_VALUES: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "quantization_config": (None,),
    "partial_rotary_factor": (1,),
    "use_bidirectional_attention": (None, False),
    "is_causal": (None, True),
}
LAYER_TYPES = {"sliding_attention": True, "full_attention": False}  # -> windowed

# Module name here -> module name there; layers keep their number.
OUTER_NAMES = {"embedding": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}
LAYER_NAMES = {
    "norm_1": "input_layernorm",
    "norm_2": "post_attention_layernorm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.out": "mlp.down_proj",
}
# With post_norms, the name that Llama gives to its second norm is that of the norm after attention.
POST_NORM_NAMES = {
    "post_norm_1": "post_attention_layernorm",
    "norm_2": "pre_feedforward_layernorm",
    "post_norm_2": "post_feedforward_layernorm",
}


@dataclass(frozen=True)
class Family:
    """One model_type, by what it does not share with the others."""

    architecture: str  # the class of transformers that config.json names
    switches: dict[str, Any] = field(default_factory=dict)  # ModelConfig fields that all its models have so
    keys: dict[str, str] = field(default_factory=dict)  # further ModelConfig fields and their keys
    defaults: dict[str, Any] = field(default_factory=dict)  # what an absent key means
    values: dict[str, tuple[Any, ...]] = field(
        default_factory=dict
    )  # as REQUIRED_VALUES; the first is written
    derives: tuple[str, ...] = ()  # of head_dim and num_key_value_heads, those that follow from other keys
    windows: bool = False  # layer_types says which layers have the sliding window


GEMMA_SWITCHES = {"activation": "gelu_tanh", "norm_unit_offset": True, "scale_embedding": True}
BOTH = ("head_dim", "num_key_value_heads")
FAMILIES = {
    "llama": Family(
        "LlamaForCausalLM",
        defaults={"tie_word_embeddings": False},
        values={
            "hidden_act": ("silu",),
            "attention_bias": (False,),
            "mlp_bias": (False,),
            "sliding_window": (None,),
        },
        derives=BOTH,
    ),
    "mistral": Family(
        "MistralForCausalLM",
        keys={"sliding_window": "sliding_window"},
        defaults={"tie_word_embeddings": False, "sliding_window": 4096},
        values={"hidden_act": ("silu",), "layer_types": (None,)},
        derives=("head_dim",),
    ),
    "qwen2": Family(
        "Qwen2ForCausalLM",
        switches={"qkv_bias": True},
        keys={"sliding_window": "sliding_window"},
        defaults={"tie_word_embeddings": False, "sliding_window": 4096, "max_window_layers": 28},
        values={"hidden_act": ("silu",), "attention_bias": (None, True, False)},  # not a key of this family
        derives=("head_dim",),
        windows=True,
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        switches={"qk_norm": True},
        keys={"sliding_window": "sliding_window"},
        defaults={"tie_word_embeddings": False, "sliding_window": 4096, "max_window_layers": 28},
        values={"hidden_act": ("silu",), "attention_bias": (False,)},
        windows=True,
    ),
    "gemma": Family(
        "GemmaForCausalLM",
        switches=GEMMA_SWITCHES,
        defaults={"tie_word_embeddings": True},
        values={
            "hidden_act": ("gelu_pytorch_tanh", "gelu"),  # the first releases say gelu and mean the other
            "hidden_activation": (None, "gelu_pytorch_tanh"),
            "attention_bias": (False,),
            "sliding_window": (None,),
        },
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        switches={**GEMMA_SWITCHES, "post_norms": True},
        keys={
            "sliding_window": "sliding_window",
            "query_scalar": "query_pre_attn_scalar",
            "attention_softcap": "attn_logit_softcapping",
            "logit_softcap": "final_logit_softcapping",
        },
        defaults={
            "tie_word_embeddings": True,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "sliding_window_pattern": 2,
        },
        values={
            "hidden_activation": ("gelu_pytorch_tanh",),
            "attention_bias": (False,),
            "sliding_window_pattern": (None, 2),  # not a key of this family
        },
        windows=True,
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        switches={**GEMMA_SWITCHES, "post_norms": True, "qk_norm": True},
        keys={
            "sliding_window": "sliding_window",
            "query_scalar": "query_pre_attn_scalar",
            "logit_softcap": "final_logit_softcapping",
            "window_rope_theta": "rope_local_base_freq",
        },
        defaults={
            "tie_word_embeddings": True,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "sliding_window_pattern": 6,
        },
        values={
            "hidden_activation": ("gelu_pytorch_tanh",),
            "attention_bias": (False,),
            "attn_logit_softcapping": (None,),  # transformers reads it and does not apply it
        },
        windows=True,
    ),
}
NULLABLE = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")  # null: do without


def _rope_values(family: Family, values: dict[str, Any], source: str | Path) -> dict[str, Any]:
    """The rotary settings from where older and newer files keep them: rope_theta, rope_scaling and the like.

    Older files have rope_scaling beside rope_theta; newer ones have rope_parameters, which holds what both do
    and is kept by layer type where the types differ.
    """
    scaling, parameters = values.get("rope_scaling"), values.get("rope_parameters")
    if scaling and parameters:
        raise ValueError(f"{source}: has rope_scaling and rope_parameters, expected one of them")
    name, settings = ("rope_parameters", parameters) if parameters else ("rope_scaling", scaling)
    found: dict[str, Any] = {}
    if parameters and "rope_local_base_freq" in family.keys.values():
        if not isinstance(parameters, dict) or set(parameters) - set(LAYER_TYPES):
            layer_types = " and ".join(LAYER_TYPES)
            raise ValueError(f"{source}: {name} is {parameters!r}, expected an object for {layer_types}")
        local = _one_rope(parameters.get("sliding_attention"), f"{name} of sliding_attention", source)
        if local["rope_scaling"] is not None or local["partial_rotary_factor"] not in (None, 1):
            given = parameters["sliding_attention"]
            raise ValueError(f"{source}: {name} of sliding_attention is {given!r}, supported: plain ones")
        found = {"rope_local_base_freq": local["rope_theta"]}
        name, settings = f"{name} of full_attention", parameters.get("full_attention")
    elif isinstance(settings, dict) and "rope_local_base_freq" in family.keys.values():
        # Of this family transformers reads the newer key alone, and computes plain positions without it.
        if "type" in settings and "rope_type" not in settings:
            raise ValueError(f"{source}: {name} is {settings!r}, expected its kind under rope_type")
    elif isinstance(settings, dict) and settings.get("rope_type", settings.get("type")) == "llama3":
        key = ROPE_KEYS["llama3"]["original_max_seq_len"]
        settings = settings | {key: values.get(key, settings.get(key))}  # beside the object it prevails
    found |= _one_rope(settings, name, source)
    named = {key: value for key, value in found.items() if value is not None}
    return {"rope_theta": 10000.0, **family.defaults, **values, "rope_scaling": None, **named}


def _one_rope(settings: Any, name: str, source: str | Path) -> dict[str, Any]:
    """rope_theta and partial_rotary_factor (None where not named) and rope_scaling of one such object."""
    settings = {} if settings is None else settings
    kind = settings
    if isinstance(settings, dict):
        kind = settings.get("rope_type", settings.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE_KEYS:
        raise ValueError(f"{source}: {name} is {settings!r}, supported rope_type: {', '.join(ROPE_KEYS)}")
    if not isinstance(settings, dict):
        raise ValueError(f"{source}: {name} is {settings!r}, expected an object with rope_type")
    own, shared = ROPE_KEYS[kind], ("rope_theta", "partial_rotary_factor")
    if missing := [key for key in own.values() if settings.get(key) is None]:
        raise ValueError(f"{source}: {name} of rope_type {kind!r} lacks {', '.join(missing)}")
    if unknown := [key for key in settings if key not in (*own.values(), *shared, "rope_type", "type")]:
        found = ", ".join(f"{key} {settings[key]!r}" for key in unknown)
        raise ValueError(f"{source}: {name} of rope_type {kind!r} has {found}, which is not supported")
    scaling = None
    if own:
        try:
            scaling = RopeScaling(kind, **{part: settings[key] for part, key in own.items()})
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
    return {key: settings.get(key) for key in shared} | {"rope_scaling": scaling}


def _window_pattern(family: Family, values: dict[str, Any], source: str | Path) -> tuple[bool, ...]:
    """Which layers have the sliding window, as the shortest pattern that repeats."""
    n_layer, window, types = (
        values.get(key) for key in ("num_hidden_layers", "sliding_window", "layer_types")
    )
    if not isinstance(n_layer, int) or n_layer > MAX_LAYERS:  # refused by ModelConfig
        return (True,)
    if types is not None:
        known = LAYER_TYPES if family.windows else ["full_attention"]
        if not isinstance(types, list) or len(types) != n_layer or any(t not in known for t in types):
            expected = f"{n_layer} times {' or '.join(known)}"
            raise ValueError(f"{source}: layer_types is {str(types)[:80]}, expected {expected}")
    if not family.windows:
        return (True,)
    if types is not None:
        layers = [LAYER_TYPES[layer_type] for layer_type in types]
        if window is None and any(layers):
            raise ValueError(f"{source}: layer_types has sliding_attention, but there is no sliding_window")
    elif "max_window_layers" in family.defaults:  # those below have full attention
        layers = [layer >= _count(values, "max_window_layers", 0, source) for layer in range(n_layer)]
    else:  # the last of so many has full attention
        every = _count(values, "sliding_window_pattern", 1, source)
        layers = [(layer + 1) % every != 0 for layer in range(n_layer)]
    if window is None:
        return (True,)
    lengths = (n for n in range(1, n_layer + 1) if all(layers[i] == layers[i % n] for i in range(n_layer)))
    return tuple(layers[: next(lengths, 1)])


def _count(values: dict[str, Any], key: str, least: int, source: str | Path) -> int:
    value = values[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{source}: {key} is {value!r}, expected a whole number of at least {least}")
    return value


def refuse_code(values: dict[str, Any], source: str | Path) -> None:
    """Raise ValueError where a JSON file of a checkpoint asks for Python code that came with it."""
    for key in ("auto_map", "trust_remote_code"):
        if values.get(key):
            raise ValueError(
                f"{source}: {key} asks for Python code that comes with the checkpoint; it could do "
                "anything, so it is never run here. If transformers computes the model with code of its own, "
                "convert it: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW), the same with "
                f"AutoTokenizer, and remove {key} from NEW's files"
            )


def config_from_hf(values: dict[str, Any], source: str | Path) -> ModelConfig:
    """ModelConfig of a config.json's content; ValueError names `source` and the key at fault."""
    model_type = values.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ValueError(f"{source}: model_type is {model_type!r}, supported: {', '.join(FAMILIES)}")
    refuse_code(values, source)
    values = _rope_values(family, values, source)
    for key, allowed in (REQUIRED_VALUES | family.values).items():
        if values.get(key, allowed[0]) not in allowed:
            supported = ", ".join(map(repr, allowed))
            raise ValueError(f"{source}: {key} is {values[key]!r}, supported: {supported}")
    if "max_window_layers" in family.defaults and not values.get("use_sliding_window", False):
        values["sliding_window"] = None
    width, n_head = values.get("hidden_size"), values.get("num_attention_heads")
    if "num_key_value_heads" in family.derives and values.get("num_key_value_heads") is None:
        values["num_key_value_heads"] = n_head
    if "head_dim" in family.derives and values.get("head_dim") is None:
        if isinstance(width, int) and isinstance(n_head, int) and n_head > 0:
            values["head_dim"] = width // n_head
    keys = CONFIG_KEYS | family.keys
    missing = [key for key in keys.values() if key not in NULLABLE and values.get(key) is None]
    if missing:
        raise ValueError(f"{source}: lacks {', '.join(missing)}")
    try:
        return ModelConfig(
            **{name: values.get(key) for name, key in keys.items()},
            **family.switches,
            family=model_type,
            rope_scaling=values["rope_scaling"],
            window_pattern=_window_pattern(family, values, source),
        )
    except TypeError as error:
        raise ValueError(f"{source}: {error}") from None
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(source)) else f"{source}: {message}") from None


def config_to_hf(config: ModelConfig, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The content of config.json for a ModelConfig.

    Raises ValueError for a model that its family's files cannot describe: they would be read as another one.
    """
    family = FAMILIES.get(config.family)
    if family is None:
        raise ValueError(f"model config: family is {config.family!r}, supported: {', '.join(FAMILIES)}")
    values: dict[str, Any] = {"architectures": [family.architecture], "model_type": config.family}
    values |= {key: getattr(config, name) for name, key in (CONFIG_KEYS | family.keys).items()}
    values |= {key: allowed[0] for key, allowed in family.values.items() if allowed[0] is not None}
    if (scaling := config.rope_scaling) is not None:
        parts = {key: getattr(scaling, name) for name, key in ROPE_KEYS[scaling.kind].items()}
        values["rope_scaling"] = {"rope_type": scaling.kind, **parts}
    windowed = [config.is_windowed(layer) for layer in range(config.n_layer)]
    if family.windows:
        values["layer_types"] = ["sliding_attention" if there else "full_attention" for there in windowed]
    if "max_window_layers" in family.defaults:
        values["use_sliding_window"] = config.sliding_window is not None
        values["max_window_layers"] = windowed.index(True) if any(windowed) else config.n_layer
    _check_says_all(config, config_from_hf(values, "config.json"))
    return values | {"torch_dtype": str(dtype).removeprefix("torch.")}


def _check_says_all(config: ModelConfig, described: ModelConfig) -> None:
    """Raise ValueError unless the config that would be read back computes what the one to be written does."""
    for name in (one.name for one in fields(ModelConfig)):
        ours, theirs = getattr(config, name), getattr(described, name)
        if name == "window_pattern":
            ours, theirs = ([c.is_windowed(i) for i in range(c.n_layer)] for c in (config, described))
        if ours != theirs:
            raise ValueError(
                f"model config: {name} is {getattr(config, name)!r}, which a config.json of family "
                f"{config.family} cannot say (it would be read as {theirs!r})"
            )


def name_to_hf(name: str, config: ModelConfig) -> str:
    """blocks.3.attention.q.weight -> model.layers.3.self_attn.q_proj.weight."""
    module, _, kind = name.rpartition(".")
    if module.startswith("blocks."):
        _, layer, part = module.split(".", 2)
        names = LAYER_NAMES | POST_NORM_NAMES if config.post_norms else LAYER_NAMES
        return f"model.layers.{layer}.{names[part]}.{kind}"
    return f"{OUTER_NAMES[module]}.{kind}"
