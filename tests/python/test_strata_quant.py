"""strata_quant on the bundled model, beside the command and numpy's own reading of the files."""
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import numpy
import strata_quant as sq

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "models/tiny-llama")
NOVEL = str(ROOT / "data/books/the-man-who-was-thursday.txt")
STRATA = os.environ["STRATA_PROGRAM"]


def command(*words):
    done = subprocess.run([STRATA, *words], check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout)


class Models(unittest.TestCase):
    def test_tensors_are_those_of_the_file(self):
        model = sq.open(MODEL)
        self.assertEqual(model.config["layers"], 16)
        self.assertEqual(len(model.modules), 112)
        file = next(pathlib.Path(MODEL).glob("*.safetensors"))
        data = file.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        for name in list(model)[:20]:
            entry = header[name]
            first, last = (8 + size + place for place in entry["data_offsets"])
            self.assertEqual(model.tensors[name].type, entry["dtype"])
            if entry["dtype"] == "BF16":
                halves = numpy.frombuffer(data[first:last], dtype="<u2").astype("<u4") << 16
                expected = halves.view("<f4")
            else:
                expected = numpy.frombuffer(data[first:last], dtype={"F16": "<f2", "F32": "<f4"}[entry["dtype"]])
            numpy.testing.assert_array_equal(model[name], expected.reshape(entry["shape"]))

    def test_arrays_of_numpys_types_are_the_file_itself(self):
        with tempfile.TemporaryDirectory() as folder:
            source = sq.open(MODEL)
            copy = pathlib.Path(folder) / "model"
            copy.mkdir()
            (copy / "config.json").write_bytes((pathlib.Path(MODEL) / "config.json").read_bytes())
            header, body = {}, b""
            for name in source:
                array = numpy.asarray(source[name], dtype="<f4")
                header[name] = {"dtype": "F32", "shape": list(array.shape),
                                "data_offsets": [len(body), len(body) + array.nbytes]}
                body += array.tobytes()
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            (copy / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
            model = sq.open(copy)
            name = model.modules[0].tensor
            first, second = model[name], model[name]
            self.assertEqual(first.dtype, numpy.float32)
            self.assertEqual(first.ctypes.data, second.ctypes.data)
            self.assertFalse(first.flags.writeable)
            del model, second  # the array keeps its file
            numpy.testing.assert_array_equal(first, source[name])

    def test_a_missing_tensor_and_a_missing_model(self):
        with self.assertRaisesRegex(KeyError, "no tensor nowhere"):
            sq.open(MODEL)["nowhere"]
        with self.assertRaisesRegex(sq.Error, "does-not-exist"):
            sq.open("does-not-exist")


class Stages(unittest.TestCase):
    def test_scores_and_plans_are_those_of_the_command(self):
        scores = sq.score(MODEL, "kurtosis", schemes="gguf", progress=False)
        self.assertEqual(scores, command("score", MODEL, "--method", "kurtosis", "--schemes", "gguf", "--json"))
        plan = sq.allocate(scores, bpw=3.0)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "scores.json"
            file.write_text(json.dumps(scores))
            self.assertEqual(plan, command("allocate", str(file), "--bpw", "3", "--json"))
            self.assertEqual(plan, sq.allocate(file, bpw=3))
        tables = sq.cost_table(scores), sq.plan_table(plan)
        self.assertEqual(tables[0].costs.shape, (113, len(tables[0].schemes)))
        self.assertEqual(len(tables[1].tensors), 112)
        bits = dict(zip(tables[0].schemes, range(99)))
        total = sum(tables[0].costs[tables[0].tensors.index(tensor), bits[scheme]]
                    for tensor, scheme in zip(tables[1].tensors, tables[1].schemes))
        self.assertAlmostEqual(total, plan["cost"], delta=1e-9 * abs(total))

    def test_a_file_has_the_same_bytes_as_from_the_command(self):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = pathlib.Path(folder) / "ours.gguf", pathlib.Path(folder) / "theirs.gguf"
            result = sq.quantize(MODEL, ours, effort="quick", bpw=3.0, progress=False)
            command("quantize", MODEL, "-o", str(theirs), "--effort", "quick", "--bpw", "3", "--json")
            self.assertEqual(ours.read_bytes(), theirs.read_bytes())
            self.assertEqual(result["file_bytes"], ours.stat().st_size)
            self.assertEqual(sq.verify(ours, reference=MODEL, progress=False)["faults"], [])
            found = sq.evaluate(ours, NOVEL, reference=MODEL, tokens=1024, progress=False)
            expected = command("eval", str(ours), "--text", NOVEL, "--reference", MODEL, "--tokens", "1024", "--json")
            for key in ("ppl", "kld", "top1", "tokens"):
                self.assertEqual(found[key], expected[key])

    def test_a_method_of_ones_own_scores_what_it_is_given(self):
        seen = []

        def largest_weight(module, weights):
            seen.append((module.tensor, weights.shape))
            return float(numpy.abs(weights.astype("f4")).max())

        scores = sq.score(MODEL, largest_weight, progress=False)
        model = sq.open(MODEL)
        self.assertEqual(seen, [(module.tensor, module.shape) for module in model.modules])
        self.assertEqual(scores["method"], "largest_weight")
        first = numpy.abs(model[model.modules[0].tensor].astype("f4")).max()
        self.assertEqual(scores["scores"][0]["score"], first)
        plan = sq.allocate(scores, schemes="gguf", bpw=3.0)
        self.assertLessEqual(plan["bits_per_weight"], 3.0)

    def test_an_exception_of_a_method_comes_through(self):
        def broken(module, weights):
            raise ZeroDivisionError("mine")

        with self.assertRaisesRegex(ZeroDivisionError, "mine"):
            sq.score(MODEL, broken, progress=False)

    def test_costs_of_ones_own_decide(self):
        scores = sq.score(MODEL, "kurtosis", progress=False)
        schemes = ["Q2_K", "Q4_K", "Q8_0"]

        def only_layer_3_counts(module, scheme):
            return {"Q2_K": 1.0, "Q4_K": 0.1, "Q8_0": 0.0}[scheme] if module.layer == 3 else 0.0

        priced = sq.with_costs(scores, only_layer_3_counts, schemes)
        plan = sq.allocate(priced, bpw=3.0)
        for line in plan["assignments"]:
            if ".layers.3." in line["tensor"]:
                self.assertEqual(line["scheme"], "Q8_0")
        same = sq.with_costs(scores, sq.cost_table(priced).costs, schemes)
        self.assertEqual(same, priced)

    def test_costs_that_cannot_be(self):
        scores = sq.score(MODEL, "kurtosis", progress=False)
        for costs, sentence in ((numpy.zeros((3, 2)), r"\[3, 2\].*\[112, 2\]"), (numpy.full((112, 2), "x"), "numbers were"),
                                (numpy.full((112, 2), numpy.nan), "finite number")):
            with self.assertRaisesRegex(sq.UsageError, sentence):
                sq.with_costs(scores, costs, ["Q2_K", "Q4_K"])

    def test_a_frontier_falls(self):
        scores = sq.score(MODEL, "kurtosis", schemes="gguf", progress=False)
        points = sq.frontier(scores)["points"]
        costs = [point["cost"] for point in points]
        self.assertEqual(costs, sorted(costs, reverse=True))
        self.assertGreater(len(points), 100)


class Behaviour(unittest.TestCase):
    def test_errors_have_the_commands_sentences(self):
        with self.assertRaisesRegex(sq.UsageError, "--bpw -1: a number of bits above 0 was expected"):
            sq.quantize(MODEL, "never.gguf", bpw=-1)
        with self.assertRaisesRegex(sq.UsageError, "no method|unknown|nosuch"):
            sq.score(MODEL, "nosuch")
        with self.assertRaisesRegex(TypeError, "no option 'bits'"):
            sq.allocate({}, bits=3)
        with self.assertRaisesRegex(sq.Error, "strata.scores"):
            sq.allocate({"format": "other"}, bpw=3)

    def test_help_lists_the_declared_options(self):
        self.assertIn("calib_tokens: INT", sq.quantize.__doc__)
        self.assertIn("kl_tokens: INT", sq.score.__doc__)

    def test_other_threads_run_meanwhile(self):
        ticks = []
        over = threading.Event()

        def tick():
            while not over.wait(0.005):
                ticks.append(time.monotonic())

        thread = threading.Thread(target=tick)
        thread.start()
        first = time.monotonic()
        sq.score(MODEL, "nsds", progress=False)
        last = time.monotonic()
        over.set()
        thread.join()
        inside = [at for at in ticks if first < at < last]
        self.assertGreater(len(inside), 5)

    def test_ctrl_c_is_a_keyboard_interrupt_and_leaves_no_file(self):
        with tempfile.TemporaryDirectory() as folder:
            program = f"""
import os, signal, threading
import strata_quant as sq
sq.Error
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    sq.quantize({MODEL!r}, {folder + "/out.gguf"!r}, bpw=3.0, effort="best", progress=False)
except KeyboardInterrupt:
    print("interrupted", os.listdir({folder!r}))
print(sq.inspect({MODEL!r})["layers"])
"""
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.stdout, "interrupted []\n16\n", done.stderr)
            self.assertEqual(signal.getsignal(signal.SIGINT), signal.default_int_handler)

    def test_progress_is_tqdms(self):
        program = f"""
import strata_quant as sq
sq.score({MODEL!r}, "output-error", calib={NOVEL!r}, calib_tokens=4096, schemes="Q2_K,Q4_K")
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"\d+%\|")

    def test_stubs_are_those_of_the_declared_options(self):
        from strata_quant import _stubs

        stubs = ROOT / "python/strata_quant/__init__.pyi"
        self.assertEqual(stubs.read_text(), _stubs.text(), "run python3 -m strata_quant._stubs > " + str(stubs))


if __name__ == "__main__":
    unittest.main()
