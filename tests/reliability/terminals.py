#!/usr/bin/env python3
"""Runs strata under other locales and terminals, and sends it the signals that terminals send.

terminals.py STRATA: exit code 1 and a line a fault where something is lost.
"""
import fcntl, os, pathlib, pty, re, signal, struct, subprocess, sys, tempfile, termios, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
STRATA = os.path.abspath(sys.argv[1])
faults = []


def expect(what, happened):
    if not happened:
        faults.append(what)


def quantize(folder, *more):
    return [STRATA, "quantize", str(ROOT / "tests/data/architectures/llama"), "--effort", "quick", "--bpw", "5",
            "--schemes", "Q4_0,Q8_0", "-o", str(folder / "m.gguf"), *more]


def long_run(folder, tokens):
    """Measured costs on much text: of 4,096 tokens about a second of work, with a line of progress."""
    return quantize(folder, "--method", "kl", "--kl-table", "full", "--calib",
                    str(ROOT / "data/wikitext-2/wiki.train.first-1MB.raw"), "--calib-tokens", str(tokens), "--kl-tokens", str(tokens))


def left_in(folder):
    return [p.name for p in folder.iterdir() if "unfinished" in p.name or p.name == "m.gguf"]


def comma_locale(folder):
    """A locale whose decimal point is a comma: nothing printed, read or written changes."""
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")], capture_output=True)
    if made.returncode > 1 or not (folder / "de_DE.UTF-8").exists():
        print("skipped: localedef cannot make de_DE.UTF-8 here (the package locales has it)")
        return
    results = []
    for locale in ["C", "de_DE.UTF-8"]:
        env = {**os.environ, "LOCPATH": str(folder), "LC_ALL": locale, "LANG": locale}
        subprocess.run(quantize(folder, "--quiet", "--save-plan", str(folder / "plan.json")), env=env, check=True,
                       capture_output=True)
        shown = subprocess.run([STRATA, "inspect", str(folder / "m.gguf")], env=env, capture_output=True, text=True)
        again = subprocess.run(quantize(folder, "--quiet"), env=env, capture_output=True)
        results.append((shown.stdout, (folder / "plan.json").read_bytes(), (folder / "m.gguf").read_bytes(), again.returncode))
    expect("a locale with a decimal comma changes what is printed or written", results[0] == results[1])


def no_terminal(folder):
    run = subprocess.run(quantize(folder), capture_output=True, text=True)
    expect(f"without a terminal: exit code {run.returncode}", run.returncode == 0)
    expect("without a terminal there are escapes", "\033" not in run.stdout + run.stderr and "\r" not in run.stderr)


def in_terminal(columns, command, env={}):
    """What a command writes to a terminal of so many columns."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(env)
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    written = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        written += piece
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.close(terminal)
    return code, written.decode()


def narrow_terminal(folder):
    code, text = in_terminal(40, long_run(folder, 4096), {"NO_COLOR": "1"})
    expect(f"a terminal of 40 columns: exit code {code}", code == 0)
    lines = [part.replace("\033[K", "") for part in text.split("\r") if "\033[K" in part]
    expect("a terminal of 40 columns shows no progress", lines)
    expect("progress is wider than 40 columns", all(len(line.rstrip("\n")) <= 40 for line in lines))
    expect("there are colours in spite of NO_COLOR", not re.search(r"\033\[[0-9;]*m", text))


def closed_pipe(folder):
    run = subprocess.run(f"'{STRATA}' inspect '{ROOT}/tests/data/architectures/llama' | true; exit ${{PIPESTATUS[0]}}",
                         shell=True, executable="/bin/bash", capture_output=True, text=True)
    expect(f"a closed pipe: exit code {run.returncode}, {run.stderr!r}",
           run.returncode in (0, 1) and run.stderr.count("\n") == run.returncode)


def signals(folder):
    for name in ["HUP", "TERM", "INT"]:
        (folder / "m.gguf").unlink(missing_ok=True)
        # Also where these tests themselves run under nohup.
        process = subprocess.Popen(long_run(folder, 131072) + ["--quiet"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        time.sleep(1.5)
        process.send_signal(getattr(signal, "SIG" + name))
        errors = process.communicate()[1]
        expect(f"SIG{name}: exit code {process.returncode}, {errors!r}",
               process.returncode == 1 and errors.startswith("strata: interrupted") and errors.count("\n") == 1)
        expect(f"SIG{name} leaves {left_in(folder)}", not left_in(folder))


def ignored_hangup(folder):
    process = subprocess.Popen(["nohup", *quantize(folder, "--quiet")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(5):
        time.sleep(0.3)
        process.send_signal(signal.SIGHUP)
    expect("nohup does not keep a run alive", process.wait() == 0)


def stopped(folder):
    """Ctrl-Z and fg: the run goes on where it was."""
    subprocess.run(quantize(folder, "--quiet"), check=True, capture_output=True)
    expected = (folder / "m.gguf").read_bytes()
    process = subprocess.Popen(quantize(folder, "--quiet"), stdout=subprocess.DEVNULL)
    for _ in range(3):
        time.sleep(0.2)
        process.send_signal(signal.SIGTSTP)
        time.sleep(0.1)
        process.send_signal(signal.SIGCONT)
    expect("a run that was stopped and went on fails", process.wait() == 0)
    expect("a run that was stopped and went on gives other bytes", (folder / "m.gguf").read_bytes() == expected)


for step in [comma_locale, no_terminal, narrow_terminal, closed_pipe, signals, ignored_hangup, stopped]:
    with tempfile.TemporaryDirectory(prefix="strata-terminals-") as name:
        step(pathlib.Path(name))
    print(f"{step.__name__}: {len(faults)} faults so far", flush=True)
for fault in faults:
    print("LOST:", fault)
sys.exit(1 if faults else 0)
