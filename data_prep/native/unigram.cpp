// SentencePiece Unigram encoding with SentencePiece's own ids, several times faster; see README.md beside the package.
//
// Text is cut where no vocabulary piece can span (a table of adjacent bytes, and one of adjacent characters, made from the
// vocabulary). Chunks between cuts are encoded once and kept in a table. SentencePiece breaks near-ties by the rounding of a
// running float32 score, so each kept chunk has the largest score magnitude for which its result cannot depend on rounding;
// beyond it the chunk is encoded again with the running score, by the same float operations that SentencePiece does.
#include "unigram.h"

#include <sys/mman.h>

#include <cmath>
#include <cstdlib>
#include <queue>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace windtunnel {
namespace {

constexpr float kScoreReset = 100000.0f;  // unigram_model.cc: the running score is rebased beyond this
constexpr int kLongKey = 64;
constexpr uint8_t kCut = 0x80, kAsk = 0x40;  // values of the byte-pair table: cut here; look at the characters

inline int char_length(uint8_t lead) { return "\1\1\1\1\1\1\1\1\1\1\1\1\2\2\3\4"[lead >> 4]; }

inline uint64_t load64(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, 8);
  return value;
}

inline uint64_t mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Position in the table of character pairs: the last two bytes before, the character after.
inline uint32_t pair_slot(const uint8_t* at) {
  uint32_t next;
  std::memcpy(&next, at, 4);
  next &= 0xFFFFFFFFU >> (32 - 8 * char_length(*at));
  const uint64_t key = static_cast<uint64_t>(next) << 16 | static_cast<uint64_t>(at[-2]) << 8 | at[-1];
  return static_cast<uint32_t>(mix(key, 0x9E3779B97F4A7C15ULL) >> (64 - kPairBits));
}

void* allocate_table(size_t size_bytes) {
  constexpr size_t kHuge = 2 << 20;
  void* memory = std::aligned_alloc(kHuge, (size_bytes + kHuge - 1) / kHuge * kHuge);
#if defined(MADV_HUGEPAGE)
  if (memory) madvise(memory, size_bytes, MADV_HUGEPAGE);  // random probes: a table of small pages misses the TLB
#endif
  if (memory) std::memset(memory, 0, size_bytes);
  return memory;
}

struct Mask {
  uint64_t lo, hi;
};

struct Masks {
  Mask of[17];
  constexpr Masks() : of() {
    for (int n = 0; n <= 16; ++n) {
      of[n].lo = n >= 8 ? ~0ULL : (1ULL << (8 * n)) - 1;
      of[n].hi = n >= 16 ? ~0ULL : n > 8 ? (1ULL << (8 * (n - 8))) - 1 : 0;
    }
  }
};
constexpr Masks kMasks;

}  // namespace

bool Vocabulary::build(const uint8_t* keys, const int64_t* offsets, const int32_t* ids, int64_t count) {
  cut.assign(1 << 16, kCut);
  for (int a = 0; a < 256; ++a)
    for (int b = 0x80; b < 0xC0; ++b) cut[b << 8 | a] = 0;  // never within a character
  std::vector<Key> sorted(count);
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* p = keys + offsets[i];
    const int length = static_cast<int>(offsets[i + 1] - offsets[i]);
    sorted[i] = {p, length, ids[i]};
    for (int at = 1; at < length; ++at) {
      uint8_t& value = cut[p[at] << 8 | p[at - 1]];
      if (p[at] >= 0xC0 && p[at - 1] >= 0x80) {
        value = kAsk;
        const uint32_t slot = pair_slot(p + at);
        pairs[slot >> 6] |= 1ULL << (slot & 63);
      } else {
        value = 0;
      }
    }
  }
  cut[0x96 << 8 | 0xE2] = kAsk;  // may begin a literal U+2581, which SentencePiece takes for a space
  std::sort(sorted.begin(), sorted.end(), [](const Key& a, const Key& b) {
    const int order = std::memcmp(a.text, b.text, std::min(a.length, b.length));
    return order != 0 ? order < 0 : a.length < b.length;
  });
  return build_trie(sorted);
}

