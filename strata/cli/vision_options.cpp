#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "strata/cli/vision.h"
#include "strata/core/error.h"
#include "strata/device/device.h"
#include "strata/vision/image_files.h"

namespace strata::cli {

using namespace vision;  // NOLINT: the whole file is about it

namespace {

const char* const kImages = "ONNX models: images";
const char* const kScoring = "ONNX models: quantization and scores";
const char* const kInfoq = "InfoQ (language models take the factor, directions and neighbours, too)";
const char* const kBudget = "ONNX models: budget (all given limits hold together)";

double parse_number(const std::string& text, const char* option) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !std::isfinite(value))
    fail_usage("{} {} is not a number", option, text);
  return value;
}

std::vector<double> parse_numbers(const std::string& text, const char* option) {
  std::vector<double> values;
  if (text.empty()) return values;
  for (const std::string& part : split(text)) values.push_back(parse_number(part, option));
  return values;
}

RangeRule parse_range(const std::string& name) {
  if (name == "minmax") return RangeRule::MinMax;
  return name == "percentile" ? RangeRule::Percentile : RangeRule::SquaredError;
}

}  // namespace

void VisionCliOptions::add_images(CLI::App& command) {
  command
      .add_option(
          "--images", images,
          "labelled images: a folder with a folder a class (JPEG, PNG), a CIFAR-10 binary file, or an .npy")
      ->type_name("PATH")
      ->group(kImages);
  command.add_option("--labels", labels, "labels of an .npy of images, as .npy of whole numbers")
      ->type_name("FILE")
      ->group(kImages);
  command.add_option("--image-count", count, "use only the first images; 0 = all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str()
      ->group(kImages);
  command.add_option("--resize", resize, "shorter side of a decoded image; 0 = 8/7 of the crop")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str()
      ->group(kImages);
  command.add_option("--crop", crop, "side of the centre square that is kept; 0 = the model's size")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str()
      ->group(kImages);
  command
      .add_option(
          "--mean", mean,
          "mean of values in [0, 1], one or one a channel; by default CIFAR-10's for its files, otherwise "
          "ImageNet's; .npy files of float are taken as they are")
      ->type_name("A,B,C")
      ->group(kImages);
  command.add_option("--std", deviation, "standard deviation, likewise")->type_name("A,B,C")->group(kImages);
  command.add_option("--layout", layout, "of images in an .npy")
      ->check(CLI::IsMember({"nchw", "nhwc"}))
      ->capture_default_str()
      ->group(kImages);
  command
      .add_flag("--equalize", equalize, "equalize ranges across layers first; the function stays the same")
      ->group(kImages);
}

void VisionCliOptions::add_scoring(CLI::App& command) {
  command
      .add_option("--calibration-images", calibration,
                  "the first images calibrate ranges and score; accuracy is measured on the others (without "
                  "others: half and half)")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str()
      ->group(kScoring);
  command
      .add_option("--weight-range", weight_range, "scales of weights: least squared error or largest value")
      ->check(CLI::IsMember({"mse", "minmax"}))
      ->capture_default_str()
      ->group(kScoring);
  command.add_option("--activation-range", activation_range, "ranges of activations")
      ->check(CLI::IsMember({"mse", "minmax", "percentile"}))
      ->capture_default_str()
      ->group(kScoring);
  command.add_option("--percentile", percentile, "what --activation-range percentile keeps, in per cent")
      ->check(CLI::Range(50.0, 100.0))
      ->capture_default_str()
      ->group(kScoring);
  command.add_flag("--no-bias-correction", no_bias_correction, "leave biases as they are")->group(kScoring);
  command.add_option("--evidence", evidence, "information about labels, about the input, or both")
      ->check(CLI::IsMember({"labels", "inputs", "both"}))
      ->capture_default_str()
      ->group(kInfoq);
  command
      .add_option("--input-embedding", embedding,
                  "features of the images, a row each, that stand for the input; by default the network's "
                  "first layer's")
      ->type_name("FILE.npy")
      ->group(kInfoq);
  command.add_option("--observers", observers, "where information is read")
      ->check(CLI::IsMember({"blocks", "layers", "last"}))
      ->capture_default_str()
      ->group(kInfoq);
  command.add_flag("--no-inverse-width", no_inverse_width, "leave out the factor 1 / bits")->group(kInfoq);
  command.add_option("--directions", directions, "random directions of sliced mutual information")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str()
      ->group(kInfoq);
  command.add_option("--neighbours", neighbours, "neighbours of the estimators")
      ->check(CLI::Range(1, 16))
      ->capture_default_str()
      ->group(kInfoq);
  command.add_option("--hessian-samples", hessian_samples, "hawq: random vectors of Hutchinson's estimator")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->group(kScoring);
  command.add_option("--hessian-images", hessian_images, "hawq: images of the loss")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str()
      ->group(kScoring);
  command.add_flag("--free-ends", free_ends, "let the first and the last layer have fewer than 8 bits, too")
      ->group(kScoring);
}

void VisionCliOptions::add_budget(CLI::App& command, bool several) {
  const std::string list = several ? "; several, separated by commas" : "";
  command
      .add_option("--compression", compression, "32 bits a weight over its code bits, such as 10.66x" + list)
      ->type_name("X")
      ->group(kBudget);
  command.add_option("--bitops", bitops, "multiplications times both widths, for one image" + list)
      ->group(kBudget);
  command.add_option("--bitops-ratio", bitops_ratio, "the same, as a part of float's, such as 1/16" + list)
      ->type_name("R")
      ->group(kBudget);
  command.add_option("--alpha", alpha, "weight of the activations' costs beside the weights'")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(kBudget);
}

void VisionCliOptions::add_correlate(CLI::App& command) {
  command
      .add_flag("--correlate", correlate,
                "narrow every single layer on the reporting images, and correlate each score with the "
                "measured loss")
      ->group(kScoring);
}

void VisionCliOptions::add_int8(CLI::App& command) {
  command
      .add_flag("--int8-only", int8_only, "store weights of 2 to 4 bits as INT8, for runtimes without INT4")
      ->group(kScoring);
}

void VisionCliOptions::apply_to(InfoqOptions& infoq) const {
  infoq.directions = directions;
  infoq.neighbours = neighbours;
  infoq.inverse_width = !no_inverse_width;
}

VisionRequest VisionCliOptions::resolve(const std::string& model, const CommonOptions& common,
                                        bool needs_images) const {
  if (needs_images && images.empty())
    fail_usage(
        "--images is required for an ONNX model: give a folder with a folder a class, a CIFAR-10 binary "
        "file, "
        "or an .npy");
  VisionRequest request;
  request.model = model;
  request.device = parse_device(common.device);
  request.images.path = images;
  request.images.labels = labels;
  request.images.count = count;
  request.images.resize = resize;
  request.images.crop = crop;
  request.images.mean = parse_numbers(mean, "--mean");
  request.images.deviation = parse_numbers(deviation, "--std");
  request.images.channels_last = layout == "nhwc";
  request.calibration_images = calibration;
  request.equalize = equalize;
  request.quantization.weights = parse_range(weight_range);
  request.quantization.activations = parse_range(activation_range);
  request.quantization.percentile = percentile;
  request.quantization.bias_correction = !no_bias_correction;
  request.scoring.evidence = parse_evidence(evidence);
  if (!embedding.empty()) request.scoring.embedding = read_npy(embedding);
  request.scoring.observers = parse_observers(observers);
  request.scoring.inverse_width = !no_inverse_width;
  request.scoring.directions = directions;
  request.scoring.neighbours = neighbours;
  request.scoring.hessian_samples = hessian_samples;
  request.scoring.hessian_images = hessian_images;
  request.scoring.free_ends = free_ends;
  request.scoring.seed = common.seed;
  return request;
}

std::string vision_method_list() {
  std::string list;
  for (const std::string& method : width_methods()) list += (list.empty() ? "" : ", ") + method;
  return list;
}

std::string given(const CLI::App& command, const std::string& option, const std::string& value) {
  return command.count(option) > 0 ? value : "";
}

void require_text(const std::string& text) {
  if (text.empty()) fail_usage("--text is required; see 'strata --help'");
}

}  // namespace strata::cli
