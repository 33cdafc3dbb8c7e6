#!/usr/bin/env bash
# Installs strata, builds examples/ against what was installed, and runs it beside the installed program.
# outside_program.sh CMAKE BUILD SOURCE TORCH_DIR
set -euo pipefail
cmake=$1 build=$2 source=$3 torch=$4
unset LD_LIBRARY_PATH
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "$*" >&2; exit 1; }

"$cmake" --install "$build" --prefix "$scratch/first" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
prefix=$scratch/moved  # an installed tree may be moved
mv "$scratch/first" "$prefix"
if grep -rnF -e "$build/" -e "$source/" "$prefix"/lib*/cmake "$prefix/include"; then
  fail "installed files name the tree that they were built in"
fi
"$cmake" -S "$source/examples" -B "$scratch/build" -D CMAKE_PREFIX_PATH="$prefix" -D Torch_DIR="$torch" \
  >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
"$cmake" --build "$scratch/build"

# A SentencePiece tokenizer needs the module that is opened at run time.
model=$scratch/model
mkdir "$model"
ln -s "$source"/models/tiny-llama/*.safetensors* "$source/models/tiny-llama/config.json" "$model"
cp "$source"/tests/data/tokenizer/sentencepiece/tokenizer* "$model"

text=$source/data/books/the-man-who-was-thursday.txt
for each in "$source/models/tiny-llama" "$model"; do
  "$scratch/build/quantize_to_size" "$each" 6.5MiB "$scratch/small.gguf" "$text" 512 | tee "$scratch/printed"
  [ "$(stat -c %s "$scratch/small.gguf")" -le $((13 * 512 * 1024)) ] || fail "the file is larger than asked for"
  measured=$("$prefix/bin/strata" eval "$scratch/small.gguf" --text "$text" --tokens 512 --json --quiet |
    sed -nE 's/.*"ppl": *([0-9.]+).*/\1/p')
  grep -q "PPL *$(printf %.3f "$measured")" <(tail -n 1 "$scratch/printed") ||
    fail "the installed program measures perplexity $measured"
done
