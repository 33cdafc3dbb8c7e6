#include "strata/model/value_heads.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "strata/checkpoint/checkpoint_view.h"
#include "strata/core/error.h"
#include "strata/core/text.h"

namespace strata {
namespace {

// The source of every row and of every column; empty: they stay.
struct Order {
  std::vector<int64_t> rows, cols;
};

class ReorderedCheckpoint : public CheckpointView {
 public:
  ReorderedCheckpoint(std::shared_ptr<const Checkpoint> base, std::map<std::string, Order> orders)
      : CheckpointView(std::move(base)), orders_(std::move(orders)) {}

  // GGUF files hold blocks of other columns than these.
  bool altered(const std::string& name) const override {
    return orders_.count(name) > 0 || base_->altered(name);
  }

  void read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count,
                  std::byte* target) const override {
    if (orders_.count(tensor.name) > 0)
      fail("{}: the bytes of {} stand in another order", path().string(), printable(tensor.name));
    base_->read_bytes(tensor, first, count, target);
  }

  void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override {
    const auto found = orders_.find(tensor.name);
    if (found == orders_.end()) return base_->read_rows(tensor, first, count, target);
    const auto& [rows, cols] = found->second;
    const int64_t width = tensor.cols();
    std::vector<float> values(static_cast<size_t>(width));
    for (int64_t row = 0; row < count; ++row) {
      const int64_t source = rows.empty() ? first + row : rows.at(static_cast<size_t>(first + row));
      base_->read_rows(tensor, source, 1, values.data());
      for (int64_t col = 0; col < width; ++col)
        target[row * width + col] =
            values[static_cast<size_t>(cols.empty() ? col : cols[static_cast<size_t>(col)])];
    }
  }

 private:
  std::map<std::string, Order> orders_;
};

// Of `count` rows or columns, the last `of_values` of which are of value heads: side by side those that share
// a key head become tiled, or the other way round.
std::vector<int64_t> order_of(int64_t count, int64_t of_values, const RecurrenceSizes& sizes, bool tiled) {
  if (of_values == 0) return {};
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  const int64_t size = of_values / sizes.value_heads, shared = sizes.value_heads / sizes.key_heads;
  for (int64_t key = 0; key < sizes.key_heads; ++key)
    for (int64_t member = 0; member < shared; ++member) {
      const int64_t side_by_side = key * shared + member, in_tiles = member * sizes.key_heads + key;
      const int64_t to = tiled ? in_tiles : side_by_side, from = tiled ? side_by_side : in_tiles;
      for (int64_t i = 0; i < size; ++i)
        order[static_cast<size_t>(count - of_values + to * size + i)] = count - of_values + from * size + i;
    }
  return order;
}

// Of all tensors whose rows or columns stand elsewhere in this order.
std::map<std::string, Order> orders_of(const Model& model, bool tiled) {
  const RecurrenceSizes& sizes = model.config.recurrence;
  std::map<std::string, Order> orders;
  if (!model.runnable || sizes.value_heads == sizes.key_heads || sizes.tiled == tiled) return orders;
  for (int layer = 0; layer < model.config.num_layers; ++layer)
    for (const LayerTensor& tensor : architecture_of(model.config).tensors(model.config, layer)) {
      Order order{order_of(tensor.is_matrix() ? tensor.rows() : 1, tensor.value_rows, sizes, tiled),
                  order_of(tensor.cols, tensor.value_cols, sizes, tiled)};
      if (!order.rows.empty() || !order.cols.empty())
        orders[model.layer_tensor(layer, tensor.weight())] = std::move(order);
    }
  return orders;
}

}  // namespace

std::map<std::string, std::vector<int64_t>> tiled_columns(const Model& model) {
  std::map<std::string, std::vector<int64_t>> columns;
  for (auto& [tensor, order] : orders_of(model, true))
    if (!order.cols.empty()) columns[tensor] = std::move(order.cols);
  return columns;
}

bool stands_in_order(const Model& model, bool tiled) {
  return orders_of(model, tiled).empty();
}

Model with_value_heads(const Model& model, bool tiled) {
  std::map<std::string, Order> orders = orders_of(model, tiled);
  if (orders.empty()) return model;
  Model reordered = model;
  reordered.config.recurrence.tiled = tiled;
  reordered.checkpoint = std::make_shared<ReorderedCheckpoint>(model.checkpoint, std::move(orders));
  return reordered;
}

}  // namespace strata
