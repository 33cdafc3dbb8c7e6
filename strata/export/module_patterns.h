#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strata {

// A module's place in its model.
struct LayerModule {
  int layer = 0;
  std::string name;  // inside the layer: "self_attn.q_proj"
};

// "model.layers.3.self_attn.q_proj.weight" to its place; throws for another kind of name.
LayerModule layer_module(const std::string& tensor);

// The same of its name in a GGUF file: layer 3 and "attn_q" for "model.layers.3.self_attn.q_proj.weight" and
// for "blk.3.attn_q.weight".
LayerModule gguf_layer_module(const std::string& tensor);

// A name as a regular expression that matches it alone.
std::string escaped(const std::string& name);

// Regular expressions (Python's and PCRE2's common part) that together match the names of exactly these
// modules among those of a model with so many layers (0 = not known): one for every set of layers, such as
// ".*layers\.(0|7)\.self_attn\.(q|k|v)_proj$". With `fused` also the names that runtimes give to fused
// modules all of whose parts are among them (qkv_proj, gate_up_proj). Where the matrices of all `experts` of
// a layer are among them, one expression stands for all ("mlp\.experts\.[0-9]+\.").
std::vector<std::string> module_patterns(const std::vector<LayerModule>& modules, int64_t layers, bool fused,
                                         int64_t experts = 0);

// The part that stands for a set of layers: "7", "(0|7)", or "[0-9]+" where these are
// all layers of the model (`all`; 0 = not known).
std::string layers_pattern(const std::vector<int>& layers, int64_t all);

}  // namespace strata
