"""The cells of examples/checkpoint_to_plot.ipynb, one after the other."""
import importlib.util
import json
import os
import pathlib
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@unittest.skipIf(importlib.util.find_spec("matplotlib") is None, "matplotlib is not here")
class Notebook(unittest.TestCase):
    def test_goes_from_a_checkpoint_to_a_plot(self):
        import matplotlib

        matplotlib.use("Agg")
        notebook = json.loads((ROOT / "examples/checkpoint_to_plot.ipynb").read_text())
        cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
        self.assertLessEqual(sum(len(cell.splitlines()) for cell in cells), 20)
        names = {}
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            for part in ("models", "data"):
                os.symlink(ROOT / part, os.path.join(folder, part))
            os.chdir(folder)
            try:
                for cell in cells:
                    exec(cell, names)
                self.assertGreater(os.path.getsize("tiny-llama.png"), 10000)
            finally:
                os.chdir(before)
        losses = [loss for _, loss in names["measured"]]
        self.assertEqual(losses, sorted(losses, reverse=True))
        curve = names["left"].lines[0].get_ydata()
        self.assertGreater(len(curve), 100)
        self.assertLess(curve[-1], 0.1 * curve[0])


if __name__ == "__main__":
    unittest.main()