// A double array (child = base + byte, check = parent). Nodes are placed in the order of the best score below them, and each
// only child right behind its parent: what text often walks through lies together, in few cache lines.
bool Vocabulary::build_trie(const std::vector<Key>& keys) {
  struct Task {
    float best;
    uint32_t node;
    size_t begin, end;
    int depth;
    bool operator<(const Task& other) const { return best != other.best ? best < other.best : node > other.node; }
  };
  auto best_score = [this, &keys](size_t begin, size_t end) {
    float best = -HUGE_VALF;
    for (size_t i = begin; i < end; ++i) best = std::max(best, scores[keys[i].id]);
    return best;
  };
  units.assign(1 << 16, Unit());
  units[0].set_parent(0);
  size_t free_from = 1;
  std::priority_queue<Task> tasks;
  tasks.push({0, 0, 0, keys.size(), 0});
  while (!tasks.empty()) {
    Task task = tasks.top();
    tasks.pop();
    for (bool only_child = true; only_child;) {
      if (task.begin < task.end && keys[task.begin].length == task.depth) {
        units[task.node].set_id(static_cast<uint64_t>(keys[task.begin].id));
        ++task.begin;
      }
      if (task.begin == task.end) break;
      std::vector<std::pair<uint8_t, size_t>> children;  // byte, first key
      for (size_t i = task.begin; i < task.end; ++i) {
        const uint8_t byte = keys[i].text[task.depth];
        if (children.empty() || children.back().first != byte) children.emplace_back(byte, i);
      }
      const size_t base = place(children, &free_from);
      if (base + 256 >= kMaxUnits) return false;
      units[task.node].set_base(base);
      only_child = children.size() == 1;
      for (size_t i = 0; i < children.size(); ++i) {
        const uint32_t node = static_cast<uint32_t>(base + children[i].first);
        units[node].set_parent(task.node);
        const size_t begin = children[i].second, end = i + 1 < children.size() ? children[i + 1].second : task.end;
        if (only_child) task = {task.best, node, begin, end, task.depth + 1};
        else tasks.push({best_score(begin, end), node, begin, end, task.depth + 1});
      }
    }
  }
  while (units.size() > 1 && units.back().free()) units.pop_back();
  units.resize(units.size() + 256);  // a base plus any byte is inside
  units.shrink_to_fit();
  return true;
}

// The first base at which all children find a free unit; never 0.
size_t Vocabulary::place(const std::vector<std::pair<uint8_t, size_t>>& children, size_t* free_from) {
  const size_t first = children[0].first;
  size_t at = std::max(*free_from, first + 1), taken = 0, tried = 0;
  for (;; ++at) {
    if (at + 512 > units.size()) units.resize(units.size() * 2);
    ++tried;
    if (!units[at].free()) {
      ++taken;
      continue;
    }
    bool fits = true;
    for (const auto& child : children) fits = fits && units[at - first + child.first].free();
    if (fits) break;
  }
  if (taken * 20 >= tried * 19) *free_from = at;  // that stretch is full: don't look there again
  return at - first;
}

template <class Id>
class UnigramEncoder final : public Encoder {
 public:
  UnigramEncoder(Vocabulary vocabulary, int log2_lines) : vocabulary_(std::move(vocabulary)) {
    line_mask_ = (1ULL << log2_lines) - 1;
    lines_ = static_cast<Line*>(allocate_table(sizeof(Line) * (line_mask_ + 1)));
    long_mask_ = (1ULL << std::max(4, log2_lines - 3)) - 1;
    long_ = static_cast<Long*>(allocate_table(sizeof(Long) * (long_mask_ + 1)));
    float largest = std::fabs(vocabulary_.unknown_score);
    for (float score : vocabulary_.scores) largest = std::max(largest, std::fabs(score));
    step_ = 1.001 * std::max(largest, 1.0f);  // what one token adds at most, rounding included
  }
  ~UnigramEncoder() override {
    std::free(lines_);
    std::free(long_);
  }
  bool ready() const override { return lines_ && long_; }

