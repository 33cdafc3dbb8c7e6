#pragma once

namespace strata::cli {

// Joins the other processes of an MPI job (core/ranks.h) where mpirun, srun or another launcher started this
// one with others, until it is destroyed. Throws where strata was built without MPI and there are others.
class MpiJob {
 public:
  MpiJob();
  ~MpiJob();
  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;

 private:
  bool joined_ = false;
};

}  // namespace strata::cli
