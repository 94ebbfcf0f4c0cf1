"""What comes after the encoder: each encoder with every pooling, with and without a dense layer, prompts and
normalization. variants.json holds, for each, the files that differ from those of its encoder's fixture, and the
vectors of encode_document and encode_query."""

import itertools
import json
import shutil
import tempfile
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from common import SEED, encode_each_alone, rounded, write_json, write_weights

ENCODERS = ["tiny-bert", "tiny-roberta", "tiny-xlm-roberta", "tiny-distilbert", "tiny-mpnet"]
POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
ACTIVATIONS = {
    "Identity": "torch.nn.modules.linear.Identity",
    "Tanh": "torch.nn.modules.activation.Tanh",
    "ReLU": "torch.nn.modules.activation.ReLU",
    "GELU": "torch.nn.modules.activation.GELU",
    "Sigmoid": "torch.nn.modules.activation.Sigmoid",
    "SiLU": "torch.nn.modules.activation.SiLU",
}
DENSE_SIZE = 12
PROMPTS = [
    {"prompts": {"query": "query: ", "document": "text: "}, "default_prompt_name": None},
    {"prompts": {"query": "find ", "passage": "p: ", "corpus": "c: "}, "default_prompt_name": None},
    {"prompts": {"query": "q ", "other": "o: "}, "default_prompt_name": "other"},
    {"prompts": {"other": "both: "}, "default_prompt_name": "other"},
    {"prompts": {"document": "", "query": ""}, "default_prompt_name": None},
]
TEXTS = [
    "",
    "The cat sat by the garden gate.",
    "Ёжик 数据库 naïve 😍 <mask> [SEP] \n tab\there",
    "Count the stones, write the number down, and start again. " * 5,
]


def write_dense(out):
    """One layer for each size of token vectors and each activation, every other one without a bias."""
    generator = torch.Generator().manual_seed(SEED + 100)
    shutil.rmtree(out, ignore_errors=True)
    for (number, activation), size in itertools.product(enumerate(ACTIVATIONS), (16, 32)):
        directory = out / f"{activation}-{size}"
        bias = number % 2 == 0
        write_json(
            directory / "config.json",
            {
                "in_features": size,
                "out_features": DENSE_SIZE,
                "bias": bias,
                "activation_function": ACTIVATIONS[activation],
            },
        )
        weights = {"linear.weight": torch.randn(DENSE_SIZE, size, generator=generator)}
        if bias:
            weights["linear.bias"] = torch.randn(DENSE_SIZE, generator=generator)
        write_weights(directory, weights)


def all_variants():
    """Every combination of encoder, pooling, dense layer or none, prompts or none. What has more choices than that,
    the activations and normalizations, goes round."""
    activations = itertools.cycle(ACTIVATIONS)
    prompts = itertools.cycle(PROMPTS)
    endings = itertools.cycle([["Normalize"], [], ["Normalize"]])
    poolings = [*POOLINGS, ["cls", "mean"], ["lasttoken", "max"]]
    for encoder, pooling, dense, prompted in itertools.product(ENCODERS, poolings, (False, True), (False, True)):
        if dense and not isinstance(pooling, str):
            continue
        yield {
            "encoder": encoder,
            "pooling": pooling,
            "dense": next(activations) if dense else None,
            "prompts": next(prompts) if prompted else None,
            "ending": next(endings),
        }


def overlay(number, variant, size):
    """The files of a variant that are JSON."""
    pooling = variant["pooling"]
    config = {"word_embedding_dimension": size, "pooling_mode": pooling}
    if isinstance(pooling, str) and number % 2 == 0:
        config = {"word_embedding_dimension": size} | {flag: name == pooling for name, flag in POOLINGS.items()}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if variant["dense"]:
        modules.append(("2_Dense", "Dense"))
    modules += [(f"{len(modules)}_{kind}", kind) for kind in variant["ending"]]
    files = {
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
        "1_Pooling/config.json": config,
    }
    if variant["prompts"]:
        files["config_sentence_transformers.json"] = variant["prompts"]
    return files


def encode(model, method, texts):
    """One text at a time, by encode_document or encode_query."""
    with_prompts = type("One", (), {"encode": staticmethod(getattr(model, method))})
    return rounded(encode_each_alone(with_prompts, texts))


def write(out):
    write_dense(out / "dense")
    rows = []
    for number, variant in enumerate(all_variants()):
        base = out / "models" / variant["encoder"]
        size = json.loads((base / "1_Pooling/config.json").read_text())["word_embedding_dimension"]
        files = overlay(number, variant, size)
        dense = f"{variant['dense']}-{size}" if variant["dense"] else None
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "model"
            shutil.copytree(base, directory)
            for name, content in files.items():
                write_json(directory / name, content)
            if dense:
                shutil.copytree(out / "dense" / dense, directory / "2_Dense")
            model = SentenceTransformer(str(directory), device="cpu")
            row = {"encoder": variant["encoder"], "dense": dense, "files": files}
            row["vectors"] = encode(model, "encode_document", TEXTS)
            if variant["prompts"]:
                row["query_vectors"] = encode(model, "encode_query", TEXTS)
            rows.append(row)
    lines = ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    text = f'{{"texts": {json.dumps(TEXTS, ensure_ascii=True)},\n"variants": [\n{lines}\n]}}\n'
    (out / "variants.json").write_text(text, encoding="utf-8")
