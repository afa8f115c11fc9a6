// Properties of the processor.
#pragma once

namespace dpt::core {

// True on an x86 processor that adds two products of 8 bits in 16, where sums are cut at 32767: it has no unit for them.
bool sums_8_bits_in_16();

}  // namespace dpt::core
