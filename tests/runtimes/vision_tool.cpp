// What the onnxruntime test compares with:
//   vision_tool logits MODEL IMAGES OUT          the model's outputs, as float32 in rows
//   vision_tool quantize MODEL IMAGES FILE OUT   a quantized FILE of mixed widths, and its simulated outputs
//   vision_tool equalize MODEL IMAGES FILE OUT   the same behind cross-layer equalization, all at 8 bits
//   vision_tool operators FOLDER                 a model for every case of every operator and small networks,
//                                                each as it is and quantized, with what goes in and what
//                                                strata makes of it
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/pipeline/vision.h"
#include "strata/vision/network_inputs.h"
#include "tests/runtimes/network_cases.h"
#include "tests/runtimes/operator_cases.h"

namespace strata::vision {
namespace {

void write_floats(const std::string& path, const at::Tensor& values) {
  const at::Tensor rows = values.contiguous();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(rows.data_ptr<float>()),
             rows.numel() * static_cast<int64_t>(sizeof(float)));
}

// A model with what comes out of it: NAME.onnx, NAME.bin and NAME.shape.
void write_case(const std::string& stem, const OnnxModel& model, const at::Tensor& output) {
  write_onnx(stem + ".onnx", model);
  write_floats(stem + ".bin", output.to(at::kFloat));
  std::ofstream(stem + ".shape") << fmt::format("{}", fmt::join(output.sizes().vec(), " "));
}

// The model as it is, and with its weights in 8 bits (operator set 13) and in 4 (21).
void write_cases(const std::string& folder, const std::string& name, const OnnxModel& model,
                 const ImageSet& images) {
  const Graph graph(model, at::kCPU);
  write_case(folder + "/" + name, model, Execution(graph, {images.pixels}).finish()[0]);
  QuantizedLayers layers(graph, images, {});
  for (const int bits : {8, 4}) {
    const std::vector<Widths> plan(graph.layers().size(), Widths{bits, 8});
    const OnnxModel quantized = quantized_model(layers, plan, {});
    check_quantized(quantized, layers, plan, images);
    write_case(fmt::format("{}/{}.bits{}", folder, name, bits), quantized,
               Execution(graph, {images.pixels}).finish(layers.overrides(plan))[0]);
  }
}

void run_operators(const std::string& folder) {
  Random random(3);
  ImageSet images;
  images.source = "noise";
  images.pixels = at::tensor(random_values(3 * 4 * 7 * 6, random), at::kFloat).reshape({3, 4, 7, 6});
  images.pixels = images.pixels.to(at::kHalf).to(at::kFloat);  // for networks that take halves
  write_floats(folder + "/images.bin", images.pixels);
  const OperatorCases operators;
  for (const auto& [name, model] : operators.all()) write_cases(folder, name, model, images);
  const NetworkCases networks;
  for (const auto& [name, model] : networks.all()) write_cases(folder, "network_" + name, model, images);
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() == 2 && arguments[0] == "operators") {
    run_operators(arguments[1]);
    return 0;
  }
  if (arguments.size() < 4) fail_usage("vision_tool COMMAND MODEL IMAGES OUT...");
  Request request;
  request.model = arguments[1];
  request.equalize = arguments[0] == "equalize";
  Graph graph = open_graph(request);
  request.images.path = arguments[2];
  const ImageSet images = load_inputs(request.images, graph);
  if (arguments[0] == "logits") {
    write_floats(arguments[3], compute_logits(graph, images));
    return 0;
  }
  QuantizedLayers layers(graph, images.slice(0, std::min<int64_t>(64, images.size())), request.quantization);
  std::vector<Widths> plan(graph.layers().size());
  for (size_t l = 1; l + 1 < plan.size() && !request.equalize; ++l)
    plan[l] = {4 + static_cast<int>(l % 5), 5 + static_cast<int>(l % 4)};  // every width from 4 on
  write_onnx(arguments[3], quantized_model(layers, plan, {}));
  write_floats(arguments.at(4), compute_logits(graph, images, layers.overrides(plan)));
  return 0;
}

}  // namespace
}  // namespace strata::vision

int main(int argc, char** argv) {
  strata::set_progress_style(strata::ProgressStyle::Quiet);
  try {
    return strata::vision::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
