#pragma once

namespace strata {

struct SensiboostOptions {
  bool grouped_query_rule = false;  // with grouped queries o takes the score of q, k and v
};

}  // namespace strata
