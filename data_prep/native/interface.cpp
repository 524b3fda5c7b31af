// What Python calls, by ctypes (no build-time dependency on Python).
#include "jsonl.h"
#include "unigram.h"

using windtunnel::Encoder;

extern "C" {

// Null if there is no memory, or there are too many pieces. `keys` is followed by 4 readable bytes.
Encoder* wt_new(const uint8_t* keys, const int64_t* offsets, const int32_t* ids, int64_t num_keys, const float* scores,
                int64_t vocab_size, float unknown_score, int32_t byte_base, int32_t id_bytes, int32_t log2_lines) {
  windtunnel::Vocabulary vocabulary;
  vocabulary.scores.assign(scores, scores + vocab_size);
  vocabulary.unknown_score = unknown_score;
  vocabulary.byte_base = byte_base;
  if (!vocabulary.build(keys, offsets, ids, num_keys)) return nullptr;
  Encoder* encoder = windtunnel::make_encoder(std::move(vocabulary), id_bytes, log2_lines);
  if (encoder->ready()) return encoder;
  delete encoder;
  return nullptr;
}

void wt_free(Encoder* encoder) { delete encoder; }

int64_t wt_encode(Encoder* encoder, const uint8_t* blob, const int64_t* offsets, int64_t count, const uint8_t* ends,
                  int32_t eod, void* out, int64_t* sizes) {
  return encoder->encode(blob, offsets, count, ends, eod, out, sizes);
}

void wt_extract(const uint8_t* lines, int64_t size, const uint8_t* field, int64_t field_length, uint64_t seed, uint8_t* blob,
                int64_t* offsets, uint64_t* keys, windtunnel::Odd* odd, int64_t* counts) {
  windtunnel::extract(lines, size, field, field_length, seed, blob, offsets, keys, odd, counts);
}

void wt_keys(const uint8_t* blob, const int64_t* offsets, int64_t count, uint64_t seed, uint64_t* keys) {
  for (int64_t i = 0; i < count; ++i)
    keys[i] = windtunnel::xxh64(blob + offsets[i], static_cast<size_t>(offsets[i + 1] - offsets[i]), seed);
}
}
