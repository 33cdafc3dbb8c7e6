#pragma once

// strata's public header, for programs that find it with find_package(strata) and link strata::strata:
//
//   strata::QuantizeRequest request;
//   request.model = "models/tiny-llama";
//   request.output = "model.gguf";
//   request.allocator.budget.bits_per_weight = 3.0;
//   const strata::QuantizeResult result = strata::quantize(request);  // plan, scores, file, what was lost
//
// The stages by themselves, over one model and the evidence about it, which is measured when it is first
// asked for:
//
//   strata::Workbench workbench(strata::open_model("models/tiny-llama"), {});
//   const strata::Scores& scores =
//       workbench.scores(strata::parse_method("nsds"), strata::parse_schemes("gguf"), 0);
//   const strata::Plan plan = strata::make_plan(workbench.model(), scores, allocator);  // AllocatorOptions
//   strata::evaluate(workbench.reference(), strata::tokenize_file(workbench.model(), "sample.txt"), {});
//
// Every failure is a strata::Error of one sentence. Progress goes to stderr unless
// set_progress_style(ProgressStyle::Quiet) is called; set_thread_count() says how many threads work.

#include "strata/allocation/allocator.h"
#include "strata/allocation/plan.h"
#include "strata/allocation/scores.h"
#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/core/units.h"
#include "strata/evaluation/evaluate.h"
#include "strata/export/formats.h"
#include "strata/model/model.h"
#include "strata/pipeline/compare.h"
#include "strata/pipeline/quantize.h"
#include "strata/pipeline/workbench.h"
#include "strata/sensitivity/method.h"
