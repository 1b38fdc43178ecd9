#include "core/attention/decode_step.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/kv_cache/stream.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

DecodeSpan plain_span(const at::Tensor& rows) {
  return {rows.size(1), rows.const_data_ptr(), rows.stride(0), rows.stride(1), {}};
}

bool kernel_reads(const Packed& packed) {
  const std::int64_t width = packed.width();
  if (packed.bits != 2 && packed.bits != 3 && packed.bits != 4 && packed.bits != 8) return false;
  if (packed.form == CodeForm::kCodebook || packed.rounding != HalfRounding::kNone) return false;
  if (packed.sparse.value.defined() || packed.scale.dim() != 3) return false;
  return (packed.grouping == Grouping::kContiguous && width % packed.group == 0) ||
         (packed.grouping == Grouping::kRows && packed.tokens() % packed.group == 0);
}

DecodeSpan packed_span(const Packed& packed) {
  DecodeSpan span;
  span.tokens = packed.tokens();
  PackedSpan& to = span.packed;
  to.bits = packed.bits;
  to.codes = packed.codes.const_data_ptr<std::uint8_t>();
  to.row_bytes = packed.codes.stride(1);
  to.head_bytes = packed.codes.stride(0);
  to.scale = packed.scale.const_data_ptr();
  to.zero = packed.zero.const_data_ptr();
  to.half = packed.scale.scalar_type() == at::kHalf;
  to.head_scales = packed.scale.stride(0);
  to.group = packed.group;
  to.across_tokens = packed.grouping == Grouping::kRows;
  to.formula = packed.form == CodeForm::kLessZeroScaled    ? PackedSpan::kLessZeroScaled
               : packed.form == CodeForm::kPlusZeroDivided ? PackedSpan::kPlusZeroDivided
                                                           : PackedSpan::kScaledPlusZero;
  return span;
}

}  // namespace

bool decode_serves(const at::Tensor& hidden, const LayerCache& cache) {
  if (hidden.size(1) != 1 || !has_kernels(hidden) || cache.scalar_type() != hidden.scalar_type()) return false;
  if (at::GradMode::is_enabled() && hidden.requires_grad()) return false;
  for (std::size_t i = 0; i < cache.streams().size(); ++i) {
    for (std::int64_t row = 0; row < cache.batch() && !cache.is_plain(i); ++row) {
      for (const StreamPart& part : cache.parts(i, row)) {
        if (part.packed && !kernel_reads(*part.packed)) return false;
      }
    }
  }
  return true;
}

DecodeStep::DecodeStep(LayerCache& cache, std::vector<at::Tensor> tokens) : cache_(cache), tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const StreamShape& shape = cache.streams()[i];
    DecodeStream& stream = streams_.emplace_back(DecodeStream{shape.heads, shape.width, {}});
    if (cache.is_plain(i)) cache.push(i, tokens_[i]);
    for (std::int64_t row = 0; row < cache.batch(); ++row) {
      std::vector<DecodeSpan>& spans = stream.rows.emplace_back();
      for (const StreamPart& part : cache.parts(i, row)) {
        spans.push_back(part.packed ? packed_span(*part.packed) : plain_span(part.plain));
      }
      if (!cache.is_plain(i) && cache.takes(row, 1) == 1) spans.push_back(plain_span(tokens_[i][row]));
    }
  }
}

std::size_t DecodeStep::add_rows(const at::Tensor& rows) {
  DecodeStream& stream = streams_.emplace_back(DecodeStream{1, rows.size(1), {}});
  for (std::int64_t row = 0; row < cache_.batch(); ++row)
    stream.rows.push_back({DecodeSpan{rows.size(0), rows.const_data_ptr(), 0, rows.stride(0), {}}});
  return streams_.size() - 1;
}

at::Tensor DecodeStep::attend(const std::vector<std::pair<at::Tensor, DecodeMemory>>& queries,
                              const DecodeMemory& values, double scale, std::int64_t window) {
  DecodeProblem problem;
  problem.streams = std::move(streams_);
  for (const auto& [query, memory] : queries) {
    problem.queries.push_back(query.stride(2) == 1 ? query : query.contiguous());
    problem.keys.push_back(memory);
  }
  problem.values = values;
  problem.scale = scale;
  problem.window = window;
  at::Tensor context = decode_attention(problem).unsqueeze(2);
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (!cache_.is_plain(i)) cache_.push(i, tokens_[i]);
  }
  return context;
}

}  // namespace mla
