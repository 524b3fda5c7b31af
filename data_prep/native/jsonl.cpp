// One string field of each line of JSON, checked as strictly as orjson does; anything unusual is left to orjson itself.
#include "jsonl.h"

#include <cstring>

namespace windtunnel {
namespace {

constexpr int kMaxDepth = 64;
constexpr uint64_t kOnes = 0x0101010101010101ULL, kHighs = 0x8080808080808080ULL;

inline uint64_t load64(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, 8);
  return value;
}

// High bits of the bytes that end a plain run: quote, backslash, control, not ASCII. The lowest set one is exact.
inline uint64_t special(uint64_t w) {
  const uint64_t quote = w ^ (kOnes * '"'), backslash = w ^ (kOnes * '\\');
  return (((quote - kOnes) & ~quote) | ((backslash - kOnes) & ~backslash) | ((w - kOnes * 0x20) & ~w) | w) & kHighs;
}

// Length of the well-formed UTF-8 character at p (Unicode table 3-7); 0 if it is none. Stops at the terminator by itself.
inline int valid_character(const uint8_t* p) {
  const uint8_t a = p[0];
  auto continues = [p](int i) { return (p[i] & 0xC0) == 0x80; };
  if (a < 0xC2) return 0;
  if (a < 0xE0) return continues(1) ? 2 : 0;
  if (a < 0xF0) {
    if (!continues(1) || !continues(2)) return 0;
    if ((a == 0xE0 && p[1] < 0xA0) || (a == 0xED && p[1] > 0x9F)) return 0;
    return 3;
  }
  if (a > 0xF4 || !continues(1) || !continues(2) || !continues(3)) return 0;
  if ((a == 0xF0 && p[1] < 0x90) || (a == 0xF4 && p[1] > 0x8F)) return 0;
  return 4;
}

inline int hex4(const uint8_t* p) {
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    const uint8_t c = p[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

inline uint8_t* put_character(uint8_t* out, uint32_t c) {
  if (c < 0x80) {
    *out++ = static_cast<uint8_t>(c);
  } else if (c < 0x800) {
    *out++ = static_cast<uint8_t>(0xC0 | c >> 6);
    *out++ = static_cast<uint8_t>(0x80 | (c & 63));
  } else if (c < 0x10000) {
    *out++ = static_cast<uint8_t>(0xE0 | c >> 12);
    *out++ = static_cast<uint8_t>(0x80 | (c >> 6 & 63));
    *out++ = static_cast<uint8_t>(0x80 | (c & 63));
  } else {
    *out++ = static_cast<uint8_t>(0xF0 | c >> 18);
    *out++ = static_cast<uint8_t>(0x80 | (c >> 12 & 63));
    *out++ = static_cast<uint8_t>(0x80 | (c >> 6 & 63));
    *out++ = static_cast<uint8_t>(0x80 | (c & 63));
  }
  return out;
}

class Line {
 public:
  explicit Line(const uint8_t* begin) : p_(begin) {}

  // Finds the field in the line's object and writes its value at `out`. False: not this simple; orjson must look.
  bool find(const uint8_t* end, const uint8_t* field, int64_t field_length, uint8_t* out, uint8_t** out_end) {
    bool found = false;
    space();
    if (*p_++ != '{') return false;
    for (;;) {
      space();
      if (*p_ != '"') return false;  // an empty object has no field either
      const uint8_t* key = ++p_;
      if (!skip_string()) return false;
      const int64_t key_length = p_ - 1 - key;
      if (std::memchr(key, '\\', static_cast<size_t>(key_length))) return false;
      space();
      if (*p_++ != ':') return false;
      space();
      if (key_length == field_length && std::memcmp(key, field, static_cast<size_t>(field_length)) == 0) {
        if (found || *p_ != '"') return false;
        ++p_;
        if (!copy_string(out, out_end)) return false;
        found = true;
      } else if (!skip_value(0)) {
        return false;
      }
      space();
      if (*p_ == ',') {
        ++p_;
        continue;
      }
      if (*p_++ != '}') return false;
      space();
      return found && p_ == end;
    }
  }

 private:
  void space() {
    while (*p_ == ' ' || *p_ == '\t' || *p_ == '\r') ++p_;
  }

  bool skip_string() {
    for (;;) {
      const uint64_t mask = special(load64(p_));
      if (!mask) {
        p_ += 8;
        continue;
      }
      p_ += __builtin_ctzll(mask) >> 3;
      const uint8_t c = *p_;
      if (c == '"') {
        ++p_;
        return true;
      }
      if (c >= 0x80) {
        const int length = valid_character(p_);
        if (!length) return false;
        p_ += length;
      } else if (c == '\\') {
        uint8_t ignored[4], *end = ignored;
        if (!escape(&end)) return false;
      } else {
        return false;
      }
    }
  }

  bool copy_string(uint8_t* out, uint8_t** out_end) {
    for (;;) {
      const uint64_t word = load64(p_), mask = special(word);
      std::memcpy(out, &word, 8);
      if (!mask) {
        p_ += 8;
        out += 8;
        continue;
      }
      const int plain = __builtin_ctzll(mask) >> 3;
      p_ += plain;
      out += plain;
      const uint8_t c = *p_;
      if (c == '"') {
        ++p_;
        *out_end = out;
        return true;
      }
      if (c >= 0x80) {
        do {
          const int length = valid_character(p_);
          if (!length) return false;
          std::memcpy(out, p_, 4);
          p_ += length;
          out += length;
        } while (*p_ >= 0x80);
      } else if (c == '\\') {
        if (!escape(&out)) return false;
      } else {
        return false;
      }
    }
  }

  bool escape(uint8_t** out) {
    const uint8_t c = p_[1];
    if (c == 'u') return unicode_escape(out);
    static const char kFrom[] = "\"\\/bfnrt", kTo[] = "\"\\/\b\f\n\r\t";
    const void* at = std::memchr(kFrom, c, 8);
    if (!at) return false;
    *(*out)++ = static_cast<uint8_t>(kTo[static_cast<const char*>(at) - kFrom]);
    p_ += 2;
    return true;
  }

  bool unicode_escape(uint8_t** out) {
    const int unit = hex4(p_ + 2);
    if (unit < 0) return false;
    p_ += 6;
    uint32_t c = static_cast<uint32_t>(unit);
    if (unit >= 0xD800 && unit < 0xE000) {
      if (unit >= 0xDC00 || p_[0] != '\\' || p_[1] != 'u') return false;
      const int low = hex4(p_ + 2);
      if (low < 0xDC00 || low >= 0xE000) return false;
      p_ += 6;
      c = 0x10000 + ((static_cast<uint32_t>(unit) - 0xD800) << 10) + (static_cast<uint32_t>(low) - 0xDC00);
    }
    *out = put_character(*out, c);
    return true;
  }

  bool skip_value(int depth) {
    if (depth > kMaxDepth) return false;
    switch (*p_) {
      case '"':
        ++p_;
        return skip_string();
      case '{':
        return skip_object(depth);
      case '[':
        return skip_array(depth);
      case 't':
        return literal("true", 4);
      case 'f':
        return literal("false", 5);
      case 'n':
        return literal("null", 4);
      default:
        return number();
    }
  }

  bool literal(const char* word, int length) {
    for (int i = 0; i < length; ++i)
      if (p_[i] != static_cast<uint8_t>(word[i])) return false;
    p_ += length;
    return true;
  }

  bool digits() {
    const uint8_t* begin = p_;
    while (*p_ >= '0' && *p_ <= '9') ++p_;
    return p_ > begin;
  }

  bool number() {  // what might overflow is left to orjson
    const uint8_t* begin = p_;
    if (*p_ == '-') ++p_;
    const uint8_t* whole = p_;
    if (!digits() || (*whole == '0' && p_ - whole > 1)) return false;
    const bool integer = *p_ != '.' && (*p_ | 32) != 'e';
    if (*p_ == '.') {
      ++p_;
      if (!digits()) return false;
    }
    if ((*p_ | 32) == 'e') {
      ++p_;
      if (*p_ == '-' || *p_ == '+') ++p_;
      const uint8_t* exponent = p_;
      if (!digits() || p_ - exponent > 2) return false;
    }
    return p_ - begin <= (integer ? 18 : 200);
  }

  bool skip_object(int depth) {
    ++p_;
    space();
    if (*p_ == '}') {
      ++p_;
      return true;
    }
    for (;;) {
      space();
      if (*p_++ != '"' || !skip_string()) return false;
      space();
      if (*p_++ != ':') return false;
      space();
      if (!skip_value(depth + 1)) return false;
      space();
      const uint8_t c = *p_++;
      if (c == '}') return true;
      if (c != ',') return false;
    }
  }

  bool skip_array(int depth) {
    ++p_;
    space();
    if (*p_ == ']') {
      ++p_;
      return true;
    }
    for (;;) {
      space();
      if (!skip_value(depth + 1)) return false;
      space();
      const uint8_t c = *p_++;
      if (c == ']') return true;
      if (c != ',') return false;
    }
  }

  const uint8_t* p_;
};

inline uint64_t rotate(uint64_t x, int n) { return x << n | x >> (64 - n); }

}  // namespace

// XXH64 (Yann Collet), which Python's xxhash also has: the number that chooses the split.
uint64_t xxh64(const uint8_t* p, size_t size, uint64_t seed) {
  constexpr uint64_t P1 = 0x9E3779B185EBCA87ULL, P2 = 0xC2B2AE3D27D4EB4FULL, P3 = 0x165667B19E3779F9ULL,
                     P4 = 0x85EBCA77C2B2AE63ULL, P5 = 0x27D4EB2F165667C5ULL;
  auto round = [](uint64_t acc, uint64_t input) { return rotate(acc + input * P2, 31) * P1; };
  const uint8_t* const end = p + size;
  uint64_t h;
  if (size >= 32) {
    uint64_t v[4] = {seed + P1 + P2, seed + P2, seed, seed - P1};
    for (; p + 32 <= end; p += 32)
      for (int i = 0; i < 4; ++i) v[i] = round(v[i], load64(p + 8 * i));
    h = rotate(v[0], 1) + rotate(v[1], 7) + rotate(v[2], 12) + rotate(v[3], 18);
    for (int i = 0; i < 4; ++i) h = (h ^ round(0, v[i])) * P1 + P4;
  } else {
    h = seed + P5;
  }
  h += size;
  for (; p + 8 <= end; p += 8) h = rotate(h ^ round(0, load64(p)), 27) * P1 + P4;
  if (p + 4 <= end) {
    uint32_t word;
    std::memcpy(&word, p, 4);
    h = rotate(h ^ word * P1, 23) * P2 + P3;
    p += 4;
  }
  for (; p < end; ++p) h = rotate(h ^ *p * P5, 11) * P1;
  h = (h ^ h >> 33) * P2;
  h = (h ^ h >> 29) * P3;
  return h ^ h >> 32;
}

void extract(const uint8_t* lines, int64_t size, const uint8_t* field, int64_t field_length, uint64_t seed, uint8_t* blob,
             int64_t* offsets, uint64_t* keys, Odd* odd, int64_t counts[3]) {
  int64_t documents = 0, odds = 0, number = 0;
  uint8_t* out = blob;
  offsets[0] = 0;
  for (int64_t start = 0; start < size; ++number) {
    const void* newline = std::memchr(lines + start, '\n', static_cast<size_t>(size - start));
    const int64_t end = newline ? static_cast<const uint8_t*>(newline) - lines : size;
    uint8_t* text_end = out;
    if (Line(lines + start).find(lines + end, field, field_length, out, &text_end) && text_end > out) {
      keys[documents] = xxh64(out, static_cast<size_t>(text_end - out), seed);
      out = text_end;
      offsets[++documents] = out - blob;
    } else {
      odd[odds++] = {start, end, number, documents};
    }
    start = end + 1;
  }
  counts[0] = documents;
  counts[1] = odds;
  counts[2] = number;
}

}  // namespace windtunnel
