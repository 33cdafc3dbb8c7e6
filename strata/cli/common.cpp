#include "strata/cli/common.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "strata/cli/embedded.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"

namespace strata::cli {
namespace {

const Notes notes_of_process;  // which runs one command, unless a receiver says otherwise
thread_local JsonReceiver* receiver = nullptr;

}  // namespace

JsonReceiver::JsonReceiver(Json& document) : document_(document) {
  receiver = this;
}

JsonReceiver::~JsonReceiver() {
  receiver = nullptr;
}

void JsonReceiver::take(Json document) {
  document_ = std::move(document);
}

ModelKind kind_of_model(const Command& command, const std::string& model) {
  const bool onnx = std::filesystem::path(model).extension() == ".onnx";
  const ModelKind kind = onnx ? ModelKind::Onnx : ModelKind::Language;
  command.refuse_foreign_options(kind, model);
  return kind;
}

void add_common_options(Command& command, CommonOptions& options) {
  command.add("Common options",
              {text("device", options.device, "TEXT", "where tensors are computed: cpu, cuda or cuda:N"),
               everyday(number("threads", options.threads, 0, 4096, "number of threads; 0 = one a core")),
               number("seed", options.seed, "seed of everything random"),
               everyday(flag("json", options.json, "print one JSON document on stdout and nothing else")),
               flag("quiet", options.quiet, "show neither progress nor notes")});
}

void print_json(Json document) {
  Json& notes = document.emplace("notes", Json::array()).first.value();
  for (const std::string& note : (receiver != nullptr ? receiver->notes() : notes_of_process).list())
    if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
  if (receiver != nullptr) return receiver->take(std::move(document));
  fmt::print("{}\n", document.dump(1, ' ', false, Json::error_handler_t::replace));
}

void require_apart(const std::vector<std::string>& written, const std::string& output,
                   const std::vector<std::string>& read) {
  std::set<std::filesystem::path> taken;
  const auto take = [&](const std::string& name) {
    if (!name.empty() && !taken.insert(std::filesystem::absolute(name).lexically_normal()).second)
      fail_usage("{} was given as the name of two outputs; choose another for one of them", name);
  };
  take(output);
  for (const std::string& name : written) {
    if (name.empty()) continue;
    take(name);
    require_output_file(name);
    for (const std::string& input : read) require_other_file(name, input);
  }
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    const size_t comma = list.find(',', begin);
    const std::string part = list.substr(begin, comma == std::string::npos ? comma : comma - begin);
    if (part.empty()) fail_usage("'{}' is not a list: names are separated by single commas", list);
    parts.push_back(part);
    if (comma == std::string::npos) return parts;
    begin = comma + 1;
  }
}

}  // namespace strata::cli
