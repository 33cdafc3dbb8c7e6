#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "strata/core/dtype.h"
#include "strata/forward/ends.h"
#include "strata/forward/layer.h"
#include "strata/model/model.h"
#include "strata/quantizers/stored_floats.h"

namespace strata {

// How a file stores what is learned.
struct WrittenForm {
  // Replaces what a matrix holds by what the file will hold; null: that is the same.
  std::function<void(QuantizedMatrix& matrix)> matrix;
  // The type of a norm or bias of the checkpoint; null: F32.
  std::function<DType(const TensorInfo& tensor)> vector;
  // The scheme of the embeddings for every layer, whose rows are quantized as they are read; none: they stay.
  std::optional<Scheme> layer_embedding = std::nullopt;
  QuantizerOptions quantizer = {};  // of those rows
};

struct StudentOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // of products while learning; or at::kBFloat16
  WrittenForm form;
};

// A model of quantized matrices that learns to predict what the unquantized one does, its teacher. Codes
// stay; learned are the floats that are stored beside them (StoredFloats), and factors of the gains of norms
// and of biases, which start at 1. Embedding and head take part where they have codes. On the device are
// codes, one byte each, and what else is stored; the weights of a layer are made when it runs.
class Student {
 public:
  // `matrices` of the model's layers, its embedding or its head, by tensor; all else has the checkpoint's
  // values. The model must outlive the student. Throws where nothing can be learned.
  Student(const Model& model, std::map<std::string, QuantizedMatrix> matrices, const StudentOptions& options);

  // All parameters one after the other, [n] float32 on the device, to be moved in place; and the gradients by
  // them that learn() adds to.
  const at::Tensor& parameters() const { return parameters_; }
  const at::Tensor& gradients() const { return gradients_; }

  // Those of one tensor, views of the above that know their gradients; none of what does not learn.
  std::vector<at::Tensor> parameters_of(const std::string& tensor) const;

  // The loss on some windows and its gradients: the mean over positions of KL(teacher || student) in nats, a
  // scalar in double on the device. ids: [windows, length]; teacher: the normed hidden states behind its last
  // layer [windows, length, d], and its head [V, d], in the options' dtype. In memory are the hidden states
  // between the layers and the activations of one layer, which runs again for its backward pass.
  at::Tensor learn(const at::Tensor& ids, const at::Tensor& teacher, const at::Tensor& teacher_head);

  // The same mean in float32, with everything rounded as its scheme stores it, or, `written`, as the file
  // does (which takes longer on a GPU). `teacher` gives the normed hidden states of windows [first, first +
  // count).
  using ReadTeacher = std::function<at::Tensor(int64_t first, int64_t count)>;
  double stored_divergence(const at::Tensor& ids, const ReadTeacher& teacher, const at::Tensor& teacher_head,
                           bool written = true) const;

  // Everything as the file stores it: norms and biases by tensor, and the matrices, without which the student
  // is of no more use.
  std::map<std::string, std::vector<float>> vectors() const;
  std::map<std::string, QuantizedMatrix> take_matrices();

 private:
  // A norm or bias: start times factor.
  struct Vector {
    at::Tensor start, factor;  // [size] float32
    DType type;                // as stored
    bool is_norm;
    StoredForm form;  // in a directory
  };
  // Parts of a batch that run for themselves: a window on a CPU, many on a GPU.
  struct Pieces {
    int64_t windows, size;  // of the batch, and of a piece
    int64_t together;       // pieces that run at once, in threads
    int64_t count() const { return (windows + size - 1) / size; }
    at::Tensor of(const at::Tensor& batch, int64_t piece) const;
  };
  enum class Form { Learned, Stored, Written };
  using GradientSums = std::map<std::string, at::Tensor>;  // by tensor

  std::vector<std::string> tensors_of_layer(int layer) const;
  void open_vector(const std::string& tensor, bool is_norm, StoredForm form = StoredForm::Plain);
  void gather_parameters(const std::vector<std::string>& order);
  bool is_learned(const std::string& tensor) const { return !parameters_of(tensor).empty(); }
  at::Tensor value(const std::string& tensor, Form form) const;
  at::Tensor learned_value(const std::string& tensor) const;
  at::Tensor stored_value(const std::string& tensor, Form form) const;
  at::Tensor constant(const std::string& tensor) const;
  at::Tensor final_bias() const;
  LayerEmbedding layer_embedding(const at::Tensor& ids, at::ScalarType dtype) const;
  QuantizedMatrix written(const StoredFloats& matrix) const;
  LayerRun run_of(int layer, int64_t length, Form form) const;
  at::Tensor run_pieces(const LayerRun& run, const Pieces& pieces, const at::Tensor& hidden) const;
  int64_t most_gradients() const;
  Pieces pieces_of(const at::Tensor& ids) const;
  at::Tensor learn_head(const Pieces& pieces, const at::Tensor& hidden, const at::Tensor& teacher,
                        const at::Tensor& teacher_head, at::Tensor& gradient, GradientSums& sums) const;
  void learn_layer(int layer, const Pieces& pieces, const at::Tensor& hidden, at::Tensor& gradient) const;

  const Model& model_;
  StudentOptions options_;
  std::map<std::string, std::unique_ptr<StoredFloats>> matrices_;
  std::map<std::string, QuantizedMatrix> fixed_;  // matrices without codes of their own
  std::map<std::string, Vector> vectors_;
  mutable std::map<std::string, at::Tensor> constants_;  // what stays, on the device
  mutable RopeTables rope_tables_;
  at::Tensor parameters_, gradients_;
  int64_t most_gradients_ = 1;
};

}  // namespace strata
