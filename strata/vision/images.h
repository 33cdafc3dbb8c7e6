#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "strata/core/options.h"

namespace strata::vision {

// Where images come from and how they become a network's input.
struct ImageOptions {
  std::filesystem::path
      path;  // a folder of images or with a folder a class, a CIFAR binary file, an .npy or .npz
  std::filesystem::path labels;  // .npy of whole numbers, for images in an .npy or .npz
  int64_t count = 0;             // use only the first so many; 0 = all
  int64_t resize = 0;  // shorter side of a file's image; 0 = crop * 8 / 7, as ImageNet networks expect
  int64_t crop = 0;    // side of the centre square that is kept; 0 = the model's size
  std::vector<double> mean, deviation;  // of values in [0, 1]; empty = the source's usual ones
  bool channels_last = false;           // layout of an .npy: N, H, W, C instead of N, C, H, W
};

Options declare(ImageOptions& options);

// Images with what else goes into a network beside each, normalised as they are handed out.
struct ImageSet {
  std::string source;               // for messages
  at::Tensor pixels;                // [N, C, H, W] uint8, or the network's first input as it is, [N, ...]
  std::vector<at::Tensor> further;  // its other inputs, [N, ...] each
  std::vector<int64_t> labels;      // one an image, or none at all
  at::Tensor mean, deviation;       // [1, C, 1, 1]; undefined = not normalised

  bool has_labels() const { return !labels.empty(); }
  int64_t size() const { return pixels.size(0); }
  std::vector<int64_t> shape() const { return pixels.sizes().slice(1).vec(); }           // of one image
  std::vector<at::Tensor> batch(int64_t first, int64_t count, at::Device device) const;  // every input
  ImageSet slice(int64_t first, int64_t count) const;

  // Throws naming the source when a label is not below `classes`.
  void check_labels(int64_t classes) const;
};

// An input of a network: its name, and the sizes of its dimensions behind the first, [channels, height,
// width] for images; -1 where the network does not say.
struct InputShape {
  std::string name;
  std::vector<int64_t> sizes;
};

// Reads what a network takes: its first input from any source, all of them by their names from an .npz.
// Throws Error naming the file for images that do not decode or do not fit, and for labels that do not fit
// the images.
ImageSet load_images(const ImageOptions& options, const std::vector<InputShape>& inputs);

// The same for one input of images.
ImageSet load_images(const ImageOptions& options, const std::vector<int64_t>& network_shape);

}  // namespace strata::vision
