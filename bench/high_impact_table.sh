#!/usr/bin/env bash
# The table of docs/results.md on high-impact parameter ratios: mixed rows beside smaller groups at the same
# stored bits, tiny-llama, calibrated on WikiText-2's train split and reported on its test split and a novel.
#
#   bench/high_impact_table.sh build/strata [--device cuda ...]    further options go to every strata compare
#
# Budgets bind: w2g64 has 2.5 bits and w3g64 3.5, which mixed rows in groups of 128 (2.25 and 3.25 bits at the
# least) meet at a ratio of about a quarter on average.
set -euo pipefail
strata=$1
shift
cache=$(mktemp -d)
trap 'rm -r "$cache"' EXIT

ratios() {  # BASE HIGH: the menu of ratios
  local menu=
  for ratio in 0.05 0.1 0.15 0.2 0.25 0.3 0.4; do menu+="$1+$2@$ratio,"; done
  echo "${menu%,}"
}

table() {  # TITLE BPW SCHEMES METHODS QUANTIZERS [OPTION...]
  printf '\n### %s\n\n' "$1"
  "$strata" compare models/tiny-llama --text data/wikitext-2/wiki.test.raw data/books/the-man-who-was-thursday.txt \
    --calib data/wikitext-2/wiki.train.first-1MB.raw --calib-cache "$cache" --markdown \
    --bpw "$2" --schemes "$3" --methods "$4" --quantizer "$5" "${@:6}"
}

for bits in 2 3; do
  menu=$(ratios "w${bits}g128" "w$((bits + 1))")
  table "Mixed rows, $bits.5 bits" $bits.5 "$menu" uniform,high-impact:exact,high-impact rtn,hqq,gptq,hybrid "$@"
  table "Mixed rows, losses at the logits, $bits.5 bits" $bits.5 "$menu" high-impact:exact,high-impact rtn,gptq,hybrid \
    --loss logits --impact-tokens 512 "$@"
  table "Smaller groups, $bits.5 bits" $bits.5 "w${bits}g64" uniform rtn,hqq,gptq,adaround,lwc "$@"
  table "Whole matrices at two widths, $bits.5 bits" $bits.5 "w${bits}g128,w$((bits + 1))g128" kl rtn,hqq,gptq,lwc "$@"
done
