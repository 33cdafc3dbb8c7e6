// The native half of strata_quant: commands, as the program has them, and models opened for reading.
// Everything else is in strata_quant/*.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <vector>

#include "strata/checkpoint/stored_values.h"
#include "strata/cli/embedded.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/interrupt.h"
#include "strata/core/interrupt_scope.h"
#include "strata/core/progress.h"
#include "strata/core/progress_listener.h"
#include "strata/model/model.h"

namespace nb = nanobind;

namespace strata {
namespace {

// Python's handler of Ctrl-C belongs to its main thread.
bool in_main_thread() {
  const nb::module_ threading = nb::module_::import_("threading");
  return threading.attr("current_thread")().is(threading.attr("main_thread")());
}

// progress(step, what, unit, done, total, finished) and note(text) are called with the GIL held; None of
// them: nothing is shown.
void listen(const nb::object& progress, const nb::object& note) {
  if (progress.is_none()) {
    set_progress_listener({});
    set_progress_style(ProgressStyle::Quiet);
    return;
  }
  set_progress_style(ProgressStyle::Automatic);
  const auto safely = [](const auto& call) {
    const nb::gil_scoped_acquire held;
    try {
      call();
    } catch (nb::python_error& error) {
      error.discard_as_unraisable("strata_quant's progress");
    }
  };
  set_progress_listener({[progress, safely](const ProgressState& state) {
                           safely([&] {
                             progress(reinterpret_cast<uintptr_t>(state.step), state.what, state.unit,
                                      state.done, state.total, state.finished);
                           });
                         },
                         [note, safely](const std::string& text) { safely([&] { note(text); }); }});
}

// A command's JSON document.
std::string run(const std::vector<std::string>& arguments) {
  std::unique_ptr<InterruptScope> scope;
  if (in_main_thread()) scope = std::make_unique<InterruptScope>();
  try {
    const nb::gil_scoped_release released;
    std::string text = cli::run_command(arguments).dump(-1, ' ', false, Json::error_handler_t::replace);
    check_interrupted();  // after the last loop that would have noticed
    return text;
  } catch (const Interrupted& error) {
    PyErr_SetString(PyExc_KeyboardInterrupt, error.what());
    throw nb::python_error();
  }
}

nb::list options(const std::string& command) {
  nb::list list;
  for (const cli::CommandOption& option : cli::options_of_command(command)) {
    nb::dict one;
    one["name"] = option.name;
    one["type"] = option.type;
    one["help"] = option.help;
    one["default"] = option.default_value;
    one["heading"] = option.heading;
    one["is_argument"] = option.is_argument;
    one["is_flag"] = option.is_flag;
    one["several"] = option.several;
    one["required"] = option.required;
    list.append(one);
  }
  return list;
}

// A model's tensors; arrays that look at the file keep this alive.
class OpenedModel {
 public:
  explicit OpenedModel(const std::string& path) : model_(open_model(path)) {
    const std::filesystem::path file = path;
    if (std::filesystem::is_directory(file) || file.extension() == ".safetensors")
      stored_ = open_safetensors(file);
  }

  nb::list tensors() const {
    nb::list list;
    for (const TensorInfo& info : model_.checkpoint->tensors())
      list.append(nb::make_tuple(info.name, info.type, info.shape, info.bytes));
    return list;
  }

  nb::list modules() const {
    nb::list list;
    for (const Module& module : model_.modules)
      list.append(nb::make_tuple(module.layer, module.name, module.tensor, module.rows, module.cols));
    return list;
  }

  // Where a tensor's numbers lie in the file, in a type that numpy has: (address, type); None otherwise.
  nb::object mapped(const std::string& name) const {
    const TensorInfo* info = stored_ ? stored_->find(name) : nullptr;
    if (info == nullptr) return nb::none();
    const auto address = reinterpret_cast<uintptr_t>(mapped_bytes(*stored_, name));
    return nb::make_tuple(address, info->type);
  }

  // As float32, whatever it is stored in.
  nb::ndarray<nb::numpy, float> read(const std::string& name) const {
    const TensorInfo& info = model_.checkpoint->info(name);
    auto* values = new std::vector<float>;
    const nb::capsule owner(values,
                            [](void* held) noexcept { delete static_cast<std::vector<float>*>(held); });
    {
      const nb::gil_scoped_release released;
      *values = model_.checkpoint->read(name);
    }
    const std::vector<size_t> shape(info.shape.begin(), info.shape.end());
    return nb::ndarray<nb::numpy, float>(values->data(), shape.size(), shape.data(), owner);
  }

 private:
  Model model_;
  std::unique_ptr<Checkpoint> stored_;  // of a directory of safetensors
};

}  // namespace
}  // namespace strata

NB_MODULE(_native, module) {
  using namespace strata;
  nb::set_leak_warnings(false);  // the listener is global, and so are the functions that it holds
  auto error = nb::exception<Error>(module, "Error", PyExc_RuntimeError);
  nb::exception<UsageError>(module, "UsageError", error);
  module.def("listen", listen, nb::arg("progress").none(), nb::arg("note").none());
  module.def("run", run);
  module.def("options", options);
  nb::class_<OpenedModel>(module, "OpenedModel")
      .def(nb::init<const std::string&>())
      .def("tensors", &OpenedModel::tensors)
      .def("modules", &OpenedModel::modules)
      .def("mapped", &OpenedModel::mapped)
      .def("read", &OpenedModel::read);
}
