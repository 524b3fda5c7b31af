// The encoder's parts that the C interface (interface.cpp) needs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace windtunnel {

constexpr int kPad = 64;        // readable bytes after every text
constexpr int kPairBits = 19;   // of the table of character pairs: 64 KB

// A node of the double array in 8 bytes: its child by a byte is at base + byte, if that one's parent is this node.
struct Unit {
  uint64_t bits = 0;  // base: 22 bits, parent + 1: 22 (0: free), id + 1: 20 (0: no piece ends here)

  uint32_t base() const { return bits & 0x3FFFFF; }
  uint32_t parent_plus_1() const { return bits >> 22 & 0x3FFFFF; }
  int32_t id() const { return static_cast<int32_t>(bits >> 44) - 1; }
  bool free() const { return parent_plus_1() == 0; }
  void set_base(uint64_t base) { bits |= base; }
  void set_parent(uint64_t parent) { bits |= (parent + 1) << 22; }
  void set_id(uint64_t id) { bits |= (id + 1) << 44; }
};
constexpr size_t kMaxUnits = 1 << 22;

struct Vocabulary {
  struct Key {
    const uint8_t* text;
    int length;
    int32_t id;
  };
  std::vector<uint8_t> cut;                                            // [65536] by (second byte << 8 | first byte)
  std::vector<uint64_t> pairs = std::vector<uint64_t>(1 << (kPairBits - 6));  // characters that are neighbours in a piece
  std::vector<Unit> units;
  std::vector<float> scores;  // [vocab_size]
  float unknown_score = 0;
  int32_t byte_base = 0;  // id of <0x00>; the 256 byte pieces follow each other

  bool build(const uint8_t* keys, const int64_t* offsets, const int32_t* ids, int64_t count);  // false: too many pieces
  bool has_pair(uint32_t slot) const { return pairs[slot >> 6] >> (slot & 63) & 1; }

 private:
  bool build_trie(const std::vector<Key>& keys);
  size_t place(const std::vector<std::pair<uint8_t, size_t>>& children, size_t* free_from);
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
