#pragma once

// strata's public header, for programs that find it with find_package(strata) and link strata::strata:
//
//   strata::QuantizeRequest request;
//   request.model = "models/tiny-llama";
//   request.output = "model.gguf";
//   request.allocator.budget.bits_per_weight = 3.0;
//   const strata::QuantizeResult result = strata::quantize(request);  // plan, scores, file, what was lost
//
// The stages by themselves, each over plain data:
//
//   const strata::Model model = strata::open_model("models/tiny-llama");
//   const strata::Scores scores = strata::score(model, "nsds", options);       // SensitivityOptions
//   const strata::Plan plan = strata::make_plan(model, scores, allocator);     // AllocatorOptions
//   strata::Decoder decoder(model, {});
//   strata::evaluate(decoder, strata::tokenize_file(model, "sample.txt"), {});  // perplexity
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
#include "strata/sensitivity/method.h"
