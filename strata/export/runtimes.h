#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "strata/export/formats.h"

namespace strata {

// A program that loads what is exported. The widths are those that its current release loads: see
// docs/runtimes.md.
struct Runtime {
  std::string name;                  // as in --runtime
  std::vector<std::string> formats;  // that it loads; the first is written when nothing else decides
  bool fuses;                        // {q,k,v} and {gate,up} are one matrix in it
  // Why it does not load a scheme from a format that it loads, as the end of a sentence; empty when it does.
  std::string (*refusal)(const std::string& format, const Scheme& scheme);
};

const std::vector<Runtime>& runtimes();
const Runtime& find_runtime(const std::string& name);  // throws UsageError naming those known

// The format for a target and a runtime (null for none): the one asked for by name, or the runtime's first
// one with the target's ending. Throws UsageError when the runtime does not load it.
const ExportFormat& format_for(const std::filesystem::path& target, const std::string& name,
                               const Runtime* runtime);

// The schemes that an allocator may choose from, and the modules it must tie.
struct Menu {
  std::vector<Scheme> schemes;
  Ties ties = Ties::None;
  std::vector<std::string> notes;  // what was changed, a sentence each
};

// `asked` (--schemes; empty for the format's own menu) without what the runtime does not load: such a scheme
// is replaced by its symmetric counterpart where that is loaded. From the format's own menu schemes that do
// not fit the model's matrices are left out; asked for, they are an error. Ties become those of the format
// where the runtime fuses modules (without a runtime: always). Throws UsageError when nothing remains.
Menu storable_menu(const ExportFormat& format, const Runtime* runtime, const std::string& asked, Ties ties,
                   const Model& model);

// The same for a plan that exists: throws UsageError for a scheme that the format cannot hold or the runtime
// does not load, and for tied modules that differ where there is a runtime that fuses them.
void check_plan_loads(const ExportFormat& format, const Runtime* runtime, const ExportPlan& plan,
                      const Model& model);

}  // namespace strata
