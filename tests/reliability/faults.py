#!/usr/bin/env python3
"""Kills `strata quantize`, fills its disk, breaks its files, and looks at what is left.

faults.py STRATA SHIM [--kills N] [--calls N] [--formats NAME...] [--seed S] [--only kill|shrink|cache|disk|clock|write|sync|read|short...]

Every fault is followed by an ordinary run, which must give the bytes of a run without faults and leave nothing else.
Prints what was tried, how often, and what was lost; exit code 1 when anything was.
"""
import argparse, os, pathlib, random, shutil, signal, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ROOT / "data/wikitext-2/wiki.train.first-1MB.raw"
FORMATS = ["gguf", "compressed-tensors", "gptq", "mlx", "strata", "hf"]


class Work:
    """A folder with a small model, and what `quantize` of it gives without faults."""

    def __init__(self, strata, shim, folder, formats):
        self.formats = formats
        self.strata, self.shim, self.folder = strata, shim, pathlib.Path(folder)
        self.model = self.folder / "model"
        shutil.copytree(ROOT / "tests/data/architectures/llama", self.model)
        self.text = self.folder / "text"
        self.text.write_bytes(TEXT.read_bytes()[:20000])
        self.expected, self.seconds, self.counts = {}, {}, {}
        for form in formats:
            began = time.time()
            self.run(form, check=True, env={"STRATA_COUNT": str(self.folder / "counts")}, shim=True)
            self.seconds[form] = time.time() - began
            words = (self.folder / "counts").read_text().split()
            self.counts[form] = dict(zip(words[::2], map(int, words[1::2])))
            (self.folder / "counts").unlink()
            self.expected[form] = contents(self.target(form))
            self.clear()

    def target(self, form):
        return self.folder / "out" / ("m.gguf" if form == "gguf" else "m")

    def command(self, form, cache="cache", target=None):
        # Calibrated: measured costs and a quantizer that learns keep what they have in the cache.
        schemes = {"gguf": "Q4_0,Q8_0", "gptq": "w4g32z,w8g32z", "compressed-tensors": "w4g32z,w8g32z"}.get(form, "w4g32,w8g32")
        return [self.strata, "quantize", self.model, "--quiet", "--format", form, "--schemes", schemes, "--bpw", "5.5",
                "--method", "kl", "--quantizer", "signround", "--sign-steps", "4", "--sign-tokens", "64", "--calib", self.text, "--calib-tokens", "128",
                "--calib-window", "32", "--kl-tokens", "64", "--calib-cache", self.folder / cache,
                "-o", target or self.target(form)]

    def start(self, form, env={}, shim=False, **more):
        self.target(form).parent.mkdir(exist_ok=True)
        env = {**os.environ, "STRATA_FAIL_UNDER": str(self.folder), **env}
        if shim:
            env["LD_PRELOAD"] = str(self.shim)
        return subprocess.Popen(list(map(str, self.command(form, **more))), env=env, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def run(self, form, check=False, **more):
        process = self.start(form, **more)
        errors = process.communicate()[1]
        if check and process.returncode != 0:
            sys.exit(f"strata quantize --format {form} failed: {errors}")
        return process.returncode, errors

    def clear(self):
        for name in ["out", "cache"]:
            shutil.rmtree(self.folder / name, ignore_errors=True)


def contents(path):
    """Every byte below a path, by name."""
    if not path.exists():
        return None
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


class Table:
    def __init__(self):
        self.rows, self.lost = [], []

    def expect(self, what, happened):
        if not happened:
            self.lost.append(what)

    def add(self, what, times):
        self.rows.append((what, times, len(self.lost)))
        print(f"{what}: {times} times, {len(self.lost)} faults so far", flush=True)


def expect_whole_or_nothing(table, work, form, what, earlier=None):
    found = contents(work.target(form))
    table.expect(f"{what}: {form} stands half-written under its name", found in (earlier, work.expected[form]))


def expect_recovery(table, work, form, what):
    """The next run goes on, gives the same bytes, and leaves nothing behind."""
    code, errors = work.run(form)
    table.expect(f"{what}: the next run of {form} fails: {errors}", code == 0)
    table.expect(f"{what}: the next run of {form} gives other bytes", contents(work.target(form)) == work.expected[form])
    left = [str(p) for p in work.folder.rglob("*") if ".unfinished-" in p.name]
    table.expect(f"{what}: {left} stay behind", not left)


def expect_sentence(table, errors, what, *parts):
    lines = errors.strip().split("\n")
    table.expect(f"{what}: one sentence was expected, not {errors!r}", len(lines) == 1 and lines[0].startswith("strata: "))
    for part in parts:
        table.expect(f"{what}: {part!r} is not in {errors!r}", part in errors)


def kill(table, work, times, rng):
    for attempt in range(times):
        form = work.formats[attempt % len(work.formats)]
        earlier = contents(work.target(form))
        process = work.start(form)
        time.sleep(rng.uniform(0, work.seconds[form]))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        what = f"SIGKILL {attempt}"
        expect_whole_or_nothing(table, work, form, what, earlier)
        expect_recovery(table, work, form, what)
        if rng.random() < 0.7:  # otherwise the next file replaces an earlier one, and the cache is full
            work.clear()
    table.add("SIGKILL at a random moment of quantize", times)


def fail(table, work, kind, every, rng):
    """Lets every N-th call of a kind fail, and all behind it."""
    tried = 0
    for form in work.formats:
        total = work.counts[form]["read" if kind == "short" else kind]
        numbers = range(1, total + 1) if every is None else sorted(rng.sample(range(1, total + 1), min(every, total)))
        for number in numbers:
            work.clear()
            what = f"{kind} {number} of {total}"
            code, errors = work.run(form, env={"STRATA_FAIL": f"{kind}:{number}"}, shim=True)
            tried += 1
            if kind == "short":
                table.expect(f"{what}: {form} fails: {errors}", code == 0)
            elif code != 0:
                expect_sentence(table, errors, what)
            expect_whole_or_nothing(table, work, form, what)
            left = [str(p) for p in work.folder.rglob("*") if ".unfinished-" in p.name]
            table.expect(f"{what}: {left} stay behind", not left)
            if number == numbers[-1]:
                expect_recovery(table, work, form, what)
        work.clear()
    names = {"write": "the disk is full from a write on", "sync": "EIO of fsync", "read": "EIO of a read",
             "short": "reads of one byte"}
    table.add(names[kind], tried)


def two_at_once(table, work, times):
    for _ in range(times):
        for form in {work.formats[0], work.formats[-1]}:
            (work.folder / "out").mkdir(exist_ok=True)
            others = [work.folder / "out" / f"{name}{work.target(form).suffix}" for name in ("a", "b")]
            processes = [work.start(form, target=other) for other in others]
            for process in processes:
                errors = process.communicate()[1]
                table.expect(f"two runs on one cache: {form} fails: {errors}", process.returncode == 0)
            for other in others:
                table.expect(f"two runs on one cache: {form} has other bytes", contents(other) == work.expected[form])
            expect_recovery(table, work, form, "two runs on one cache")
            work.clear()
    table.add("two runs on one cache at once", 2 * times)


def shrink(table, work, times, rng):
    """A checkpoint that loses its second half while it is mapped."""
    weights = work.model / "model.safetensors"
    form, original, hit = work.formats[-1], weights.read_bytes(), 0
    for attempt in range(times):
        process = work.start(form)
        time.sleep(rng.uniform(0, work.seconds[form]))
        os.truncate(weights, 4096)
        errors = process.communicate()[1]
        if process.returncode != 0:
            hit += 1
            expect_sentence(table, errors, "a file that shrinks", "model.safetensors")
        table.expect("a file that shrinks: the program crashes", process.returncode in (0, 1))
        expect_whole_or_nothing(table, work, form, "a file that shrinks")
        weights.write_bytes(original)
        work.clear()
    table.add(f"a checkpoint that shrinks while it is read ({hit} times noticed)", times)


def small_disk(table, work):
    """A file system that is too small for the output, or just large enough."""
    disk, tried = work.folder / "disk", 0
    disk.mkdir()
    for form in work.formats:
        needed = sum(map(len, work.expected[form].values()))
        for part in [0.1, 0.5, 0.9, 3]:
            size = max(8192, int(part * needed))
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], stderr=subprocess.DEVNULL)
            if mounted.returncode != 0:
                return table.add("a file system that is too small (none could be mounted here)", 0)
            try:
                target = disk / work.target(form).name
                code, errors = work.run(form, target=target)
                what = f"a file system of {size} bytes"
                tried += 1
                if part > 1:
                    table.expect(f"{what}: {form} fails: {errors}", code == 0)
                    table.expect(f"{what}: {form} has other bytes", contents(target) == work.expected[form])
                else:
                    table.expect(f"{what}: {form} goes on", code == 1)
                    expect_sentence(table, errors, what, "cannot write")
                    table.expect(f"{what}: {form} leaves {list(disk.iterdir())}", not list(disk.iterdir()))
            finally:
                subprocess.run(["umount", disk], check=True)
        work.clear()
    table.add("a file system that is too small, or just large enough", tried)


