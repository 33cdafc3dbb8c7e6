#include "strata/model/model.h"

#include <algorithm>
#include <unordered_map>

#include "strata/checkpoint/packed_checkpoint.h"
#include "strata/checkpoint/plain_checkpoint.h"
#include "strata/checkpoint/renamed_checkpoint.h"
#include "strata/checkpoint/sliced_checkpoint.h"
#include "strata/checkpoint/stacked_checkpoint.h"
#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"
#include "strata/gguf/file.h"
#include "strata/model/config_gguf.h"
#include "strata/model/config_json.h"
#include "strata/model/gguf_model.h"
#include "strata/model/gguf_names.h"
#include "strata/model/layout.h"
#include "strata/model/sized_directory.h"
#include "strata/tokenizer/gguf_vocabulary.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

std::string describe(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t size : shape) text += fmt::format("{}{}", text.empty() ? "" : ", ", size);
  return "[" + text + "]";
}

void check_tensors(const Model& model) {
  for (const ExpectedTensor& expected : expected_tensors(model.config)) {
    if (!model.checkpoint->contains(expected.name))
      fail("{} has no tensor {}, which its config asks for with shape {}", model.path.string(), expected.name,
           describe(expected.shape));
    const TensorInfo& found = model.checkpoint->info(expected.name);
    if (found.shape != expected.shape)
      fail("{}: the tensor {} has shape {}, but the config asks for {}", model.path.string(), expected.name,
           describe(found.shape), describe(expected.shape));
  }
}

// Leaves out tokens that were added beyond the rows of the embedding; throws where others are there.
void fit_vocabulary(Vocabulary& vocabulary, const ModelConfig& config, const fs::path& path) {
  using TokenType = Vocabulary::TokenType;
  const auto rows = static_cast<size_t>(config.vocab_size);
  if (vocabulary.tokens.size() <= rows) return;
  std::string added;
  for (size_t id = rows; id < vocabulary.tokens.size(); ++id) {
    const TokenType type = vocabulary.types[id];
    if (type != TokenType::Control && type != TokenType::UserDefined && type != TokenType::Unused)
      fail(
          "{}: the tokenizer has {} tokens, but the model's vocabulary only {}; this tokenizer belongs to "
          "another model",
          path.string(), vocabulary.tokens.size(), rows);
    if (type != TokenType::Unused)
      added += fmt::format("{}{} ({})", added.empty() ? "" : ", ", printable(vocabulary.tokens[id]), id);
  }
  show_note(fmt::format("{}: added tokens beyond the {} rows of the embedding are left out: {}",
                        path.string(), rows, added));
  keep_first_tokens(vocabulary, rows);
}

// The checkpoint with what its vectors mean.
std::shared_ptr<const Checkpoint> with_plain_vectors(std::shared_ptr<const Checkpoint> checkpoint,
                                                     const ModelConfig& config) {
  std::unordered_map<std::string, StoredForm> forms;
  for (const ExpectedTensor& expected : expected_tensors(config))
    if (expected.form != StoredForm::Plain) forms[expected.name] = expected.form;
  if (forms.empty()) return checkpoint;
  return std::make_shared<PlainCheckpoint>(std::move(checkpoint), std::move(forms));
}

void check_no_more_experts(const Checkpoint& checkpoint, const MatrixStack& stack) {
  const auto experts = static_cast<int64_t>(stack.parts.size());
  if (const TensorInfo* more = checkpoint.find(expert_name(stack.name, experts)))
    fail("{}: the tensor {} is of one expert more than the {} of its config", checkpoint.path().string(),
         more->name, experts);
}

// The checkpoint with the stacks that it has as slices of other tensors.
std::shared_ptr<const Checkpoint> with_fused_stacks(std::shared_ptr<const Checkpoint> checkpoint,
                                                    const ModelConfig& config) {
  std::vector<SlicedStack> stacks;
  for (SlicedStack& stack : fused_stacks(config)) {
    const TensorInfo* whole = checkpoint->find(stack.slice.name);
    // MLX directories have stacks in as many dimensions, which are read as one below the other.
    const TensorInfo* own = checkpoint->find(stack.name);
    if (own != nullptr && own->shape != stack.shape()) {
      stack.slice = {stack.name, 0, 1, stack.rows, stack.rows};
      stacks.push_back(std::move(stack));
      continue;
    }
    const bool is_apart =
        checkpoint->contains(stack.name) || checkpoint->contains(expert_name(stack.name, 0));
    if (whole == nullptr && (is_apart || !architecture_of(config).fused_experts)) continue;
    // MXFP4 packs what the others have as columns in rows, along their inputs.
    if (whole != nullptr && whole->type == "MXFP4") stack.slice.columns = stack.slice.transposed = false;
    stacks.push_back(std::move(stack));
  }
  if (stacks.empty()) return checkpoint;
  return std::make_shared<SlicedCheckpoint>(std::move(checkpoint), stacks);
}

