// The encoder's parts that the C interface (interface.cpp) needs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace windtunnel {

constexpr int kPad = 64;        // readable bytes after every text
constexpr int kPairBits = 19;   // of the table of character pairs: 64 KB

struct Unit {  // of the double array
  int32_t base = 0, check = -1, id = -1;
  float score = 0;
};

struct Vocabulary {
  struct Key {
    const uint8_t* text;
    int length;
    int32_t id;
    float score;
  };
  std::vector<uint8_t> cut;                                            // [65536] by (second byte << 8 | first byte)
  std::vector<uint64_t> pairs = std::vector<uint64_t>(1 << (kPairBits - 6));  // characters that are neighbours in a piece
  std::vector<Unit> units;
  std::vector<float> scores;  // [vocab_size]
  float unknown_score = 0;
  int32_t byte_base = 0;  // id of <0x00>; the 256 byte pieces follow each other

  void build(const uint8_t* keys, const int64_t* offsets, const int32_t* ids, const float* scores, int64_t count);
  bool has_pair(uint32_t slot) const { return pairs[slot >> 6] >> (slot & 63) & 1; }

 private:
  void build_trie(const std::vector<Key>& keys);
};

class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual bool ready() const = 0;
  // Texts to ids; `ends` (or null: all) says after which texts end-of-document stands. Returns the number of ids.
  virtual int64_t encode(const uint8_t* blob, const int64_t* offsets, int64_t count, const uint8_t* ends, int32_t eod,
                         void* out, int64_t* sizes) = 0;
};

Encoder* make_encoder(Vocabulary vocabulary, int id_bytes, int log2_lines);

}  // namespace windtunnel
