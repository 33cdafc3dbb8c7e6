"""Trains tiny tokenizers of every supported kind and writes what their own libraries encode with them."""

import io
import json
import pathlib
import random

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
TEXT = (HERE.parents[2] / "data/books/the-man-who-was-thursday.txt").read_text()

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST

UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BEFORE = r"[^\r\n\p{L}\p{N}]?"
SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = "|".join([BEFORE + UPPER + "*" + LOWER + "+" + CONTRACTIONS + "?", BEFORE + UPPER + "+" + LOWER + "*" + CONTRACTIONS + "?",
                  r"\p{N}{1,3}", SLASHES])
TEKKEN = "|".join([BEFORE + UPPER + "*" + LOWER + "+", BEFORE + UPPER + "+" + LOWER + "*", r"\p{N}", SLASHES])
DEEPSEEK_CODER = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]
DEEPSEEK_V3 = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
               r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
               r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]

DEEPSEEK_LLM = ["[\r\n]", (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-"
    "\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
    "\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"
    "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8"
    "-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"), "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$", DEEPSEEK_CODER[3]]
SEED_CODER = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(use_regex=False, prefix=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def nasty_texts():
    texts = [
        "", " ", "a", "Hello world", "It's we'RE I'll THEY'D 'Tis 's 'S '\u017f don't", "x=1;y+=22;z-=333;w=4444 12345678901",
        "tabs\tand\r\nnew\n\nlines \n \n\n  end  ", "   leading", "trailing   ", " " * 300 + "x" + "\n" * 200 + " \t" * 50,
        "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd flag \U0001f1eb\U0001f1f7!",
        "CJK \u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f \ud55c\uad6d\uc5b4",
        "combining e\u0301 a\u0308\u0304 \u1100\u1161\u11a8 \u212b\u2126 \u0344 \ufb01 \u1e9b\u0323 q\u0307\u0323",
        "spaces\u00a0nbsp\u2003em\u3000wide\u1680ogham\u180emvs\u200bzw\u0085nel\u2028ls\u2029ps\ufeffbom\u001c\u001fx",
        "control \u0000\u0001\u0007\u001b[0m\u007f\u0080\u009f end", "digits \u0661\u0662\u0663 \u00b2\u00bd \u2167 \u0e53 1a2b3",
        "\u0420\u0443\u0441\u0441\u043a\u0438\u0439 \u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
        "underscore_name snake_case CamelCase --- ... !!! ???\n///\r\r\n", "the the  the   the\n the", "a" * 500, "ab" * 300,
        "<s>text</s>", "a <|end|> b<|end|>c", "<|end|><|end|> x", "say <mask> or  <mask>  there", "word user wordy word_ (word) word",
        "see <sp> x<sp>y   <sp>   z", "<|end", "<|e\u0301nd|>", "\u00e9cole e\u0301cole <caf\u00e9> <cafe\u0301>", TEXT[20000:21500],
    ]
    generator = random.Random(7)
    alphabets = [
        "abc ", "aZ09' ", "\n\r\t \u00a0", "'sStTrRvVeEmMlLdD ", "\u00e9\u0301\u0308e\u0323o", "\u4f60\u597d \u3042\u309b",
        "\U0001f600\u200d\U0001f3fb ", "_-.,!? \n", "0123456789 \u0663\u00b2", "".join(map(chr, range(32))),
    ]
    for _ in range(60):
        pieces = []
        for _ in range(generator.randint(1, 8)):
            alphabet = generator.choice(alphabets)
            pieces.append("".join(generator.choice(alphabet) for _ in range(generator.randint(1, 9))))
        texts.append("".join(pieces))
    return texts


def train(pre_tokenizer, size, specials, **bpe):
    tokenizer = Tokenizer(models.BPE(**bpe))
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def flagged_tokens():
    return [
        AddedToken("<mask>", lstrip=True, special=True), AddedToken("<sp>", rstrip=True, special=True),
        AddedToken("word", single_word=True, normalized=False), AddedToken("<|end", special=True),
        AddedToken("<caf\u00e9>", normalized=True),
    ]


def save(name, tokenizer, config=None, edit=None):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    document = json.loads(tokenizer.to_str())
    if edit:
        edit(document)
    # Old files write merges as "left right", new ones as pairs: keep one fixture of each.
    if name in ("gpt2", "qwen2"):
        document["model"]["merges"] = [" ".join(merge) for merge in document["model"]["merges"]]
    text = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text + "\n")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    loaded = Tokenizer.from_str(text)
    return [{"text": t, "ids": loaded.encode(t, add_special_tokens=True).ids} for t in nasty_texts()]


def drop_merges(document):
    """Tokens that only ignore_merges reaches: their last merges are forgotten."""
    document["model"]["merges"] = document["model"]["merges"][:-60]
    document["model"]["ignore_merges"] = True


def gpt2():
    tokenizer = train(byte_level(use_regex=True), 500, ["<|end|>"])
    tokenizer.add_tokens(flagged_tokens())
    return save("gpt2", tokenizer, {"bos_token": "<|end|>", "eos_token": {"content": "<|end|>"}})


def prefix():
    return save("prefix", train(byte_level(use_regex=True, prefix=True), 400, ["<|end|>"]))


def llama3():
    tokenizer = train(pre_tokenizers.Sequence([split(LLAMA3), byte_level()]), 600, ["<|begin|>", "<|end|>"])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B",
                                      special_tokens=[("<|begin|>", 0)])])
    return save("llama3", tokenizer, {"bos_token": "<|begin|>", "eos_token": "<|end|>"}, drop_merges)