// The checkpoint with the matrices of a layer's experts as stacks.
std::shared_ptr<const Checkpoint> with_stacks(std::shared_ptr<const Checkpoint> checkpoint,
                                              const ModelConfig& config) {
  std::vector<MatrixStack> stacks;
  for (MatrixStack& stack : expert_stacks(config)) {
    if (checkpoint->contains(stack.name)) continue;  // it is stored as one
    check_no_more_experts(*checkpoint, stack);
    stacks.push_back(std::move(stack));
  }
  if (stacks.empty()) return checkpoint;
  return std::make_shared<StackedCheckpoint>(std::move(checkpoint), std::move(stacks));
}

// How multimodal checkpoints name the tensors of their text model and its head.
void find_names(const Checkpoint& checkpoint, ModelConfig& config) {
  for (const char* prefix : {"model.", "model.language_model.", "language_model.model.", "language_model.",
                             "model.text_model.", ""}) {
    if (!checkpoint.contains(std::string(prefix) + "embed_tokens.weight")) continue;
    config.prefix = prefix;
    break;
  }
  for (const char* head : {"lm_head", "language_model.lm_head", "model.lm_head"}) {
    if (!checkpoint.contains(std::string(head) + ".weight")) continue;
    config.head = head;
    break;
  }
}

// Where embedding and head are one matrix, which is stored under either name.
std::shared_ptr<const Checkpoint> with_embedding(std::shared_ptr<const Checkpoint> checkpoint,
                                                 const ModelConfig& config) {
  const std::string embedding = embedding_names(config).name + ".weight";
  const std::string head = head_names(config).name + ".weight";
  if (!config.tied_embeddings || checkpoint->contains(embedding) || !checkpoint->contains(head))
    return checkpoint;
  show_note(fmt::format("{}: {} serves as the embedding too, which the config ties to it and no tensor holds",
                        checkpoint->path().string(), head));
  return std::make_shared<RenamedCheckpoint>(std::move(checkpoint), head, embedding);
}

std::function<Vocabulary()> vocabulary_of(const fs::path& directory, const ModelConfig& config) {
  return [directory, config] {
    Vocabulary vocabulary = read_vocabulary(directory);
    fit_vocabulary(vocabulary, config, directory);
    return vocabulary;
  };
}

// A directory of which only the tensors' sizes are known.
Model open_sized_directory(const fs::path& path, const fs::path& directory, const std::string& refusal) {
  Model model;
  model.path = path;
  model.runnable = false;
  model.refusal = refusal;
  const fs::path config = directory / "config.json";
  const Json document = read_json(config);
  model.checkpoint = open_packed(open_safetensors(path), document, config.string());
  model.modules = sized_modules(*model.checkpoint);
  describe_sized(model, document);
  model.vocabulary = vocabulary_of(directory, model.config);
  return model;
}

Model open_hugging_face(const fs::path& path) {
  const fs::path directory = fs::is_directory(path) ? path : fs::absolute(path).parent_path();
  const fs::path config = directory / "config.json";
  if (!fs::is_regular_file(config))
    fail(
        "{} has no config.json; a model is a Hugging Face directory, a .safetensors beside its config.json, "
        "or a .gguf",
        directory.string());
  Model model;
  model.path = path;
  try {
    model.config = read_config(config);
  } catch (const NotRunnable& why) {
    return open_sized_directory(path, directory, why.what());
  }
  std::shared_ptr<const Checkpoint> checkpoint =
      open_packed(open_safetensors(path), read_json(config), config.string());
  find_names(*checkpoint, model.config);
  const auto plain = with_plain_vectors(with_embedding(std::move(checkpoint), model.config), model.config);
  const auto fused = with_fused_stacks(plain, model.config);
  const std::vector<SlicedStack> stacks = fused_stacks(model.config);
  model.fused_experts = architecture_of(model.config).fused_experts ||
                        std::any_of(stacks.begin(), stacks.end(), [&](const SlicedStack& stack) {
                          return plain->contains(stack.slice.name);
                        });
  model.checkpoint = with_stacks(fused, model.config);
  model.vocabulary = vocabulary_of(directory, model.config);
  return model;
}

