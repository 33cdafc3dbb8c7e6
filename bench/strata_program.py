"""The program under comparison, for the benchmarks beside other quantizers."""
import json
import subprocess
import sys


def run(options, command, *arguments):
    """What `strata COMMAND --json` says."""
    result = subprocess.run([options.strata, command, *map(str, arguments), "--json", "--quiet", "--device",
                             options.device], stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(result.returncode)
    return json.loads(result.stdout)
