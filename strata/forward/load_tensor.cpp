#include "strata/forward/load_tensor.h"

#include <algorithm>

#include "strata/core/threads.h"

namespace strata {

at::Tensor load_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, int64_t first, int64_t count,
                     at::Device device, at::ScalarType dtype) {
  constexpr int64_t kGrain = int64_t{1} << 20;  // elements one thread converts at a time
  constexpr int64_t kPiece = int64_t{1} << 26;  // elements held in float on their way to another type
  const int64_t cols = tensor.cols();
  const auto read = [&](int64_t from, int64_t rows, float* target) {
    parallel_for(rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols)),
                 [&](int64_t begin, int64_t end) {
                   checkpoint.read_rows(tensor, from + begin, end - begin, target + begin * cols);
                 });
  };
  at::Tensor loaded = at::empty({count, cols}, at::TensorOptions().dtype(dtype).device(device));
  if (device.is_cpu() && dtype == at::kFloat) {
    read(first, count, loaded.data_ptr<float>());
    return loaded;
  }
  const int64_t piece = std::max<int64_t>(1, std::min(count, kPiece / std::max<int64_t>(1, cols)));
  at::Tensor staging = at::empty({piece, cols}, at::kFloat);
  for (int64_t done = 0; done < count; done += piece) {
    const int64_t rows = std::min(piece, count - done);
    read(first + done, rows, staging.data_ptr<float>());
    loaded.narrow(0, done, rows).copy_(staging.narrow(0, 0, rows));
  }
  return loaded;
}

at::Tensor gather_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, const at::Tensor& ids,
                       at::Device device, at::ScalarType dtype) {
  const at::Tensor flat = ids.reshape({-1}).to(at::kCPU, at::kLong);
  at::Tensor rows = at::empty({flat.numel(), tensor.cols()}, at::kFloat);
  for (int64_t i = 0; i < flat.numel(); ++i)
    checkpoint.read_rows(tensor, flat.data_ptr<int64_t>()[i], 1, rows.data_ptr<float>() + i * tensor.cols());
  return rows.to(device, dtype).view({ids.size(0), ids.size(1), tensor.cols()});
}

at::Tensor load_tensor(const Checkpoint& checkpoint, const std::string& name, at::Device device,
                       at::ScalarType dtype) {
  const TensorInfo& tensor = checkpoint.info(name);
  return load_rows(checkpoint, tensor, 0, tensor.rows(), device, dtype).view(tensor.shape);
}

}  // namespace strata
