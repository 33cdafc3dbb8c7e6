#include "strata/core/ranks.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <numeric>
#include <utility>

#include "strata/core/error.h"

namespace strata {
namespace {

std::unique_ptr<RankLink>& the_link() {
  static std::unique_ptr<RankLink> link;
  return link;
}

bool is_alone = false;  // within from_first_rank()

// The first of these variables that is a number.
int variable(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names)
    if (const char* value = std::getenv(name); value != nullptr && *value >= '0' && *value <= '9')
      return std::atoi(value);
  return otherwise;
}

}  // namespace

void set_rank_link(std::unique_ptr<RankLink> link) {
  the_link() = std::move(link);
}

int rank() {
  return the_link() ? the_link()->rank() : 0;
}

int rank_count() {
  return the_link() && !is_alone ? the_link()->count() : 1;
}

void stop_other_ranks(int exit_code) {
  if (the_link() && the_link()->count() > 1) the_link()->stop_all(exit_code);
}

std::string broadcast(std::string bytes) {
  if (rank_count() == 1) return bytes;
  if (rank() > 0) return the_link()->receive(0);
  for (int to = 1; to < rank_count(); ++to) the_link()->send(to, bytes);
  return bytes;
}

std::vector<std::string> gather(std::string bytes) {
  if (rank_count() == 1) return {std::move(bytes)};
  std::vector<std::string> all(static_cast<size_t>(rank_count()));
  if (rank() > 0)
    the_link()->send(0, bytes);
  else
    for (int from = 1; from < rank_count(); ++from)
      all[static_cast<size_t>(from)] = the_link()->receive(from);
  all.front() = std::move(bytes);  // of rank 0, which hands them to all
  return unpack(broadcast(pack(all)));
}

std::string from_first_rank(const std::function<std::string()>& make) {
  if (rank_count() == 1) return make();
  if (rank() > 0) return broadcast("");
  struct Alone {
    Alone() { is_alone = true; }
    ~Alone() { is_alone = false; }
  };
  std::string made;
  {
    const Alone alone;
    made = make();
  }
  return broadcast(std::move(made));
}

std::string pack(const std::vector<std::string>& pieces) {
  std::string bytes;
  for (const std::string& piece : pieces) {
    const uint64_t size = piece.size();
    bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
    bytes.append(piece);
  }
  return bytes;
}

std::vector<std::string> unpack(const std::string& bytes) {
  std::vector<std::string> pieces;
  for (size_t at = 0; at < bytes.size();) {
    uint64_t size = 0;
    if (bytes.size() - at >= sizeof size) std::memcpy(&size, bytes.data() + at, sizeof size);
    at += sizeof size;
    if (at > bytes.size() || size > bytes.size() - at)
      fail("another rank handed over {} bytes, which is not all of what it meant to", bytes.size());
    pieces.push_back(bytes.substr(at, size));
    at += size;
  }
  return pieces;
}

std::vector<int> deal(const std::vector<double>& costs) {
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  std::vector<double> load(static_cast<size_t>(rank_count()));
  std::vector<int> ranks(costs.size());
  for (const size_t task : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += costs[task];
    ranks[task] = static_cast<int>(least - load.begin());
  }
  return ranks;
}

void require_same(const std::string& what, const std::string& fact) {
  const std::vector<std::string> facts = gather(fact);
  for (size_t other = 1; other < facts.size(); ++other)
    if (facts[other] != facts.front())
      fail("{} of rank {} is another than that of rank 0 ({} and {}); give all ranks the same files", what,
           other, facts[other], facts.front());
}

int launched_rank() {
  return variable({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}, 0);
}

int launched_ranks() {
  const bool by_slurm = std::getenv("PMIX_RANK") != nullptr || std::getenv("PMI_RANK") != nullptr;
  const int ranks = variable({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}, 1);
  return ranks == 1 && by_slurm ? variable({"SLURM_NTASKS"}, 1) : ranks;
}

int launched_ranks_of_host() {
  return std::max(1, variable({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"}, 1));
}

int launched_rank_of_host() {
  return variable({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}, 0);
}

}  // namespace strata
