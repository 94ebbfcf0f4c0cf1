"""Writes the files that Chroma's default embedding function wants, which it would download otherwise.

    export_onnx.py MODEL HOME

MODEL is an unpacked all-MiniLM-L6-v2 as sentence-transformers publishes it. The graph is exported from its weights
as Chroma's is: token ids in, token vectors out, nothing fused.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModel

NAME = "all-MiniLM-L6-v2"


class Tokens(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state


def main():
    source, home = map(Path, sys.argv[1:])
    target = home / ".cache" / "chroma" / "onnx_models" / NAME / "onnx"
    target.mkdir(parents=True)
    for name in ("config.json", "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json"):
        shutil.copy(source / name, target / name)
    words = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (target / "vocab.txt").write_text("\n".join(sorted(words, key=words.get)) + "\n", encoding="utf-8")

    encoder = AutoModel.from_pretrained(source, attn_implementation="eager").eval()
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    axes = {0: "batch", 1: "sequence"}
    ids, mask = torch.tensor([[101, 7592, 2088, 102], [101, 7592, 102, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    torch.onnx.export(
        Tokens(encoder),
        (ids, mask, torch.zeros_like(ids)),
        str(target / "model.onnx"),
        input_names=list(inputs),
        output_names=["last_hidden_state"],
        dynamic_axes={name: axes for name in (*inputs, "last_hidden_state")},
        opset_version=17,
        dynamo=False,
    )


main()
