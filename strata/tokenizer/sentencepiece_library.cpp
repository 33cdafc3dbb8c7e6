#include "strata/tokenizer/sentencepiece_library.h"

#include <dlfcn.h>

#include <filesystem>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/tokenizer/sentencepiece_module/module.h"

namespace strata {
namespace {

// The module stands beside the program, as in a build tree, or on the program's path of libraries, which
// leads to where it was installed.
void* load_module() {
  const std::string name = "libstrata-sentencepiece.so";
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
#ifdef STRATA_SANITIZED
  const int flags = RTLD_NOW | RTLD_LOCAL;  // AddressSanitizer refuses RTLD_DEEPBIND
#else
  const int flags = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif
  for (const std::string& path : {(program / name).string(), name})
    if (void* module = dlopen(path.c_str(), flags)) return module;
  fail(
      "the module {} that reads tokenizer.model files could be loaded neither from {} nor from the program's "
      "path of libraries: {}; install strata again, or name the module's folder in LD_LIBRARY_PATH",
      name, program.string(), dlerror());
}

// The module's functions, found once.
struct Module {
  decltype(&strata_sentencepiece_open) open;
  decltype(&strata_sentencepiece_close) close;
  decltype(&strata_sentencepiece_size) size;
  decltype(&strata_sentencepiece_encode) encode;
  decltype(&strata_sentencepiece_decode) decode;

  Module() {
    void* const library = load_module();
    find(library, "strata_sentencepiece_open", open);
    find(library, "strata_sentencepiece_close", close);
    find(library, "strata_sentencepiece_size", size);
    find(library, "strata_sentencepiece_encode", encode);
    find(library, "strata_sentencepiece_decode", decode);
  }

  template <class Function>
  static void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) fail("the SentencePiece module lacks {}; build strata again", name);
  }
};

const Module& module() {
  static const Module loaded;
  return loaded;
}

// What the module hands back.
struct Results {
  std::vector<int32_t> ids;
  std::string text, error;
};

void take_ids(void* context, const int32_t* ids, size_t count) {
  static_cast<Results*>(context)->ids.assign(ids, ids + count);
}
void take_text(void* context, const char* text, size_t size) {
  static_cast<Results*>(context)->text.assign(text, size);
}
void take_error(void* context, const char* text, size_t size) {
  static_cast<Results*>(context)->error.assign(text, size);
}

}  // namespace

SentencePieceModel::SentencePieceModel(const std::string& serialized_model) {
  Results results;
  model_ = module().open(serialized_model.data(), serialized_model.size(), &results, take_error);
  if (model_ == nullptr) fail("SentencePiece refuses the model: {}", printable(results.error, 300));
}

SentencePieceModel::~SentencePieceModel() {
  module().close(model_);
}

int32_t SentencePieceModel::size() const {
  return module().size(model_);
}

std::vector<int32_t> SentencePieceModel::encode(std::string_view text) const {
  Results results;
  if (!module().encode(model_, text.data(), text.size(), &results, take_ids, take_error))
    fail("SentencePiece cannot encode the text: {}", printable(results.error, 300));
  return std::move(results.ids);
}

std::string SentencePieceModel::decode(const std::vector<int32_t>& ids) const {
  Results results;
  if (!module().decode(model_, ids.data(), ids.size(), &results, take_text, take_error))
    fail("SentencePiece cannot decode the tokens: {}", printable(results.error, 300));
  return std::move(results.text);
}

}  // namespace strata
