// Reading a field out of JSON lines, for interface.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace windtunnel {

struct Odd {  // a line for orjson: its bytes, its number, and how many documents stand before it
  int64_t start, end, line, document;
};

uint64_t xxh64(const uint8_t* p, size_t size, uint64_t seed);

// `lines` is followed by at least 64 zero bytes, and a newline ends every line but perhaps the last. `blob` holds size + 64.
// counts: documents, odd lines, lines.
void extract(const uint8_t* lines, int64_t size, const uint8_t* field, int64_t field_length, uint64_t seed, uint8_t* blob,
             int64_t* offsets, uint64_t* keys, Odd* odd, int64_t counts[3]);

}  // namespace windtunnel