  int64_t encode(const uint8_t* blob, const int64_t* offsets, int64_t count, const uint8_t* ends, int32_t eod, void* out,
                 int64_t* sizes) override {
    Id* ids = static_cast<Id*>(out);
    out_ = ids;
    for (int64_t i = 0; i < count; ++i) {
      Id* before = out_;
      text(blob + offsets[i], static_cast<size_t>(offsets[i + 1] - offsets[i]));
      if (!ends || ends[i]) *out_++ = static_cast<Id>(eod);
      sizes[i] = out_ - before;
    }
    return out_ - ids;
  }

 private:
  static constexpr int kShortIds = 7, kLongIds = 24, kBatch = 64;
  struct Short {  // 32 bytes with 16-bit ids: two a cache line
    uint64_t lo, hi;
    Id ids[kShortIds];
    uint8_t length_count;  // 5 bits of length, 3 of ids
    uint8_t safe;          // 1 + the largest binade of the running score for which the ids are sure; 0: none
  };
  struct Line {
    Short slot[2];  // the first has been hit, the second is the newest
  };
  struct Long {
    uint8_t key[kLongKey];
    Id ids[kLongIds];
    uint8_t length, count, safe;
  };
  struct Chunk {
    const uint8_t* text;
    uint32_t length;
    uint64_t lo, hi;
    Line* line;
  };
  struct Node {  // best path that ends at a byte
    double best, second;
    int32_t start, id;
  };
  struct Exact {
    float best;
    int32_t start, id;
  };
  struct Result {
    const Id* ids;
    int count, safe;
  };

  void text(const uint8_t* t, size_t size) {
    start_text();
    if (!cut_and_encode(t, size)) {  // a literal U+2581: encode a copy that has spaces there
      plain_.clear();
      for (size_t i = 0; i < size;) {
        const bool literal = i + 2 < size && t[i] == 0xE2 && t[i + 1] == 0x96 && t[i + 2] == 0x81;
        plain_.push_back(literal ? ' ' : t[i]);
        i += literal ? 3 : 1;
      }
      const size_t length = plain_.size();
      plain_.resize(length + kPad);
      pending_ = 0;
      out_ = synced_;
      start_text();
      cut_and_encode(plain_.data(), length);
    }
  }

  void start_text() {
    score_ = 0.0f;
    synced_ = out_;
    set_bounds();
  }

  // False if the text holds a literal U+2581 (nothing that was written counts then).
  bool cut_and_encode(const uint8_t* t, size_t size) {
    Id* const begin = out_;
    const uint8_t* cut_table = vocabulary_.cut.data();
    size_t start = 0;
    alignas(16) uint8_t values[64];
    for (size_t base = 0; base < size; base += 64) {
      const uint8_t* q = t + base;
      values[0] = base ? cut_table[q[0] << 8 | q[-1]] : 0;
      for (int j = 1; j < 64; ++j) values[j] = cut_table[q[j] << 8 | q[j - 1]];
      uint64_t cuts, asks;
      bits(values, &cuts, &asks);
      const uint64_t valid = size - base >= 64 ? ~0ULL : (1ULL << (size - base)) - 1;
      cuts &= valid;
      for (asks &= valid; asks; asks &= asks - 1) {
        const int j = __builtin_ctzll(asks);
        if (q[j] == 0x96) {
          if (q[j + 1] == 0x81) {
            out_ = synced_ = begin;
            return false;
          }
        } else if (!vocabulary_.has_pair(pair_slot(q + j))) {
          cuts |= 1ULL << j;
        }
      }
      for (; cuts; cuts &= cuts - 1) {
        const size_t end = base + __builtin_ctzll(cuts);
        add(t + start, end - start);
        start = end;
      }
      if (pending_ >= kBatch) flush();
    }
    if (start < size) add(t + start, size - start);
    flush();
    return true;
  }

