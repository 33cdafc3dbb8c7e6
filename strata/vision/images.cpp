#include "strata/vision/images.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"
#include "strata/vision/image_files.h"
#include "strata/vision/npz.h"

namespace strata::vision {
namespace {

constexpr int64_t kCifarSide = 32;
constexpr int64_t kCifarBytes = 1 + 3 * kCifarSide * kCifarSide;
const std::vector<double> kCifarMean = {0.4914, 0.4822, 0.4465}, kCifarDeviation = {0.2470, 0.2435, 0.2616};
const std::vector<double> kImageNetMean = {0.485, 0.456, 0.406}, kImageNetDeviation = {0.229, 0.224, 0.225};

int64_t limited(int64_t available, int64_t wanted) {
  return wanted > 0 ? std::min(available, wanted) : available;
}

// The layout of the CIFAR-10 binary files: a label byte, then 32 x 32 pixels in three planes, for each image.
ImageSet load_cifar(const ImageOptions& options) {
  const MappedFile file(options.path);
  if (file.size() == 0 || file.size() % kCifarBytes != 0)
    fail("{} has {} bytes, which is no multiple of the {} of a CIFAR-10 image with its label",
         options.path.string(), file.size(), kCifarBytes);
  const int64_t count = limited(static_cast<int64_t>(file.size()) / kCifarBytes, options.count);
  ImageSet set;
  set.pixels = at::empty({count, 3, kCifarSide, kCifarSide}, at::kByte);
  for (int64_t i = 0; i < count; ++i) {
    const std::byte* image = file.data() + i * kCifarBytes;
    set.labels.push_back(static_cast<int64_t>(image[0]));
    std::memcpy(set.pixels.data_ptr<uint8_t>() + i * (kCifarBytes - 1), image + 1, kCifarBytes - 1);
  }
  return set;
}

void check_array(const at::Tensor& array, const std::string& where) {
  if (array.dim() < 1 || array.size(0) == 0 ||
      (array.scalar_type() != at::kByte && array.scalar_type() != at::kFloat))
    fail("{} holds an array of {} {}s, expected images as a first dimension of several, of uint8 or float32",
         where, fmt::join(array.sizes().vec(), " x "), c10::toString(array.scalar_type()));
}

// Keeps as many as were asked for, and reads their labels where there are any.
void finish_arrays(ImageSet& set, const ImageOptions& options) {
  if (options.channels_last && set.pixels.dim() == 4)
    set.pixels = set.pixels.permute({0, 3, 1, 2}).contiguous();
  if (!options.labels.empty()) {
    const at::Tensor labels = read_npy(options.labels);
    if (labels.dim() != 1 || labels.is_floating_point() || labels.size(0) != set.size())
      fail("{} holds an array of {}, expected {} whole numbers, one for each image", options.labels.string(),
           fmt::join(labels.sizes().vec(), " x "), set.size());
    const at::Tensor whole = labels.to(at::kLong).contiguous();
    set.labels.assign(whole.data_ptr<int64_t>(), whole.data_ptr<int64_t>() + whole.numel());
  }
  set = set.slice(0, limited(set.size(), options.count));
}

ImageSet load_npy(const ImageOptions& options) {
  ImageSet set;
  set.pixels = read_npy(options.path);
  check_array(set.pixels, options.path.string());
  finish_arrays(set, options);
  return set;
}

ImageSet load_npz(const ImageOptions& options, const std::vector<InputShape>& inputs) {
  ImageSet set;
  const std::map<std::string, at::Tensor> arrays = read_npz(options.path);
  for (const InputShape& input : inputs) {
    const auto found = arrays.find(input.name);
    if (found == arrays.end())
      fail("{} has no array '{}', which the model takes", options.path.string(), printable(input.name));
    const at::Tensor& array = found->second;
    if (set.pixels.defined() && (array.dim() < 1 || array.size(0) != set.size()))
      fail("{}: the array '{}' is {}, expected {} images as its first dimension", options.path.string(),
           printable(input.name), fmt::join(array.sizes().vec(), " x "), set.size());
    if (set.pixels.defined()) {
      set.further.push_back(array);
      continue;
    }
    if (array.dim() < 1 || array.size(0) == 0) check_array(array, options.path.string());
    set.pixels = array;
  }
  finish_arrays(set, options);
  return set;
}

// Shorter side to `resize`, then the centre square of `crop`.
at::Tensor resize_and_crop(const at::Tensor& image, int64_t resize, int64_t crop) {
  const int64_t height = image.size(1), width = image.size(2), shorter = std::min(height, width);
  const auto scaled = [&](int64_t side) { return std::max(resize, (side * resize + shorter / 2) / shorter); };
  at::Tensor result = image.to(at::kFloat).unsqueeze(0);
  if (shorter != resize)
    result = at::_upsample_bilinear2d_aa(result, {scaled(height), scaled(width)}, /*align_corners=*/false);
  result = result.narrow(2, (result.size(2) - crop) / 2, crop).narrow(3, (result.size(3) - crop) / 2, crop);
  return at::clamp(at::round(result[0]), 0, 255).to(at::kByte);
}

std::vector<std::filesystem::path> sorted_entries(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> entries;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

// The image files of a folder, one class after the other.
std::vector<std::vector<std::filesystem::path>> image_files_by_class(const std::filesystem::path& path) {
  std::vector<std::vector<std::filesystem::path>> classes;
  for (const auto& folder : sorted_entries(path)) {
    if (!std::filesystem::is_directory(folder)) continue;
    auto& files = classes.emplace_back();
    for (const auto& file : sorted_entries(folder))
      if (is_image_file(file)) files.push_back(file);
  }
  return classes;
}

// A folder a class, in the order of their names. Images are taken from the classes in turn, so that the first
// so many of them are balanced. Or images alone, without labels.
ImageSet load_folder(const ImageOptions& options, const std::vector<int64_t>& network_shape) {
  auto classes = image_files_by_class(options.path);
  size_t longest = 0;
  for (const auto& files : classes) longest = std::max(longest, files.size());
  const bool labelled = longest > 0;
  if (!labelled) {
    auto& files = classes.emplace_back();
    for (const auto& file : sorted_entries(options.path))
      if (is_image_file(file)) files.push_back(file);
    longest = files.size();
  }
  if (longest == 0) fail("{} has no .jpg or .png images in it, nor folders with some", options.path.string());
  if (!network_shape.empty() && network_shape.size() != 3)
    fail("{} has images, but the model takes inputs of {} dimensions; give an .npy", options.path.string(),
         network_shape.size());
  const int64_t crop = options.crop > 0 ? options.crop : network_shape.empty() ? 0 : network_shape[1];
  if (crop <= 0)
    fail_usage("the model does not say the size of its images; give --crop with the side they should have");
  const int64_t resize = options.resize > 0 ? options.resize : crop * 8 / 7;
  if (resize < crop) fail_usage("--resize {} is smaller than the crop of {}", resize, crop);
  std::vector<std::pair<std::filesystem::path, int64_t>> files;
  for (size_t i = 0; i < longest; ++i)
    for (size_t c = 0; c < classes.size(); ++c)
      if (i < classes[c].size()) files.emplace_back(classes[c][i], static_cast<int64_t>(c));
  files.resize(static_cast<size_t>(limited(static_cast<int64_t>(files.size()), options.count)));
  ImageSet set;
  Progress progress("Reading images", static_cast<int64_t>(files.size()), "images");
  std::vector<at::Tensor> images;
  for (const auto& [file, label] : files) {
    images.push_back(resize_and_crop(decode_image(file), resize, crop));
    if (labelled) set.labels.push_back(label);
    progress.advance();
  }
  set.pixels = at::stack(images);
  return set;
}

at::Tensor per_channel(const std::vector<double>& values, const ImageSet& set, const char* option) {
  const int64_t channels = set.pixels.size(1);
  const auto count = static_cast<int64_t>(values.size());
  if (count != 1 && count != channels)
    fail_usage("{} gives {} values, but {} has {} channels", option, count, set.source, channels);
  return at::tensor(values, at::kDouble)
      .to(at::kFloat)
      .reshape({1, -1, 1, 1})
      .expand({1, channels, 1, 1})
      .contiguous();
}

// Sizes that are unknown altogether are empty.
void check_fit(const std::string& source, const at::Tensor& array, const std::vector<int64_t>& sizes) {
  const std::vector<int64_t> shape = array.sizes().slice(1).vec();
  bool fits = sizes.empty() || shape.size() == sizes.size();
  for (size_t d = 0; fits && d < sizes.size(); ++d) fits = sizes[d] < 1 || sizes[d] == shape[d];
  if (!fits)
    fail("{} has images of {}{}, but the model takes {}", source, fmt::join(shape, " x "),
         shape.size() == 3 ? " (channels, height, width)" : "", fmt::join(sizes, " x "));
}

}  // namespace

std::vector<at::Tensor> ImageSet::batch(int64_t first, int64_t count, at::Device device) const {
  at::Tensor images = pixels.narrow(0, first, count).to(device);
  if (pixels.scalar_type() == at::kByte) images = images.to(at::kFloat) / 255;
  if (mean.defined()) images = (images - mean.to(device)) / deviation.to(device);
  std::vector<at::Tensor> inputs = {images};
  for (const at::Tensor& values : further) inputs.push_back(values.narrow(0, first, count).to(device));
  return inputs;
}

ImageSet ImageSet::slice(int64_t first, int64_t count) const {
  ImageSet part = *this;
  part.pixels = pixels.narrow(0, first, count);
  for (at::Tensor& values : part.further) values = values.narrow(0, first, count);
  if (!labels.empty()) part.labels.assign(labels.begin() + first, labels.begin() + first + count);
  return part;
}

void ImageSet::check_labels(int64_t classes) const {
  for (size_t i = 0; i < labels.size(); ++i)
    if (labels[i] < 0 || labels[i] >= classes)
      fail("{}: image {} has the label {}, but the model tells {} classes apart, 0 to {}", source, i,
           labels[i], classes, classes - 1);
}

Options declare(ImageOptions& options) {
  return {
      everyday(
          path("images", options.path, "PATH",
               "a folder of images (JPEG, PNG) or with a folder a class, a CIFAR-10 binary file, an .npy, "
               "or an .npz with an array for each input")),
      path("labels", options.labels, "FILE",
           "labels of the images in an .npy or .npz, as .npy of whole numbers"),
      number("image-count", options.count, 0, int64_t{1} << 40, "use only the first images; 0 = all"),
      number("resize", options.resize, 0, 1 << 16, "shorter side of a decoded image; 0 = 8/7 of the crop"),
      number("crop", options.crop, 0, 1 << 16,
             "side of the centre square that is kept; 0 = the model's size"),
      numbers(
          "mean", options.mean, "A,B,C",
          "mean of values in [0, 1], one or one a channel; by default CIFAR-10's for its files, otherwise "
          "ImageNet's; .npy files of float are taken as they are"),
      numbers("std", options.deviation, "A,B,C", "standard deviation, likewise"),
      choice("layout", options.channels_last, {{"nchw", false}, {"nhwc", true}}, "of images in an .npy")};
}

ImageSet load_images(const ImageOptions& options, const std::vector<int64_t>& network_shape) {
  return load_images(options, {InputShape{"image", network_shape}});
}

ImageSet load_images(const ImageOptions& options, const std::vector<InputShape>& inputs) {
  if (!std::filesystem::exists(options.path))
    fail("{} does not exist; give a folder of images, a CIFAR binary file, an .npy or an .npz",
         options.path.string());
  const std::vector<int64_t>& network_shape = inputs.front().sizes;
  const std::string ending = options.path.extension().string();
  if (ending != ".npz" && inputs.size() > 1) {
    std::string names;
    for (const InputShape& input : inputs) names += (names.empty() ? "" : ", ") + printable(input.name);
    fail_usage("the model takes {} inputs ({}); give an .npz with an array of each name", inputs.size(),
               names);
  }
  ImageSet set;
  bool cifar = false;
  if (std::filesystem::is_directory(options.path)) {
    set = load_folder(options, network_shape);
  } else if (ending == ".npy") {
    set = load_npy(options);
  } else if (ending == ".npz") {
    set = load_npz(options, inputs);
  } else {
    cifar = true;
    set = load_cifar(options);
  }
  set.source = options.path.string();
  check_fit(set.source, set.pixels, network_shape);
  for (size_t i = 1; i < inputs.size(); ++i) check_fit(set.source, set.further[i - 1], inputs[i].sizes);
  if (set.pixels.dim() != 4 || set.pixels.scalar_type() == at::kLong || set.pixels.scalar_type() == at::kInt)
    return set;  // mean and deviation are of colours
  const bool asked = !options.mean.empty() || !options.deviation.empty();
  if (set.pixels.scalar_type() == at::kFloat && !asked) return set;
  const auto& usual_mean = cifar ? kCifarMean : kImageNetMean;
  const auto& usual_deviation = cifar ? kCifarDeviation : kImageNetDeviation;
  const auto chosen = [&](const std::vector<double>& given, const std::vector<double>& usual, double grey) {
    if (!given.empty()) return given;
    return set.pixels.size(1) == 3 && !asked ? usual : std::vector<double>{grey};
  };
  set.mean = per_channel(chosen(options.mean, usual_mean, 0), set, "--mean");
  set.deviation = per_channel(chosen(options.deviation, usual_deviation, 1), set, "--std");
  if (!(set.deviation > 0).all().item<bool>()) fail_usage("--std must be above 0");
  return set;
}

}  // namespace strata::vision