def jumping_clock(table, work):
    for form in work.formats:
        code, errors = work.run(form, env={"STRATA_FAIL": "clock:1"}, shim=True)
        table.expect(f"a clock that jumps: {form} fails: {errors}", code == 0)
        table.expect(f"a clock that jumps: {form} has other bytes", contents(work.target(form)) == work.expected[form])
        expect_recovery(table, work, form, "a clock that jumps")
        work.clear()
    table.add("a clock that jumps by a day, forth and back", len(work.formats))


def unwritable_cache(table, work):
    shutil.rmtree(work.folder / "cache", ignore_errors=True)
    (work.folder / "cache").write_text("a file where the folder should be")
    code, errors = work.run(work.formats[0])
    table.expect("a cache that cannot be written: the program goes on", code == 1)
    expect_sentence(table, errors, "a cache that cannot be written", "--calib-cache")
    (work.folder / "cache").unlink()
    table.add("a cache that cannot be written", 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strata")
    parser.add_argument("shim")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--calls", type=int, help="calls of a kind and format that fail; by default all")
    parser.add_argument("--formats", nargs="*", default=FORMATS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    rng, table = random.Random(options.seed), Table()
    with tempfile.TemporaryDirectory(prefix="strata-faults-") as folder:
        work = Work(os.path.abspath(options.strata), os.path.abspath(options.shim), folder, options.formats)
        for form in work.formats:
            print(f"{form}: {work.seconds[form]:.1f} s, calls {work.counts[form]}", flush=True)
        steps = {"kill": lambda: kill(table, work, options.kills, rng),
                 "disk": lambda: small_disk(table, work), "clock": lambda: jumping_clock(table, work),
                 "shrink": lambda: shrink(table, work, max(2, options.kills // 5), rng),
                 "cache": lambda: (unwritable_cache(table, work), two_at_once(table, work, max(1, options.kills // 20)))}
        for kind in ["write", "sync", "read", "short"]:
            steps[kind] = lambda kind=kind: fail(table, work, kind, options.calls, rng)
        for name, step in steps.items():
            if not options.only or name in options.only:
                step()
    for fault in table.lost:
        print("LOST:", fault)
    sys.exit(1 if table.lost else 0)


if __name__ == "__main__":
    main()