  static void bits(const uint8_t* values, uint64_t* cuts, uint64_t* asks) {
    uint64_t cut = 0, ask = 0;
#if defined(__SSE2__)
    for (int i = 0; i < 4; ++i) {
      const __m128i v = _mm_load_si128(reinterpret_cast<const __m128i*>(values) + i);
      cut |= static_cast<uint64_t>(_mm_movemask_epi8(v)) << (16 * i);
      ask |= static_cast<uint64_t>(_mm_movemask_epi8(_mm_add_epi8(v, v))) << (16 * i);
    }
#else
    for (int j = 0; j < 64; ++j) {
      cut |= static_cast<uint64_t>(values[j] >> 7) << j;
      ask |= static_cast<uint64_t>(values[j] >> 6 & 1) << j;
    }
#endif
    *cuts = cut;
    *asks = ask;
  }

  void add(const uint8_t* p, size_t length) {
    Chunk& chunk = chunks_[pending_++];
    chunk.text = p;
    chunk.length = static_cast<uint32_t>(length);
    if (length > 16) {
      chunk.line = nullptr;
      return;
    }
    chunk.lo = load64(p) & kMasks.of[length].lo;
    chunk.hi = load64(p + 8) & kMasks.of[length].hi;
    const uint64_t hash = mix(chunk.lo ^ 0x9E3779B97F4A7C15ULL, chunk.hi ^ 0xD6E8FEB86659FD93ULL);
    chunk.line = lines_ + (hash & line_mask_);
    __builtin_prefetch(chunk.line);
  }

  void flush() {
    for (int i = 0; i < pending_; ++i) {
      const Chunk& chunk = chunks_[i];
      if (__builtin_expect(chunk.line != nullptr, 1)) {
        Short* slot = chunk.line->slot;
        if (!matches(*slot, chunk)) {
          if (matches(slot[1], chunk)) {
            std::swap(slot[0], slot[1]);
          } else {
            emit(chunk, compute(chunk));
            continue;
          }
        }
        const int count = slot->length_count >> 5;
        if (__builtin_expect(slot->safe > binade_ && out_ + chunk.length <= limit_, 1)) {
          std::memcpy(out_, slot->ids, sizeof slot->ids);
          out_ += count;
        } else {
          const Short kept = *slot;  // the slow path may fill this line
          emit(chunk, Result{kept.ids, count, kept.safe});
        }
      } else {
        emit(chunk, compute(chunk));
      }
    }
    pending_ = 0;
  }

  static bool matches(const Short& slot, const Chunk& chunk) {
    return ((slot.lo ^ chunk.lo) | (slot.hi ^ chunk.hi)) == 0 && (slot.length_count & 31) == chunk.length;
  }

  // Ids of a chunk that is not in the first table: from the second, or by Viterbi, then kept.
  Result compute(const Chunk& chunk) {
    if (chunk.line) return remember(chunk, viterbi(chunk.text, chunk.length));
    if (chunk.length > kLongKey) return viterbi(chunk.text, chunk.length);
    uint64_t hash = chunk.length;
    uint8_t key[kLongKey] = {};
    std::memcpy(key, chunk.text, chunk.length);
    for (int i = 0; i < kLongKey; i += 8) hash = mix(hash ^ load64(key + i), 0x9E3779B97F4A7C15ULL);
    Long& entry = long_[hash & long_mask_];
    if (entry.length == chunk.length && std::memcmp(entry.key, key, kLongKey) == 0) return {entry.ids, entry.count, entry.safe};
    const Result result = viterbi(chunk.text, chunk.length);
    if (result.count <= kLongIds) {
      std::memcpy(entry.key, key, kLongKey);
      std::memcpy(entry.ids, result.ids, result.count * sizeof(Id));
      entry.length = static_cast<uint8_t>(chunk.length);
      entry.count = static_cast<uint8_t>(result.count);
      entry.safe = static_cast<uint8_t>(result.safe);
    }
    return result;
  }

