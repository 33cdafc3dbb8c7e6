#include "strata/quantizers/row_pieces.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "strata/core/ranks.h"

namespace strata {
namespace {

constexpr int64_t kRowsOfPiece = 1024;

template <class Value>
std::string bytes_of(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

template <class Value>
std::vector<Value> values_from(const std::string& bytes) {
  std::vector<Value> values(bytes.size() / sizeof(Value));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(Value));
  return values;
}

template <class Value>
void append(std::vector<Value>& all, const std::vector<Value>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

MatrixView<const float> weights_of_piece(const RowTask& task, const RowPiece& piece) {
  return {task.weights.data + piece.first * task.weights.cols, piece.count, task.weights.cols};
}

}  // namespace

bool has_own_rows(const Scheme& scheme) {
  if (scheme.kind == Scheme::Kind::Gguf) return true;
  return scheme.kind == Scheme::Kind::Affine && scheme.affine.axis == 1 &&
         scheme.affine.scales != ScaleStorage::SecondLevel;
}

std::vector<RowPiece> row_pieces(int64_t rows, const Scheme& scheme) {
  const int64_t most = has_own_rows(scheme) ? kRowsOfPiece : rows;
  std::vector<RowPiece> pieces;
  for (int64_t first = 0; first < rows; first += most)
    pieces.push_back({first, std::min(most, rows - first)});
  return pieces;
}

QuantizedMatrix join_rows(std::vector<QuantizedMatrix> pieces) {
  QuantizedMatrix whole = std::move(pieces.front());
  for (size_t i = 1; i < pieces.size(); ++i) {
    whole.rows += pieces[i].rows;
    append(whole.blocks, pieces[i].blocks);
    append(whole.affine.codes, pieces[i].affine.codes);
    append(whole.affine.scales, pieces[i].affine.scales);
    append(whole.affine.zeros, pieces[i].affine.zeros);
  }
  if (whole.scheme.kind == Scheme::Kind::Affine) whole.affine.rows = whole.rows;
  return whole;
}

std::string bytes_of(const QuantizedMatrix& piece) {
  return pack({bytes_of(piece.blocks), bytes_of(piece.affine.codes), bytes_of(piece.affine.scales),
               bytes_of(piece.affine.zeros), bytes_of(piece.affine.group_of_column)});
}

QuantizedMatrix piece_from(const std::string& bytes, const Scheme& scheme, int64_t rows, int64_t cols) {
  QuantizedMatrix piece;
  piece.scheme = scheme;
  piece.rows = rows;
  piece.cols = cols;
  const std::vector<std::string> fields = unpack(bytes);
  piece.blocks = values_from<std::byte>(fields.at(0));
  piece.affine.codes = values_from<uint8_t>(fields.at(1));
  piece.affine.scales = values_from<float>(fields.at(2));
  piece.affine.zeros = values_from<float>(fields.at(3));
  piece.affine.group_of_column = values_from<int32_t>(fields.at(4));
  if (scheme.kind == Scheme::Kind::Affine) {
    piece.affine.scheme = scheme.affine;
    piece.affine.rows = rows;
    piece.affine.cols = cols;
  }
  return piece;
}

QuantizedMatrix quantize_rows(const RowTask& task) {
  std::vector<QuantizedMatrix> pieces;
  for (const RowPiece& piece : row_pieces(task.weights.rows, task.scheme))
    pieces.push_back(task.quantize(weights_of_piece(task, piece)));
  return join_rows(std::move(pieces));
}

std::vector<QuantizedMatrix> quantize_rows(const std::vector<RowTask>& tasks) {
  std::vector<QuantizedMatrix> matrices(tasks.size());
  std::vector<std::pair<size_t, RowPiece>> dealt;  // of all ranks
  std::vector<double> costs;
  for (size_t t = 0; t < tasks.size(); ++t) {
    if (rank_count() == 1 || !has_own_rows(tasks[t].scheme)) {
      matrices[t] = quantize_rows(tasks[t]);
      continue;
    }
    for (const RowPiece& piece : row_pieces(tasks[t].weights.rows, tasks[t].scheme)) {
      dealt.emplace_back(t, piece);
      costs.push_back(static_cast<double>(piece.count * tasks[t].weights.cols));
    }
  }
  if (dealt.empty()) return matrices;
  const std::vector<int> ranks = deal(costs);
  std::vector<std::string> own;
  for (size_t i = 0; i < dealt.size(); ++i) {
    if (ranks[i] != rank()) continue;
    const RowTask& task = tasks[dealt[i].first];
    own.push_back(bytes_of(task.quantize(weights_of_piece(task, dealt[i].second))));
  }
  std::vector<std::vector<std::string>> made;  // by rank
  for (const std::string& of_rank : gather(pack(own))) made.push_back(unpack(of_rank));
  std::vector<size_t> next(made.size());
  std::map<size_t, std::vector<QuantizedMatrix>> pieces;  // by task
  for (size_t i = 0; i < dealt.size(); ++i) {
    const auto from = static_cast<size_t>(ranks[i]);
    const RowTask& task = tasks[dealt[i].first];
    pieces[dealt[i].first].push_back(
        piece_from(made[from].at(next[from]++), task.scheme, dealt[i].second.count, task.weights.cols));
  }
  for (auto& [task, of_task] : pieces) matrices[task] = join_rows(std::move(of_task));
  return matrices;
}

}  // namespace strata
