#include "strata/cli/mpi_link.h"

#include "strata/core/ranks.h"

#ifdef STRATA_WITH_MPI
#define OMPI_SKIP_MPICXX
#define MPICH_SKIP_MPICXX
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "strata/core/interrupt.h"
#else
#include "strata/core/error.h"
#endif

namespace strata::cli {

#ifdef STRATA_WITH_MPI

namespace {

// MPI counts in int.
constexpr uint64_t kMostBytes = uint64_t{1} << 30;

using std::chrono::microseconds;

// Longest pauses between two looks: while another rank may take minutes, and while bytes come, which move
// with every look.
constexpr microseconds kIdle(2000), kMoving(50);

// Sleeps while it waits, so that the core is free for others, and sees signals.
void wait_for(MPI_Request request, microseconds longest) {
  microseconds pause(10);
  for (int done = 0; MPI_Test(&request, &done, MPI_STATUS_IGNORE), done == 0;) {
    check_interrupted();
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, longest);
  }
}

class MpiLink : public RankLink {
 public:
  MpiLink() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &count_);
  }

  int rank() const override { return rank_; }
  int count() const override { return count_; }

  void send(int to, const std::string& bytes) override {
    uint64_t size = bytes.size();
    send_bytes(to, &size, sizeof size, kIdle);
    for (uint64_t done = 0; done < size; done += kMostBytes)
      send_bytes(to, bytes.data() + done, std::min(kMostBytes, size - done), kMoving);
  }

  std::string receive(int from) override {
    uint64_t size = 0;
    receive_bytes(from, &size, sizeof size, kIdle);
    std::string bytes(size, '\0');
    for (uint64_t done = 0; done < size; done += kMostBytes)
      receive_bytes(from, bytes.data() + done, std::min(kMostBytes, size - done), kMoving);
    return bytes;
  }

  [[noreturn]] void stop_all(int exit_code) override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  static void send_bytes(int to, const void* data, uint64_t size, microseconds longest) {
    MPI_Request request;
    MPI_Isend(data, static_cast<int>(size), MPI_BYTE, to, 0, MPI_COMM_WORLD, &request);
    wait_for(request, longest);
  }

  static void receive_bytes(int from, void* data, uint64_t size, microseconds longest) {
    MPI_Request request;
    MPI_Irecv(data, static_cast<int>(size), MPI_BYTE, from, 0, MPI_COMM_WORLD, &request);
    wait_for(request, longest);
  }

  int rank_ = 0, count_ = 1;
};

}  // namespace

MpiJob::MpiJob() {
  if (launched_ranks() <= 1) return;
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  joined_ = true;
  set_rank_link(std::make_unique<MpiLink>());
}

MpiJob::~MpiJob() {
  if (!joined_) return;
  try {
    gather("");  // asleep, which MPI_Finalize is not
  } catch (...) {
  }
  set_rank_link(nullptr);
  MPI_Finalize();
}

#else

MpiJob::MpiJob() {
  if (launched_ranks() > 1)
    fail(
        "this strata was built without MPI and cannot share its work between {} processes; build it where "
        "CMake finds MPI, or start it alone",
        launched_ranks());
}

MpiJob::~MpiJob() = default;

#endif

}  // namespace strata::cli
