#!/usr/bin/env bash
# The completion offers what the program's own help lists, and the man page has all of it.
# documents.sh STRATA FOLDER_OF_DOCUMENTS
set -euo pipefail
strata=$1 folder=$2
fail() { echo "$*" >&2; exit 1; }
source "$folder/strata.bash"
complete_words() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  _strata
  printf '%s\n' "${COMPREPLY[@]}"
}

[ "$(complete_words strata fro)" = frontier ] || fail "'strata fro' does not become frontier"
[ "$(complete_words strata quantize MODEL --calib-w)" = --calib-window ] || fail "--calib-w does not become --calib-window"
for command in frontier quantize; do
  complete_words strata $command - | grep -v '^--help' | sort >"$folder/completed"
  "$strata" $command --help-all | grep -oE '^  (-o,)?--[a-z0-9-]+' | grep -oE -e '--[a-z0-9-]+' | grep -v '^--help' | sort >"$folder/listed"
  diff "$folder/completed" "$folder/listed" || fail "the completion of $command differs from its help"
  while read -r option; do
    grep -qF -e ".B ${option//-/\\-}" "$folder/strata.1" || fail "the man page lacks $option of $command"
  done <"$folder/listed"
done
rm "$folder/completed" "$folder/listed"
if command -v groff >/dev/null; then
  [ -z "$(groff -man -Tutf8 -ww "$folder/strata.1" 2>&1 >/dev/null)" ] || fail "groff complains of strata.1"
fi
