#!/usr/bin/env python3
"""Runs strata in several processes (mpirun) and compares with one: the same bytes of scores, plans and files, also
after a rank was killed; one sentence where a rank fails.

Usage: ranks.py STRATA MODEL TEXT [NAME...]: only tests of these names. Exit code 77 where there is no mpirun, or
where strata was built without MPI."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIPPED = 77
LIMIT = 600  # seconds a command may take on a busy machine


def short_model(model, folder, layers):
    """The first layers of a model."""
    folder.mkdir()
    for file in model.iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file.resolve())
    config = json.loads((model / "config.json").read_text())
    config["num_hidden_layers"] = layers
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def command(strata, ranks, arguments):
    launch = ["mpirun", "--oversubscribe", "--allow-run-as-root", "-n", str(ranks)] if ranks > 1 else []
    return launch + [str(strata)] + [str(argument) for argument in arguments]


def run(strata, ranks, *arguments):
    done = subprocess.run(command(strata, ranks, arguments), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, f"{ranks} ranks, {arguments}: exit {done.returncode}\n{done.stderr}"
    return done.stdout


def hashes(folder):
    """SHA-256 by name of all files below a folder, those of a cache aside."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "cache" not in path.parts
    }


def sentences(text):
    return [line for line in text.splitlines() if line.startswith("strata: ")]


class Skip(Exception):
    """Why a test cannot run here."""


class TwoHosts:
    """Two network namespaces of this machine, joined by a pair of virtual interfaces: each looks like a host of its
    own, with another name and nothing but TCP between them."""

    def __init__(self, work):
        self.names = [f"strata{os.getpid()}{side}" for side in "ab"]
        self.addresses = ["10.77.0.1", "10.77.0.2"]
        self.agent = work / "agent"
        cases = " ".join(f"{a}) n={n};;" for a, n in zip(self.addresses, self.names))
        self.agent.write_text(f"#!/bin/sh\n# In the place of ssh: HOST COMMAND...\nhost=$1; shift\ncase $host in {cases} esac\n"
                              'exec ip netns exec "$n" unshare --uts sh -c "hostname $n; $*"\n')
        self.agent.chmod(0o755)
        self.hosts = work / "hosts"
        self.hosts.write_text("".join(f"{address} slots=1\n" for address in self.addresses))

    def __enter__(self):
        if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
            raise Skip("network namespaces need root, ip and unshare")
        try:
            for name in self.names:
                self.ip("netns", "add", name)
            first, second = self.names
            self.ip("-n", first, "link", "add", "left", "type", "veth", "peer", "name", "right", "netns", second)
            for name, device, address in zip(self.names, ("left", "right"), self.addresses):
                self.ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
                self.ip("-n", name, "link", "set", device, "up")
                self.ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise Skip(f"network namespaces cannot be made here: {error.stderr.strip()}") from error
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    @staticmethod
    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    def command(self, arguments):
        network = f"{self.addresses[0]}/24"
        launch = ["mpirun", "--allow-run-as-root", "--hostfile", self.hosts, "-n", "2", "--mca", "plm_rsh_agent", self.agent,
                  "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", network, "--mca", "oob_tcp_if_include", network]
        words = " ".join(shlex.quote(str(word)) for word in [*launch, *arguments])
        return ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "sh", "-c", f"hostname {self.names[0]}; exec {words}"]


