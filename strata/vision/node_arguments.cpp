#include "strata/vision/node_arguments.h"

#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata::vision {

int64_t NodeArguments::integer(const char* name, int64_t missing) const {
  const OnnxAttribute* attribute = node_.find(name);
  return attribute == nullptr ? missing : attribute->integer;
}

float NodeArguments::real(const char* name, float missing) const {
  const OnnxAttribute* attribute = node_.find(name);
  return attribute == nullptr ? missing : attribute->real;
}

std::string NodeArguments::text(const char* name, const std::string& missing) const {
  const OnnxAttribute* attribute = node_.find(name);
  return attribute == nullptr ? missing : attribute->text;
}

std::vector<int64_t> NodeArguments::integers(const char* name, std::vector<int64_t> missing) const {
  const OnnxAttribute* attribute = node_.find(name);
  return attribute == nullptr ? missing : attribute->integers;
}

bool NodeArguments::has_input(size_t index) const {
  return index < node_.inputs.size() && !node_.inputs[index].empty();
}

const OnnxTensor& NodeArguments::constant(size_t index, const char* what) const {
  if (!has_input(index)) refuse(fmt::format("lacks its {}", what));
  const OnnxTensor* tensor = model_.constant(node_.inputs[index]);
  if (tensor != nullptr) return *tensor;
  for (const OnnxValueInfo& input : model_.inputs)
    if (input.name == node_.inputs[index])
      refuse(fmt::format("takes its {} from the model's input '{}'; export the model with its weights inside",
                         what, printable(input.name)));
  refuse(fmt::format("has a {} that is computed while the model runs; export the model with fixed shapes",
                     what));
}

float NodeArguments::scalar(size_t index, const char* what) const {
  const OnnxTensor& tensor = constant(index, what);
  if (tensor.elements() != 1)
    refuse(fmt::format("has a {} of {} values where one is expected", what, tensor.elements()));
  return tensor.floats().front();
}

bool NodeArguments::is_constant(size_t index) const {
  return has_input(index) && model_.constant(node_.inputs[index]) != nullptr;
}

void NodeArguments::expect_whole_numbers(size_t index, const char* what) const {
  if (is_constant(index) && constant(index, what).is_real())
    refuse(fmt::format("has a {} of real numbers", what));
}

int64_t NodeArguments::fixed_batch_of_input(size_t index) const {
  if (is_constant(index) || model_.inputs.empty() || model_.inputs[0].shape.empty()) return -1;
  return model_.inputs[0].shape[0];
}

void NodeArguments::expect_inputs(size_t least, size_t most) const {
  const size_t count = node_.inputs.size();
  if (count < least || count > most)
    refuse(fmt::format("has {} inputs where {} to {} are expected", count, least, most));
  for (size_t i = 0; i < least; ++i)
    if (node_.inputs[i].empty()) refuse(fmt::format("lacks its input {}", i));
}

void NodeArguments::refuse(const std::string& reason) const {
  fail("{}: {} {}", model_.path.string(), node_.label(), reason);
}

}  // namespace strata::vision
