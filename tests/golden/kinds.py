"""Fixture models of the architectures other than BERT, each with a tokenizer of another kind."""

import json
import math
import shutil
from collections import Counter

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from common import (
    FIXTURE_TEXTS,
    SEED,
    encode_each_alone,
    load_and_compare_tokenizers,
    randomize,
    train_tokenizer,
    write_golden,
    write_json,
    write_weights,
)

HIDDEN_SIZE = 16
INTERMEDIATE_SIZE = 32
POSITIONS = 64
# The order in which RoBERTa and its kin number them; padding is 1.
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def byte_level_bpe(texts):
    """As RoBERTa has it: bytes, and the merges that occur most."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL_TOKENS) + len(alphabet) + 80,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")),
        ("<s>", tokenizer.token_to_id("<s>")),
        add_prefix_space=False,
        trim_offsets=True,
    )
    return tokenizer


def unigram(texts):
    """As XLM-RoBERTa has it, with pieces chosen by how often they occur instead of by training, whose result differs
    from run to run."""
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    splitter = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    words = [
        word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    ]
    characters = Counter(character for word in words for character in word)
    alphabet = sorted(characters, key=lambda character: (-characters[character], character))[:110]
    parts = Counter(
        word[start:end]
        for word in words
        for start in range(len(word))
        for end in range(start + 2, min(start + 6, len(word)) + 1)
        if set(word[start:end]) <= set(alphabet)
    )
    longest = sorted(parts, key=lambda part: (-parts[part] * len(part), part))[:130]
    total = sum(characters.values())
    scores = [(piece, math.log(count / total)) for piece, count in
              [(piece, characters[piece]) for piece in alphabet] + [(piece, parts[piece]) for piece in longest]]
    special = [(token, 0.0) for token in SPECIAL_TOKENS[:-1]]
    tokenizer = Tokenizer(models.Unigram(special + scores + [("<mask>", 0.0)], unk_id=3))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(SPECIAL_TOKENS[:-1])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return tokenizer


def wordpiece_of_mpnet(texts):
    """BERT's words with RoBERTa's special tokens."""
    tokenizer = json.loads(train_tokenizer(texts).to_str())
    words = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    kept = [word for word in words if not word.startswith("[") or len(word) == 1][:300]
    vocabulary = {word: number for number, word in enumerate(SPECIAL_TOKENS[:-1] + ["[UNK]"] + kept + ["<mask>"])}
    remade = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    remade.normalizer = normalizers.BertNormalizer(lowercase=True)
    remade.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    remade.decoder = decoders.WordPiece()
    remade.add_special_tokens(SPECIAL_TOKENS[:-1] + ["[UNK]"])
    remade.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    remade.post_processor = processors.RobertaProcessing(
        ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]), add_prefix_space=False, trim_offsets=False
    )
    return remade


def wordpiece(texts):
    tokenizer = json.loads(train_tokenizer(texts).to_str())
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])[:360]
    tokenizer["model"]["vocab"] = dict(vocabulary)
    return Tokenizer.from_str(json.dumps(tokenizer))


def usual_sizes(vocabulary):
    return {
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INTERMEDIATE_SIZE,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": vocabulary,
    }


def roberta(vocabulary, **more):
    config = transformers.RobertaConfig(
        **usual_sizes(vocabulary), max_position_embeddings=POSITIONS, type_vocab_size=1, layer_norm_eps=1e-5,
        hidden_act="gelu", pad_token_id=1, bos_token_id=0, eos_token_id=2, **more,
    )
    return transformers.RobertaModel(config, add_pooling_layer=False), config


def xlm_roberta(vocabulary):
    config = transformers.XLMRobertaConfig(
        **usual_sizes(vocabulary), max_position_embeddings=POSITIONS, type_vocab_size=1, layer_norm_eps=1e-5,
        hidden_act="gelu", pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )
    return transformers.XLMRobertaModel(config, add_pooling_layer=False), config


def distilbert(vocabulary):
    config = transformers.DistilBertConfig(
        dim=HIDDEN_SIZE, hidden_dim=INTERMEDIATE_SIZE, n_heads=4, n_layers=2, vocab_size=vocabulary,
        max_position_embeddings=POSITIONS, sinusoidal_pos_embds=True, activation="relu",
    )
    return transformers.DistilBertModel(config), config


def mpnet(vocabulary):
    # Long enough for all ranges of distances.
    config = transformers.MPNetConfig(
        **usual_sizes(vocabulary), max_position_embeddings=162, layer_norm_eps=1e-5, hidden_act="gelu",
        relative_attention_num_buckets=32, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )
    return transformers.MPNetModel(config, add_pooling_layer=False), config


# Name, encoder, tokenizer, what stands before the names of its tensors, their type, limit of sentence-transformers,
# special tokens for tokenizer_config.json. Without a limit the smaller one of positions and tokenizer counts.
KINDS = [
    ("tiny-roberta", roberta, byte_level_bpe, "roberta.", torch.float32, 60, SPECIAL_TOKENS),
    ("tiny-roberta-f16", roberta, byte_level_bpe, "", torch.float16, 62, SPECIAL_TOKENS),
    ("tiny-xlm-roberta", xlm_roberta, unigram, "", torch.bfloat16, None, SPECIAL_TOKENS),
    ("tiny-distilbert", distilbert, wordpiece, "distilbert.", torch.float32, 50, None),
    ("tiny-mpnet", mpnet, wordpiece_of_mpnet, "", torch.float32, 150, SPECIAL_TOKENS),
]


def write_kind(directory, number, kind, texts):
    name, make, make_tokenizer, prefix, precision, limit, special = kind
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    tokenizer = make_tokenizer(texts)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    model, config = make(tokenizer.get_vocab_size())
    randomize(model, SEED + 10 + number)
    # What is stored is what is computed with, in float32.
    weights = {prefix + key: value.to(precision).contiguous() for key, value in model.state_dict().items()}
    write_weights(directory, weights)
    described = config.to_diff_dict()
    described["architectures"] = [type(model).__name__]
    described["dtype"] = "float32"
    write_json(directory / "config.json", described)
    names = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if special:
        tokens = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 62, **dict(zip(names, tokens))},
    )
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    write_json(
        directory / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
    )
    write_json(
        directory / "1_Pooling" / "config.json",
        {"word_embedding_dimension": HIDDEN_SIZE, "pooling_mode_mean_tokens": True},
    )
    if limit is not None:
        write_json(directory / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    loaded, whole = load_and_compare_tokenizers(directory, FIXTURE_TEXTS)
    assert loaded.max_seq_length == (limit or 62) and max(map(len, whole)) > loaded.max_seq_length
    state = loaded[0].auto_model.state_dict() if hasattr(loaded[0], "auto_model") else loaded[0].model.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value.to(precision).float()), (name, key)
    write_golden(directory, encode_each_alone(loaded, FIXTURE_TEXTS))


def write_fixtures(texts, out):
    for number, kind in enumerate(KINDS):
        write_kind(out / kind[0], number, kind, texts)
