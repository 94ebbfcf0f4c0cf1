#!/usr/bin/env python3
"""Makes the reference vectors and the fixture models that the tests compare with.

    make_golden.py --model DIR [--out DIR]

DIR is an unpacked all-MiniLM-L6-v2 with model.safetensors. From texts.json beside this script come
the vectors that sentence-transformers computes with that model, and the tiny models under models/,
whose weights are random numbers from a fixed seed. README.md describes the files.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import sentence_transformers
import tokenizers
import torch
import transformers
from tokenizers import Tokenizer

import kinds
import variants
from common import (
    FIXTURE_TEXTS,
    HERE,
    SEED,
    TRAINING_TEXTS,
    encode_each_alone,
    load_and_compare_tokenizers,
    randomize,
    read_texts,
    train_tokenizer,
    write_golden,
    write_json,
    write_weights,
)

REFERENCE_NAME = "all-MiniLM-L6-v2"

HIDDEN_SIZE = 32
POSITIONS = 64
OPSET = 17
ONNX_TOLERANCE = 1e-5

def write_reference(model_dir, texts, out):
    model, tokens = load_and_compare_tokenizers(model_dir, texts)
    vectors = encode_each_alone(model, texts)
    (out / f"{REFERENCE_NAME}.f32").write_bytes(vectors.astype("<f4").tobytes())
    facts = {
        "dimensions": vectors.shape[1],
        "texts": len(texts),
        "max_seq_length": model.max_seq_length,
        "versions": {
            "sentence-transformers": sentence_transformers.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "sha256": {"model.safetensors": hashlib.sha256((model_dir / "model.safetensors").read_bytes()).hexdigest()},
        "token_counts": [len(ids) for ids in tokens],
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
    (out / f"{REFERENCE_NAME}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def bert_config(vocabulary_size, hidden_act):
    return {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": hidden_act,
        "hidden_dropout_prob": 0.1,
        "hidden_size": HIDDEN_SIZE,
        "initializer_range": 0.02,
        "intermediate_size": 2 * HIDDEN_SIZE,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "model_type": "bert",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": vocabulary_size,
    }


def random_bert(config, seed):
    bert = transformers.BertModel(transformers.BertConfig.from_dict(config, attn_implementation="eager"))
    return randomize(bert, seed)


def write_hub_files(directory, tokenizer, config, pooling, normalize, max_seq_length, tokenizer_length=None):
    """All files of a fixture except its weights.

    tokenizer_length makes tokenizer.json cut and pad to that length, as some published ones do, though
    max_seq_length in sentence_bert_config.json is what counts.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    if tokenizer_length is not None:
        tokenizer.enable_truncation(tokenizer_length)
        tokenizer.enable_padding(length=tokenizer_length, pad_token="[PAD]")
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": POSITIONS,
            "unk_token": "[UNK]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
        },
    )
    write_json(directory / "config.json", config)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if normalize:
        modules.append(("2_Normalize", "Normalize"))
    write_json(
        directory / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
    )
    write_json(
        directory / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": config["hidden_size"],
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    write_json(
        directory / "sentence_bert_config.json", {"max_seq_length": max_seq_length, "do_lower_case": False}
    )


def write_safetensors_fixture(directory, bert, tokenizer, config, **hub):
    write_hub_files(directory, tokenizer, config, **hub)
    weights = {name: tensor.contiguous() for name, tensor in bert.state_dict().items()}
    write_weights(directory, weights)
    model, tokens = load_and_compare_tokenizers(directory, FIXTURE_TEXTS)
    assert model.max_seq_length == hub["max_seq_length"]
    assert max(map(len, tokens)) > model.max_seq_length
    vectors = encode_each_alone(model, FIXTURE_TEXTS)
    write_golden(directory, vectors)
    return model, vectors


class TokenGraph(torch.nn.Module):
    """Token ids to one vector per token."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


class TokenGraphWithoutTypes(TokenGraph):
    """The same with every token of type nought, decided inside the graph."""

    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask, torch.zeros_like(input_ids))


class PooledGraph(TokenGraph):
    """Both the vectors of the tokens and their normalized mean."""

    def forward(self, input_ids, attention_mask, token_type_ids):
        token_vectors = super().forward(input_ids, attention_mask, token_type_ids)
        mask = attention_mask.unsqueeze(-1).to(token_vectors.dtype)
        mean = (token_vectors * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return token_vectors, torch.nn.functional.normalize(mean, p=2, dim=1)


def export_graph(graph, path, inputs, outputs):
    """Writes one self-contained ONNX file with free batch and sequence axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    example = {
        "input_ids": torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "token_type_ids": torch.zeros(2, 4, dtype=torch.long),
    }
    axes = {name: {0: "batch", 1: "sequence"} for name in (*inputs, *outputs)}
    if "sentence_embedding" in axes:
        axes["sentence_embedding"] = {0: "batch"}
    torch.onnx.export(
        graph,
        tuple(example[name] for name in inputs),
        str(path),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )
    # Notes of the exporter about source files say where they lay on this machine.
    model = onnx.load(str(path))
    for part in (model, model.graph, *model.graph.node):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    # The exporter does not see how wide the normalized mean is.
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[-1].dim_value = HIDDEN_SIZE
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def check_graph(path, tokenizer_model, expected):
    """Compares the graph, for each text alone and for all of them padded, with the vectors of torch."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    def run(texts):
        features = tokenizer_model.preprocess(texts)
        results = dict(zip(outputs, session.run(None, {name: features[name].numpy() for name in names})))
        mask = features["attention_mask"].numpy()[:, :, None]
        token_vectors = results.get("last_hidden_state", results.get("token_embeddings"))
        mean = (token_vectors * mask).sum(1) / mask.sum(1)
        pooled = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        given = results.get("sentence_embedding", pooled)
        return pooled, given

    for pooled, given in [run(FIXTURE_TEXTS), map(np.concatenate, zip(*(run([text]) for text in FIXTURE_TEXTS)))]:
        difference = max(np.abs(pooled - expected).max(), np.abs(given - expected).max())
        assert difference <= ONNX_TOLERANCE, (path, difference)


def write_onnx_fixture(directory, graph, file_name, inputs, outputs, tokenizer, config, torch_model, vectors, **hub):
    write_hub_files(directory, tokenizer, config, **hub)
    export_graph(graph, directory / file_name, inputs, outputs)
    check_graph(directory / file_name, torch_model, vectors)
    write_golden(directory, vectors)


def write_fixtures(texts, out):
    tokenizer = train_tokenizer(texts)
    vocabulary_size = tokenizer.get_vocab_size()

    config = bert_config(vocabulary_size, "gelu_new")
    write_safetensors_fixture(
        out / "tiny-bert-cls",
        random_bert(config, SEED + 1),
        tokenizer,
        config,
        pooling="cls",
        normalize=False,
        max_seq_length=40,
        tokenizer_length=32,
    )

    config = bert_config(vocabulary_size, "gelu")
    bert = random_bert(config, SEED)
    hub = {"pooling": "mean", "normalize": True, "max_seq_length": 48}
    torch_model, vectors = write_safetensors_fixture(out / "tiny-bert", bert, tokenizer, config, **hub)

    ids, mask, types = "input_ids", "attention_mask", "token_type_ids"
    for name, graph, file_name, inputs, outputs in [
        ("tiny-onnx", TokenGraph(bert), "onnx/model.onnx", (ids, mask, types), ("last_hidden_state",)),
        ("tiny-onnx-notype", TokenGraphWithoutTypes(bert), "model.onnx", (ids, mask), ("token_embeddings",)),
        (
            "tiny-onnx-pooled",
            PooledGraph(bert),
            "onnx/model.onnx",
            (ids, mask, types),
            ("token_embeddings", "sentence_embedding"),
        ),
    ]:
        write_onnx_fixture(
            out / name, graph, file_name, inputs, outputs, tokenizer, config, torch_model, vectors, **hub
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="unpacked all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="default: beside this script")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # sums in one order, however many cores there are
    texts = read_texts(HERE / "texts.json")
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_reference(arguments.model, texts, arguments.out)
    training = texts[:TRAINING_TEXTS]
    write_fixtures(training, arguments.out / "models")
    kinds.write_fixtures(training, arguments.out / "models")
    variants.write(arguments.out)


if __name__ == "__main__":
    main()