  Result remember(const Chunk& chunk, Result result) {
    if (result.count <= kShortIds) {
      Short& slot = chunk.line->slot[1];
      slot.lo = chunk.lo;
      slot.hi = chunk.hi;
      std::memcpy(slot.ids, result.ids, result.count * sizeof(Id));
      slot.length_count = static_cast<uint8_t>(chunk.length | result.count << 5);
      slot.safe = static_cast<uint8_t>(result.safe);
    }
    return result;
  }

  // Writes a chunk's ids if rounding cannot change them at the running score; else finds them with that score.
  void emit(const Chunk& chunk, Result result) {
    for (;;) {
      if (out_ + chunk.length > limit_) {
        if (raise_binade()) continue;
      } else if (result.safe > binade_) {
        std::memcpy(out_, result.ids, result.count * sizeof(Id));
        out_ += result.count;
        return;
      }
      if (synced_ == out_) break;
      sync();
    }
    exact(chunk.text, chunk.length);
  }

  // Bounds of the running score: while fewer than limit_ - synced_ tokens follow, its magnitude is below 2^(binade_ + 1).
  void set_bounds() {
    const double magnitude = std::fabs(static_cast<double>(score_));
    binade_ = magnitude < 2 ? 0 : std::ilogb(magnitude);
    set_limit(magnitude);
    while (limit_ < synced_ + 64 && raise_binade()) {
    }
  }

  void set_limit(double magnitude) {
    const double top = std::min(std::ldexp(1.0, binade_ + 1), static_cast<double>(kScoreReset));
    const double room = (top - magnitude) / step_ - 1;
    limit_ = synced_ + static_cast<int64_t>(std::max(room, 0.0));
  }

  bool raise_binade() {
    if (std::ldexp(1.0, binade_ + 1) >= kScoreReset) return false;
    ++binade_;
    set_limit(std::fabs(static_cast<double>(score_)));
    return true;
  }

  // Brings the exact running score up to the last token written.
  void sync() {
    const float* scores = vocabulary_.scores.data();
    float score = score_;
    for (const Id* p = synced_; p < out_;) {
      const uint32_t byte = static_cast<uint32_t>(*p) - static_cast<uint32_t>(vocabulary_.byte_base);
      if (byte < 256) {  // an unknown character: one score for all its bytes
        score += vocabulary_.unknown_score;
        p += char_length(static_cast<uint8_t>(byte));
      } else {
        score += scores[*p++];
      }
    }
    score_ = score;
    synced_ = out_;
    set_bounds();
  }

  // Offers every piece, from left to right, to the path that ends where it ends; a character without a piece is unknown.
  template <class Before, class Offer>
  void all_paths(const uint8_t* t, size_t size, Before&& before, Offer&& offer) const {
    const Unit* const units = vocabulary_.units.data();
    const float* const scores = vocabulary_.scores.data();
    for (size_t start = 0; start < size;) {
      const size_t next = std::min(start + char_length(t[start]), size);
      const auto score = before(start);
      bool single = false;
      uint32_t node = 0;
      Unit unit = units[0];
      for (size_t at = start; at < size;) {
        const uint32_t child = unit.base() + t[at++];
        unit = units[child];
        if (unit.parent_plus_1() != node + 1) break;
        node = child;
        if (const int32_t id = unit.id(); id >= 0) {
          offer(at, score + scores[id], start, id);
          single |= at == next;
        }
      }
      if (!single) offer(next, score + vocabulary_.unknown_score, start, -1);
      start = next;
    }
  }

