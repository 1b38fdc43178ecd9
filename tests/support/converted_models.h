// What tests of passes share: a small model, rows of tokens to measure it on, and the model after a pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla::test {

constexpr double kSameLogits = 1e-9;

/// A model, ids to compare logits on, and calibration rows; all small and the same at each call.
struct PassedModel {
  explicit PassedModel(const ModelSpec& spec, std::int64_t rows = 6);

  /// The source after the pass, with statistics of what the pass asks for.
  Decoder after(const Json& config, PassReport* report = nullptr) const {
    return after_pass(source, config, calibration, report);
  }
  /// `kind` is that of the source (tiny_kinds()).
  void expect_whole(const Decoder& decoder, const std::string& kind) const { test::expect_whole(decoder, kind, ids); }
  double difference(const Decoder& decoder) const {
    return largest_difference(decoder.forward(ids), source.forward(ids));
  }

  Decoder source;
  at::Tensor ids;
  TokenRowList calibration;
};

/// Kinds of model without QK-norm.
std::vector<std::string> linear_kinds();

}  // namespace mla::test
