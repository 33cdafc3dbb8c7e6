#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace strata {

// Processes that do one job together, each started with the same command line: rank 0 decides, prints and
// writes; tasks that do not depend on one another are dealt out, and their results go to all. What is called
// here is called by all ranks in the same order. Without other ranks nothing waits and nothing is copied.
//
// Values are handed on as bytes in strings.

// How ranks reach one another. Whatever waits throws Interrupted once a signal has arrived.
class RankLink {
 public:
  virtual ~RankLink() = default;
  virtual int rank() const = 0;   // of this process, from 0
  virtual int count() const = 0;  // of the job
  virtual void send(int to, const std::string& bytes) = 0;
  virtual std::string receive(int from) = 0;
  [[noreturn]] virtual void stop_all(int exit_code) = 0;  // ends the processes of all ranks
};

// From here on the process is one of several; null: it is alone again.
void set_rank_link(std::unique_ptr<RankLink> link);

int rank();
int rank_count();  // 1 within from_first_rank()
inline bool is_first_rank() {
  return rank() == 0;
}

// Ends all ranks where there are others.
void stop_other_ranks(int exit_code);

// The bytes of rank 0, in all.
std::string broadcast(std::string bytes);

// The bytes of all ranks by rank, in all.
std::vector<std::string> gather(std::string bytes);

// What rank 0 makes, in all; the others wait. Within `make` rank 0 is alone.
std::string from_first_rank(const std::function<std::string()>& make);

// Several pieces of bytes as one, and back.
std::string pack(const std::vector<std::string>& pieces);
std::vector<std::string> unpack(const std::string& bytes);

// The rank of every task: longest first, each to the rank with the least to do; the same in all ranks.
std::vector<int> deal(const std::vector<double>& costs);

// Throws where a fact that all ranks must agree on, such as a hash, differs from rank 0's: `what` is named.
void require_same(const std::string& what, const std::string& fact);

// What the program that started this process says of it, in its environment, before any link: 0 and 1 where
// it was started alone.
int launched_rank();
int launched_ranks();
int launched_ranks_of_host();  // how many of them share this machine
int launched_rank_of_host();

}  // namespace strata