  // The best path in exact arithmetic, and how far the next best is.
  Result viterbi(const uint8_t* t, size_t size) {
    if (nodes_.size() <= size) nodes_.resize(2 * size + 64);
    Node* const nodes = nodes_.data();
    for (size_t i = 1; i <= size; ++i) nodes[i].best = nodes[i].second = -HUGE_VAL;
    nodes[0].best = 0;
    int characters = 0;
    all_paths(
        t, size,
        [&](size_t start) {
          ++characters;
          return nodes[start].best;
        },
        [nodes](size_t end, double score, size_t start, int32_t id) {  // without branches: nobody could predict them
          Node& node = nodes[end];
          const bool better = score > node.best;
          node.second = std::max(node.second, std::min(node.best, score));
          node.best = std::max(node.best, score);
          node.start = better ? static_cast<int32_t>(start) : node.start;
          node.id = better ? id : node.id;
        });
    double margin = HUGE_VAL;
    for (int32_t end = static_cast<int32_t>(size); end > 0; end = nodes[end].start)
      margin = std::min(margin, nodes[end].best - nodes[end].second);
    if (scratch_.size() < size) scratch_.resize(2 * size + 64);
    const int count = backtrack(t, size, nodes, scratch_.data());
    return {scratch_.data(), count, safe_binade(margin, characters)};
  }

  // Rounding moves each of two path scores by at most `characters` half units in the last place.
  static int safe_binade(double margin, int characters) {
    if (std::isinf(margin)) return 31;
    const double half_unit = (margin - 1e-9) / (2.0 * characters) * 0.999;
    if (!(half_unit > 0)) return 0;
    return std::max(0, std::min(30, std::ilogb(half_unit) + 24 + 1));
  }

  // unigram_model.cc's EncodeOptimized on one chunk, from the running score: the same float operations in the same order.
  void exact(const uint8_t* t, size_t size) {
    if (exact_.size() <= size) exact_.resize(2 * size + 64);
    Exact* const nodes = exact_.data();
    for (size_t i = 1; i <= size; ++i) nodes[i].best = -HUGE_VALF;
    nodes[0].best = score_;
    size_t frontier = 0;
    all_paths(
        t, size,
        [&](size_t start) {
          const float before = nodes[start].best;
          if (before >= -kScoreReset && before <= kScoreReset) return before;
          for (size_t i = start; i <= std::max(frontier, start); ++i) nodes[i].best -= before;
          return 0.0f;
        },
        [nodes, &frontier](size_t end, float score, size_t start, int32_t id) {
          frontier = std::max(frontier, end);
          if (score > nodes[end].best) nodes[end] = {score, static_cast<int32_t>(start), id};
        });
    out_ += backtrack(t, size, nodes, out_);
    score_ = nodes[size].best;
    synced_ = out_;
    set_bounds();
  }

  template <class Nodes>
  int backtrack(const uint8_t* t, size_t size, const Nodes& nodes, Id* ids) const {
    Id* end = ids;
    for (int32_t at = static_cast<int32_t>(size); at > 0; at = nodes[at].start) {
      if (nodes[at].id >= 0) {
        *end++ = static_cast<Id>(nodes[at].id);
      } else {
        for (int32_t i = at; i > nodes[at].start; --i) *end++ = static_cast<Id>(vocabulary_.byte_base + t[i - 1]);
      }
    }
    std::reverse(ids, end);
    return static_cast<int>(end - ids);
  }

  Vocabulary vocabulary_;
  Line* lines_;
  Long* long_;
  uint64_t line_mask_, long_mask_;
  double step_;
  Chunk chunks_[kBatch + 64];
  int pending_ = 0;
  Id *out_ = nullptr, *synced_ = nullptr, *limit_ = nullptr;
  float score_ = 0;
  int binade_ = 0;
  std::vector<Node> nodes_;
  std::vector<Exact> exact_;
  std::vector<Id> scratch_;
  std::vector<uint8_t> plain_;
};

Encoder* make_encoder(Vocabulary vocabulary, int id_bytes, int log2_lines) {
  if (id_bytes == 2) return new UnigramEncoder<uint16_t>(std::move(vocabulary), log2_lines);
  return new UnigramEncoder<int32_t>(std::move(vocabulary), log2_lines);
}

}  // namespace windtunnel
