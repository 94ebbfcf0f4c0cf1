"""What the scripts of this folder share: texts, hub files, and sentence-transformers' vectors."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
# Reordering or extending texts.json must not change the fixtures' vocabularies: new texts go to its end.
TRAINING_TEXTS = 233


SEED = 20240917
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ALPHABET_SIZE = 130
VOCABULARY_SIZE = 600

FIXTURE_TEXTS = [
    "",
    "cat",
    "The cat sat by the garden gate.",
    "THE CAT SAT BY THE GARDEN GATE.",
    "Nobody waves at the morning train; prices rose by 3.5% anyway!",
    "Ёжик несёт яблоко домой.",
    "数据库里有三百万行 and one more",
    "I love it 😍 👩\u200d👩\u200d👧\u200d👦",
    unicodedata.normalize("NFD", "naïve café"),
    "tab\there, newline\nthere, bell\u0007 and zero\u200bwidth",
    "a [MASK] between [SEP] marks [PAD]",
    "embed('lost keys') <=> embedding",
    "Count the stones, write the number down, and start again from the other end of the wall. " * 6,
]


def read_texts(path):
    """The texts of texts.json: an entry is a string, or a string and how often to repeat it."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    return [entry if isinstance(entry, str) else entry["repeat"] * entry["times"] for entry in entries]


def write_json(path, value, indent=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def write_weights(directory, weights):
    """As save_file, whose files only their owner can read."""
    (directory / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))


def encode_each_alone(model, texts):
    """One forward pass per text, so that no vector depends on padding or on the other texts."""
    vectors = [model.encode([text], batch_size=1, show_progress_bar=False)[0] for text in texts]
    vectors = np.stack(vectors)
    assert vectors.dtype == np.float32 and np.isfinite(vectors).all()
    return vectors


def load_and_compare_tokenizers(model_dir, texts):
    """Loads a model, and makes sure that its tokenizer agrees with the bare tokenizer.json.

    transformers rebuilds a BERT tokenizer from vocabulary and tokenizer_config.json; a reader that uses
    tokenizer.json alone has to come to the same tokens. Returns the model and all tokens of each text.
    """
    model = SentenceTransformer(str(model_dir), device="cpu")
    bare = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    bare.no_padding()
    bare.no_truncation()
    whole = [bare.encode(text).ids for text in texts]
    bare.enable_truncation(model.max_seq_length)
    for text, ids in zip(texts, whole):
        assert model.tokenizer(text, truncation=False, verbose=False)["input_ids"] == ids, text
        assert model.preprocess([text])["input_ids"][0].tolist() == bare.encode(text).ids, text
    return model, whole


def train_tokenizer(texts):
    """A lower-casing WordPiece tokenizer with a small vocabulary, the same on every run.

    The trainer numbers characters in the order of a hash map that differs from run to run. So the
    alphabet is chosen here, all other characters are left out of the training, and the characters
    inside words are handed over as special tokens, which keep their order.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = [word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
    counts = Counter(character for word in words for character in word)
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET_SIZE])
    words = [word for word in words if set(word) <= set(alphabet) and len(word) <= 100]

    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY_SIZE,
        initial_alphabet=alphabet,
        special_tokens=SPECIAL_TOKENS + [f"##{character}" for character in alphabet],
        show_progress=False,
    )
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator(words, trainer)

    tokenizer = Tokenizer(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def randomize(model, seed):
    """Random weights, far enough from nought that every matrix, bias and scale shows in the vectors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if name.lower().endswith(("layernorm.weight", "layer_norm.weight")):
                weight.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.2 * noise)
            elif name.endswith("word_embeddings.weight"):
                weight.copy_(noise)
            else:
                weight.copy_(0.3 * noise)
    return model.eval()


def rounded(vectors):
    """Nine digits give back every f32 exactly."""
    rows = [[float(f"{value:.9g}") for value in vector.tolist()] for vector in vectors]
    assert (np.array(rows, dtype=np.float32) == vectors).all()
    return rows


def write_golden(directory, vectors):
    """Texts and vectors."""
    rows = rounded(vectors)
    lines = [json.dumps(text, ensure_ascii=True) for text in FIXTURE_TEXTS]
    text = '{\n"texts": [\n' + ",\n".join(lines) + '\n],\n"vectors": [\n'
    text += ",\n".join(json.dumps(row) for row in rows) + "\n]\n}\n"
    (directory / "golden.json").write_text(text, encoding="utf-8")
