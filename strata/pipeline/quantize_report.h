#pragma once

#include <string>
#include <utility>
#include <vector>

#include "strata/pipeline/quantize.h"
#include "strata/report/table.h"

namespace strata {

// What was lost on the text: unquantized, uniform, and the file as it was written.
Table measurements_table(const QuantizeResult& result);

// Matrices and bits of every scheme, and of embedding and head.
Table recipe_table(const QuantizeResult& result);

// Every setting with its value, in the order of the options.
std::vector<std::pair<std::string, std::string>> settings_of(const QuantizeRequest& request);

// A finished run as one page: what was asked for and got, the plan, sizes against predicted cost, where the
// text lost most, how to run the file, and every setting.
std::string quantize_page(const QuantizeRequest& request, const QuantizeResult& result);

}  // namespace strata