class Tests:
    def __init__(self, strata, model, text, work):
        self.strata, self.work = strata, work
        self.model = short_model(model, work / "model", 2)
        self.experts = model.parent / "tiny-moe.gguf"
        self.few = ["--calib", text, "--calib-tokens", 128, "--calib-window", 32, "--kl-tokens", 64]
        self.text = text

    def same_for_any_ranks(self, name, *arguments):
        """`arguments` with {out} for a folder of its own."""
        found = {}
        for ranks in (1, 2, 3):
            out = self.work / f"{name}-{ranks}"
            out.mkdir()
            run(self.strata, ranks, *[str(a).replace("{out}", str(out)) for a in arguments], "--quiet")
            found[ranks] = hashes(out)
            assert found[ranks], f"{name}: nothing was written"
            assert found[ranks] == found[1], f"{name}: {ranks} ranks wrote {found[ranks]}, one {found[1]}"

    def test_kl(self):
        for arguments in ([], ["--memory", "1MiB"]):
            self.same_for_any_ranks(f"kl{len(arguments)}", "score", self.model, "--method", "kl", "--schemes",
                                    "w2g64,q4_K", *self.few, *arguments, "-o", "{out}/scores.json")

    def test_nsds(self):
        for quantizer, output in (("rtn", ["{out}/model.gguf"]), ("hqq", ["{out}/model", "--format", "mlx"])):
            self.same_for_any_ranks(f"nsds-{quantizer}", "quantize", self.model, "--method", "nsds", "--bpw", 4.6,
                                    "--quantizer", quantizer, "--save-plan", "{out}/plan.json", "-o", *output)

    def test_experts(self):
        """Stacks of matrices, each quantized for itself."""
        for quantizer in ("rtn", "gptq"):
            self.same_for_any_ranks(f"experts-{quantizer}", "quantize", self.experts, "--method", "uniform", "--bpw", 4.6,
                                    "--quantizer", quantizer, *self.few, "-o", "{out}/model.gguf")

    def test_gptq(self):
        for name, output in (("gguf", "{out}/model.gguf"), ("packed", "{out}/model")):
            format = [] if name == "gguf" else ["--format", "compressed-tensors"]
            self.same_for_any_ranks(f"gptq-{name}", "quantize", self.model, "--method", "kl", "--bpw", 4.5, "--quantizer",
                                    "gptq", *self.few, *format, "-o", output, "--save-plan", "{out}/plan.json")

    def test_signround(self):
        self.same_for_any_ranks("signround", "quantize", self.model, "--method", "uniform", "--bpw", 4.5, "--quantizer",
                                "signround", "--sign-steps", 2, *self.few, "-o", "{out}/model.gguf")

    def test_eval(self):
        measured = {}
        for ranks in (1, 2, 3):
            document = json.loads(run(self.strata, ranks, "eval", self.model, "--text", self.text, "--window", 32,
                                      "--tokens", 320, "--batch", 2, "--reference", self.model, "--json"))
            del document["seconds"]
            measured[ranks] = document
        assert measured[1] == measured[2] == measured[3], measured

    def test_compare(self):
        """Cells that one number of ranks has finished are found by another."""
        found = []
        results = self.work / "cells.json"
        for ranks, methods in ((1, "uniform,kl,nsds"), (3, "uniform,kl,nsds"), (2, "nsds,kl"), (1, "uniform,kl,nsds")):
            saved = ["--results", results] if len(found) > 1 else []
            document = json.loads(run(self.strata, ranks, "compare", self.model, "--methods", methods, "--bpw", 4.5,
                                      "--schemes", "w3g64,w4g64,w8g64", "--quantizer", "rtn,gptq", *self.few, *saved,
                                      "--text", self.text, "--window", 32, "--tokens", 640, "--json"))
            for row in document["rows"]:
                del row["seconds"]
            found.append(document["rows"])
        assert found[0] == found[1] == found[3], found
        assert all(row in found[0] for row in found[2]), found

    def test_measured_file(self):
        """What quantize says of its file on a text, with the defaults of everything else."""
        found = []
        for ranks in (1, 2):
            document = json.loads(run(self.strata, ranks, "quantize", self.model, "--size", "4MiB", *self.few, "--text",
                                      self.text, "--window", 32, "--tokens", 640, "-o", self.work / f"measured-{ranks}.gguf",
                                      "--json"))
            found.append([document["measurements"], document["plan"], document["squared_error"]])
        assert found[0] == found[1], found
        first, second = ((self.work / f"measured-{ranks}.gguf").read_bytes() for ranks in (1, 2))
        assert first == second

    def test_two_hosts(self):
        """One rank a host, over TCP: the same bytes, though the disk is shared here."""
        one, two = self.work / "one-host", self.work / "two-hosts"
        one.mkdir(), two.mkdir()
        arguments = ["quantize", self.model, "--method", "kl", "--bpw", 4.5, "--quantizer", "gptq", *self.few, "--quiet",
                     "-o"]
        run(self.strata, 1, *arguments, one / "model.gguf")
        with TwoHosts(self.work) as hosts:
            names = subprocess.run(hosts.command(["hostname"]), capture_output=True, text=True, timeout=LIMIT)
            assert sorted(names.stdout.split()) == hosts.names, names
            done = subprocess.run(hosts.command([self.strata, *arguments, two / "model.gguf"]), capture_output=True,
                                  text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
        assert hashes(one) == hashes(two)

    def test_killed_rank(self):
        """A rank is killed once some costs are there; another number of ranks goes on with them."""
        arguments = ["score", self.model, "--method", "kl", "--schemes", "w2g64,w3g64,w4g64,q4_K", *self.few]
        whole, out = self.work / "whole", self.work / "killed"
        whole.mkdir(), out.mkdir()
        run(self.strata, 1, *arguments, "-o", whole / "scores.json")
        cache = out / "cache"
        arguments += ["--calib-cache", cache, "-o", out / "scores.json"]
        job = subprocess.Popen(command(self.strata, 3, arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               text=True)
        end = time.monotonic() + LIMIT
        while sum(len(f.read_text().splitlines()) for f in cache.glob("*")) < 8 and time.monotonic() < end:
            time.sleep(0.02)
        killed = self.processes_of(job.pid)[-1]
        os.kill(killed, signal.SIGKILL)
        assert job.wait(timeout=LIMIT) != 0, "mpirun did not notice that a rank was killed"
        job.stderr.close()
        assert not (out / "scores.json").exists()
        before = sum(f.read_text().count('"key"') for f in cache.glob("*"))
        run(self.strata, 2, *arguments)
        assert hashes(out) == hashes(whole)
        after = sum(f.read_text().count('"key"') for f in cache.glob("*"))
        costs = len(json.loads((out / "scores.json").read_text())["costs"])
        assert 0 < before < costs, (before, costs)
        assert after < before + 2 * costs, (before, after, costs)

    def test_interrupted(self):
        """Ctrl-C at mpirun while the file is being written: nothing is left, and an earlier file stays."""
        out = self.work / "interrupted"
        out.mkdir()
        target = out / "model.gguf"
        target.write_bytes(b"earlier")
        job = subprocess.Popen(
            command(self.strata, 2, ["quantize", self.experts, "--method", "uniform", "--bpw", 4.6, "--quantizer", "gptq",
                                     "--calib", self.text, "--calib-tokens", 65536, "-o", target]),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + LIMIT
        while len(list(out.iterdir())) < 2 and job.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        assert len(list(out.iterdir())) == 2, "the job has ended before it could be interrupted"
        job.send_signal(signal.SIGINT)
        assert job.wait(timeout=LIMIT) != 0
        assert [file.name for file in out.iterdir()] == ["model.gguf"], list(out.iterdir())
        assert target.read_bytes() == b"earlier"

    def processes_of(self, launcher):
        """The ranks that a launcher has started: its children that run strata-tensors."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == launcher and "strata" in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except (OSError, ValueError, IndexError):
                continue
        return sorted(found)

    def fails(self, arguments, environment=None):
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=LIMIT, env=environment)
        assert done.returncode != 0, done.stdout
        said = sentences(done.stderr)
        assert len(said) == 1, done.stderr
        return said[0]

    def test_other_checkpoint(self):
        """Rank 1 is given another model."""
        other = short_model(self.model, self.work / "other", 1)
        part = ["-n", "1", str(self.strata), "score"]
        rest = ["--method", "nsds"]
        said = self.fails(["mpirun", "--oversubscribe", "--allow-run-as-root", *part, str(self.model), *rest, ":", *part,
                           str(other), *rest])
        assert "checkpoint" in said and "rank 1" in said, said

    def test_error_once(self):
        said = self.fails(command(self.strata, 3, ["score", self.work / "nothing", "--method", "nsds"]))
        assert "nothing" in said, said
        self.fails(command(self.strata, 2, ["score", self.model, "--method", "no-such-method"]))

    def test_full_disk(self):
        """The cache of rank 1 cannot be written: the disk is full there."""
        cache = self.work / "full-cache"
        run(self.strata, 1, "score", self.model, "--method", "kl", "--schemes", "w2g64", *self.few, "--calib-cache", cache)
        stem = next(cache.glob("kl-*.jsonl")).name[: -len(".jsonl")]
        shutil.rmtree(cache)
        cache.mkdir()
        (cache / f"{stem}.rank1.jsonl").symlink_to("/dev/full")
        said = self.fails(command(self.strata, 2, ["score", self.model, "--method", "kl", "--schemes", "w2g64", *self.few,
                                                   "--calib-cache", cache]))
        assert "rank 1" in said and "written" in said, said

    def test_rank_0_alone(self):
        scores = self.work / "alone.json"
        run(self.strata, 1, "score", self.model, "--method", "uniform", "--schemes", "w2g64,w4g64", "-o", scores)
        for arguments in (["allocate", scores, "--bpw", 3, "--json"], ["inspect", self.model, "--json"]):
            assert run(self.strata, 3, *arguments) == run(self.strata, 1, *arguments)


def main():
    strata, model, text = (Path(argument).resolve() for argument in sys.argv[1:4])
    os.environ["OMP_WAIT_POLICY"] = "passive"
    if shutil.which("mpirun") is None:
        print("mpirun is missing: no test of several ranks")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        tests = Tests(strata, model, text, Path(folder))
        probe = subprocess.run(command(strata, 2, ["score", tests.model, "--method", "uniform"]), capture_output=True,
                               text=True, timeout=LIMIT)
        if "without MPI" in probe.stderr:
            print("strata was built without MPI: no test of several ranks")
            return SKIPPED
        names = sys.argv[4:] or [name[5:] for name in dir(tests) if name.startswith("test_")]
        for name in names:
            start = time.monotonic()
            try:
                getattr(tests, "test_" + name)()
            except Skip as why:
                print(f"{name}: skipped, {why}", flush=True)
                if len(names) == 1:
                    return SKIPPED
                continue
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
