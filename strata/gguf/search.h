#pragma once

#include "strata/gguf/levels.h"
#include "strata/gguf/tuning.h"

namespace strata {

struct FieldsOf32;
struct SuperBlockFields;

// The fields of blocks with which they come nearest to given weights, by the method of search-inl.h and
// superblock-inl.h: in vectors, with the instructions that the processor has. `importance` lies in lanes (see
// GgufCodec); null for none.

// Eight blocks of 32 weights that lie one behind the other. The first is of types x ~ d q, the second of
// x ~ d q + m.
void search_eight_blocks(const CodeLevels& levels, const ScaleTuning& tuning, const float* weights,
                         const float* importance, FieldsOf32* blocks);
void search_eight_blocks(const CodeLevels& levels, const OffsetTuning& tuning, const float* weights,
                         const float* importance, FieldsOf32* blocks);

// A block of 256 weights with sub-blocks of `sub_block`. The first is of types x ~ d s q, the second of
// x ~ d s q - dmin m.
void search_super_block(const CodeLevels& levels, int sub_block, const SymmetricTuning& tuning,
                        const float* weights, const float* importance, SuperBlockFields& fields);
void search_super_block(const CodeLevels& levels, int sub_block, const AffineTuning& tuning,
                        const float* weights, const float* importance, SuperBlockFields& fields);

}  // namespace strata