// A file of which only the tensors' sizes are known.
Model open_sized_gguf(const fs::path& path, const std::shared_ptr<const GgufFile>& file,
                      const std::string& refusal) {
  Model model;
  model.path = path;
  model.runnable = false;
  model.config = sized_gguf_config(*file);
  model.refusal = refusal;
  model.checkpoint = open_gguf_checkpoint(file);
  model.modules = sized_modules(*file);
  if (model.modules.empty())
    fail("{} has no matrices in its layers (blk.N.….weight), so there is nothing to quantize", path.string());
  model.embedding = "token_embd.weight";
  model.head = model.config.tied_embeddings ? model.embedding : "output.weight";
  model.vocabulary = [file] { return vocabulary_from_keys(file->keys(), file->path().string()); };
  return model;
}

Model open_gguf(const fs::path& path) {
  const auto file = std::make_shared<const GgufFile>(path);
  if (!is_runnable(*file))
    return open_sized_gguf(path, file,
                           fmt::format("the architecture '{}' is known by its sizes only",
                                       sized_gguf_config(*file).architecture));
  Model model;
  model.path = path;
  try {
    model.config = read_gguf_config(*file);
  } catch (const NotRunnable& why) {
    return open_sized_gguf(path, file, why.what());
  }
  model.checkpoint = open_gguf_checkpoint(file, model.config);
  model.fused_experts = architecture_of(model.config).fused_experts;
  model.vocabulary = [file, config = model.config] {
    Vocabulary vocabulary = vocabulary_from_keys(file->keys(), file->path().string());
    fit_vocabulary(vocabulary, config, file->path());
    return vocabulary;
  };
  return model;
}

}  // namespace

std::string_view name_of(Role role) {
  switch (role) {
    case Role::Q:
      return "q";
    case Role::K:
      return "k";
    case Role::V:
      return "v";
    case Role::O:
      return "o";
    case Role::Gate:
      return "gate";
    case Role::Up:
      return "up";
    case Role::Down:
      return "down";
    case Role::Other:
      return "other";
  }
  return "";
}

void require_runnable(const Model& model, const std::string& what) {
  if (!model.runnable)
    fail(
        "{}: {} cannot be done, since {}; from its weights alone it can be quantized: strata quantize {} "
        "--effort quick --bpw 4 -o OUTPUT",
        model.path.string(), what, model.refusal, model.path.string());
}

std::vector<const Module*> Model::layer_modules(int layer) const {
  std::vector<const Module*> of_layer;
  for (const Module& module : modules)
    if (module.layer == layer) of_layer.push_back(&module);
  return of_layer;
}

const Module& Model::module(int layer, std::string_view name) const {
  for (const Module& module : modules)
    if (module.layer == layer && module.name == name) return module;
  fail("{}: layer {} has no matrix {}", path.string(), layer, name);
}

const Module& Model::module(int layer, Role role) const {
  require_runnable(*this, "looking at matrices by their roles");
  for (const Module& module : modules)
    if (module.layer == layer && module.role == role) return module;
  fail("{}: layer {} has no matrix that is {} alone", path.string(), layer, name_of(role));
}

std::optional<Model::Rows> Model::rows_of(int layer, Role role) const {
  return rows_of(layer, role, {});
}

std::optional<Model::Rows> Model::rows_of(int layer, Role role, const std::vector<std::string>& names) const {
  for (const Module& module : modules) {
    if (module.layer != layer) continue;
    if (!names.empty() && std::find(names.begin(), names.end(), module.name) == names.end()) continue;
    if (module.role == role) return Rows{&module, 0, module.rows};
    int64_t first = 0;
    for (const RowPart& part : module.parts) {
      if (part.role == role) return Rows{&module, first, part.rows};
      first += part.rows;
    }
  }
  return std::nullopt;
}

std::string Model::bias_of(const std::string& weight) {
  return weight.substr(0, weight.rfind('.')) + ".bias";
}

std::string Model::layer_prefix() const {
  if (runnable) return layer_names(config).name;
  const std::string& tensor = modules.front().tensor;
  return tensor.substr(
      0, tensor.size() - fmt::format("{}.{}.weight", modules.front().layer, modules.front().name).size());
}

std::string Model::layer_tensor(int layer, std::string_view name) const {
  return fmt::format("{}{}.{}", layer_prefix(), layer, name);
}

Model open_model(const fs::path& path) {
  if (!fs::exists(path)) fail("there is no model at {}", path.string());
  Model model = is_gguf(path) ? open_gguf(path) : open_hugging_face(path);
  if (!model.runnable) return model;
  model.embedding = embedding_names(model.config).name + ".weight";
  if (model.config.layer_embedding_size > 0)
    model.layer_embedding = layer_embedding_names(model.config).name + ".weight";
  model.final_norm = final_norm_names(model.config).name + ".weight";
  model.head = model.config.tied_embeddings ? model.embedding : head_names(model.config).name + ".weight";
  check_tensors(model);
  model.modules = linear_modules(model.config);
  return model;
}

}  // namespace strata
