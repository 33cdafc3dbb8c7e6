"""Makes the images beside it (Pillow 11): make_images.py, in this folder. tests/vision/images_test.cpp knows the formulas."""
import numpy as np
from PIL import Image

y, x = np.mgrid[0:16, 0:24]
colours = np.stack([10 * x, 15 * y, 250 - 5 * x - 7 * y], -1).astype(np.uint8)
grey = (3 * x + 11 * y).astype(np.uint8)
Image.fromarray(colours).save("colours.png")
Image.fromarray(grey).save("grey.png")
Image.fromarray(np.dstack([colours, np.where(x < 12, 255, 255 - 8 * y).astype(np.uint8)])).save("transparent.png")
Image.fromarray((grey // 4 * 4).astype(np.uint8)).convert("P").save("palette.png")
Image.fromarray(colours).save("colours.jpg", quality=97, subsampling=0)
Image.fromarray(colours).save("progressive.jpeg", quality=97, subsampling=2, progressive=True)
Image.fromarray(grey).save("grey.jpg", quality=97)
Image.fromarray(colours).convert("CMYK").save("cmyk.jpg", quality=97)
