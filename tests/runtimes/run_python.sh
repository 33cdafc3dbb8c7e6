#!/bin/sh
# Runs a runtime test with the first Python that has numpy, gguf and xllamacpp: $STRATA_PYTHON, the project's
# .venv, or python3. Exit code 77, which ctest takes for "skipped", when there is none.
here=$(dirname "$0")
for python in "$STRATA_PYTHON" "$here/../../.venv/bin/python" python3; do
  if [ -n "$python" ] && "$python" -c "import numpy, gguf, xllamacpp" 2>/dev/null; then
    exec "$python" "$here/$@"
  fi
done
echo "skipped: no Python with numpy, gguf and xllamacpp was found; run ./check, or set STRATA_PYTHON"
exit 77