def qwen2():
    tokenizer = train(pre_tokenizers.Sequence([split(QWEN2), byte_level()]), 500, ["<|end|>"])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens(flagged_tokens())
    return save("qwen2", tokenizer, {"bos_token": None, "eos_token": "<|end|>", "add_bos_token": False})


def smollm():
    steps = [pre_tokenizers.Digits(individual_digits=True), byte_level(use_regex=True)]
    return save("smollm", train(pre_tokenizers.Sequence(steps), 400, ["<|end|>"]))


def gpt4o():
    return save("gpt4o", train(pre_tokenizers.Sequence([split(GPT4O), byte_level()]), 400, ["<|end|>"]))


def tekken():
    return save("tekken", train(pre_tokenizers.Sequence([split(TEKKEN), byte_level()]), 400, ["<|end|>"]), edit=drop_merges)


def deepseek_coder():
    steps = [split(pattern) for pattern in DEEPSEEK_CODER] + [pre_tokenizers.Digits(individual_digits=True), byte_level()]
    return save("deepseek_coder", train(pre_tokenizers.Sequence(steps), 400, ["<|end|>"]))


def deepseek_v3():
    steps = [split(pattern) for pattern in DEEPSEEK_V3] + [byte_level()]
    return save("deepseek_v3", train(pre_tokenizers.Sequence(steps), 400, ["<|end|>"]))


def deepseek_llm():
    steps = [split(pattern) for pattern in DEEPSEEK_LLM] + [pre_tokenizers.Digits(individual_digits=True), byte_level()]
    return save("deepseek_llm", train(pre_tokenizers.Sequence(steps), 400, ["<|end|>"]))


def seed_coder():
    return save("seed_coder", train(pre_tokenizers.Sequence([split(SEED_CODER), byte_level()]), 400, ["<|end|>"]))


def sentencepiece_json():
    """The model of sentencepiece_bpe() as a tokenizer.json alone, as Llama 2's: every way to make a piece from two."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "sentencepiece" / "tokenizer.model"))
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = [(-processor.get_score(i), i, (piece[:cut], piece[cut:])) for i, piece in enumerate(pieces)
              if not processor.is_byte(i) and not processor.is_control(i) and piece != "<user>"
              for cut in range(1, len(piece)) if piece[:cut] in vocab and piece[cut:] in vocab]
    merges = [merge for _, _, merge in sorted(merges)]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.add_tokens([AddedToken("<user>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                             special_tokens=[("<s>", vocab["<s>"])])
    return save("sentencepiece_json", tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})


def trained_unigram(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()), model_writer=model, vocab_size=600, model_type="unigram", minloglevel=2,
        **options)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def unigram_json(name, processor, charsmap, byte_fallback):
    """A unigram model as transformers writes it."""
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    tokenizer = Tokenizer(models.Unigram(pieces, processor.unk_id(), byte_fallback))
    space = "\u2581"
    if charsmap:
        tokenizer.normalizer = normalizers.Sequence([
            normalizers.Precompiled(charsmap), normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), space)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=space, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=space, prepend_scheme="always")
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>",
                                                             special_tokens=[("</s>", processor.eos_id())])
    entries = save(name, tokenizer, {"eos_token": "</s>", "unk_token": "<unk>", "add_eos_token": True})
    if not charsmap:
        return entries
    # tokenizers replaces characters by grapheme clusters, SentencePiece one after the other: texts on which they agree.
    # Which of two equally likely cuts is taken (". .." or ".. .") depends on SentencePiece's release.
    return [e for e in entries
            if "..." not in e["text"] and (e["ids"][:-1] == processor.encode(e["text"]) or "<" in e["text"])]


def unigram():
    """As T5's: characters are replaced before, spaces at the ends and repeated ones go."""
    processor = trained_unigram(normalization_rule_name="nmt_nfkc")
    message = processor.serialized_model_proto()
    return unigram_json("unigram", processor, charsmap_of(message), False)


def unigram_bytes():
    processor = trained_unigram(normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True)
    return unigram_json("unigram_bytes", processor, None, True)


def charsmap_of(message):
    """The field precompiled_charsmap of the normalizer_spec of a serialized model."""
    def fields(data):
        position = 0
        def varint():
            nonlocal position
            value = shift = 0
            while True:
                byte = data[position]
                position += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value
        while position < len(data):
            key = varint()
            if key & 7 == 0:
                varint()
            elif key & 7 == 5:
                position += 4
            else:
                size = varint()
                yield key >> 3, data[position:position + size]
                position += size
    (normalizer,) = [value for number, value in fields(message) if number == 3]
    (charsmap,) = [value for number, value in fields(normalizer) if number == 2]
    return charsmap


def sentencepiece_bpe():
    folder = HERE / "sentencepiece"
    folder.mkdir(exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()), model_writer=model, vocab_size=600, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2, user_defined_symbols=["<user>"])
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}) + "\n")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [{"text": t, "ids": [processor.bos_id()] + processor.encode(t)}
            for t in nasty_texts() if "<s>" not in t and "\0" not in t]


expected = {f.__name__: f() for f in (gpt2, prefix, llama3, qwen2, smollm, gpt4o, tekken, deepseek_coder, deepseek_v3,
                                        deepseek_llm, seed_coder)}
expected["sentencepiece"] = sentencepiece_bpe()
expected["sentencepiece_json"] = sentencepiece_json()
expected["unigram"] = unigram()
expected["unigram_bytes"] = unigram_bytes()
(HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=True, separators=(",", ":")) + "\n")
